"""AFB-URR walking through a video frame by frame (NeurIPS 2020, section 3; the published loops for DAVIS and YouTube-VOS)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models.afb_urr.bank import FeatureBank
from noisyvos.models.afb_urr.decoder import probabilities
from noisyvos.models.afb_urr.objects import CERTAIN, Owners, scores
from noisyvos.models.afb_urr.settings import AFBURRMemory
from noisyvos.models.base import Session
from noisyvos.models.matching import padding

if TYPE_CHECKING:
    from noisyvos.models.afb_urr.network import AFBURR


class AFBURRSession(Session):
    """The bank of one video. Channels of objects that are not given yet exist from the start, with an empty mask."""

    def __init__(self, model: "AFBURR", *, channels: int, memory: AFBURRMemory) -> None:
        self.model = model.for_inference()
        self.count = channels + 1
        self.bank = FeatureBank(self.count, memory)
        self.append = memory.late_objects == "append"
        self.known: set[int] = set()
        self.time = 0

    @torch.inference_mode()
    def step(
        self, frame: Tensor, *, given: dict[int, Tensor] | None = None, last: bool = False
    ) -> Tensor:
        """Take the next frame; see `Session.step`."""
        given = given or {}
        new = set(given) - self.known
        if not given and not self.known:
            raise ValueError("the first frame of a session must give at least one object")
        pads = padding(*frame.shape[-2:], self.model.stride)
        image = F.pad(frame[None], pads).contiguous(memory_format=torch.channels_last)
        if self.known:
            result = torch.softmax(
                self._edited(self._predict(image, pads, frame.shape[-2:]), given), 0
            )
        else:
            result = frame.new_zeros(self.count, *frame.shape[-2:])
            for channel, mask in given.items():
                result[channel, mask] = 1
            result[0] = 1 - result[1:].sum(0)
        if not last:
            self._memorise(image, F.pad(result, pads), new)
        self.known |= new
        self.time += 1
        return result

    def memory_usage(self) -> dict[str, Any]:
        """Return the number of features that each channel holds, background first."""
        return {"bank": self.bank.sizes()}

    def _predict(
        self, image: Tensor, pads: tuple[int, int, int, int], size: tuple[int, int]
    ) -> Tensor:
        """Return the scores of all channels, (K + 1, H, W)."""
        query, prepared = self.model.look(image)
        values = self.model.keyval_r4.Value.weight.shape[0]
        found = (
            self.bank.read(query[0].flatten(1), values)
            .unflatten(2, query.shape[-2:])
            .contiguous(memory_format=torch.channels_last)
        )
        logits = self.model.segment(prepared, found, Owners.of_one_frame(self.count, image.device))
        return scores(probabilities(logits, pads, size))

    def _edited(self, found: Tensor, given: dict[int, Tensor]) -> Tensor:
        """Return the scores with objects that are not there yet ruled out, and with what this frame gives."""
        for channel in range(1, self.count):
            if channel not in self.known:
                found[channel] = -CERTAIN
        for channel, mask in given.items():
            found[:, mask] = -CERTAIN
            found[channel, mask] = CERTAIN
        return found

    def _memorise(self, image: Tensor, masks: Tensor, new: set[int]) -> None:
        """Take a frame (1, 3, H, W) with its soft masks (K + 1, H, W) into the bank; new objects make the bank start from it."""
        owner = torch.zeros(self.count, dtype=torch.long, device=image.device)
        keys, values = (each.flatten(2) for each in self.model.memorize(image, masks, owner))
        if not self.known or (new and not self.append):
            self.bank.start(keys, values, self.time)
        else:
            self.bank.update(keys, values, self.time, restart=new)
