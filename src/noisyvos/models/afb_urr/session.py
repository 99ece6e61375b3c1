"""AFB-URR's inference, frame by frame (NeurIPS 2020, section 3).

Follows the published evaluation loops for DAVIS and YouTube-VOS.
"""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models.afb_urr.bank import FeatureBank
from noisyvos.models.afb_urr.decoder import (
    CERTAIN,
    Owners,
    PreparedWithLocal,
    probabilities,
    scores,
)
from noisyvos.models.afb_urr.settings import AFBURRMemory
from noisyvos.models.aggregation import Pads, padding
from noisyvos.models.base import Session


class AFBURRParts(Protocol):
    """What a session uses of the network; see `noisyvos.models.afb_urr.network.AFBURR`."""

    stride: int
    value_channels: int
    memory_format: torch.memory_format

    def memorize(self, frames: Tensor, masks: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]: ...

    def look(self, frames: Tensor) -> tuple[Tensor, PreparedWithLocal]: ...

    def segment(self, prepared: PreparedWithLocal, read: Tensor, owners: Owners) -> Tensor: ...


class AFBURRSession(Session):
    """The bank of one video.

    Channels of objects that are not given yet exist from the start, with an empty mask.
    """

    def __init__(self, network: AFBURRParts, *, channels: int, memory: AFBURRMemory) -> None:
        self.network = network
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
        height, width = frame.shape[-2:]
        pads = padding(height, width, self.network.stride)
        image = F.pad(frame[None], pads).contiguous(memory_format=self.network.memory_format)
        if self.known:
            found = self._predict(image, pads, (height, width))
            result = torch.softmax(self._edited(found, given), 0)
        else:
            result = frame.new_zeros(self.count, height, width)
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

    def _predict(self, image: Tensor, pads: Pads, size: tuple[int, int]) -> Tensor:
        """Return the scores of all channels, (K + 1, H, W)."""
        query, prepared = self.network.look(image)
        found = self.bank.read(query[0].flatten(1), self.network.value_channels)
        readout = found.unflatten(2, query.shape[-2:])
        readout = readout.contiguous(memory_format=self.network.memory_format)
        owners = Owners.of_one_frame(self.count, image.device)
        return scores(probabilities(self.network.segment(prepared, readout, owners), pads, size))

    def _edited(self, found: Tensor, given: dict[int, Tensor]) -> Tensor:
        """Return the scores with absent objects ruled out and with what this frame gives."""
        for channel in range(1, self.count):
            if channel not in self.known:
                found[channel] = -CERTAIN
        for channel, mask in given.items():
            found[:, mask] = -CERTAIN
            found[channel, mask] = CERTAIN
        return found

    def _memorise(self, image: Tensor, masks: Tensor, new: set[int]) -> None:
        """Add a frame (1, 3, H, W) with its soft masks (K + 1, H, W) to the bank.

        New objects restart the bank from this frame.
        """
        owner = torch.zeros(self.count, dtype=torch.long, device=image.device)
        keys, values = (each.flatten(2) for each in self.network.memorize(image, masks, owner))
        if not self.known or (new and not self.append):
            self.bank.start(keys, values, self.time)
        else:
            self.bank.update(keys, values, self.time, restart=new)
