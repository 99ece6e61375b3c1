"""XMem walking through a video frame by frame (ECCV 2022, section 3.2; the published inference loop)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models.base import Session
from noisyvos.models.matching import aggregate, padding
from noisyvos.models.xmem.memory import Memory
from noisyvos.models.xmem.settings import XMemMemory

if TYPE_CHECKING:
    from noisyvos.models.xmem.network import XMem


class XMemSession(Session):
    """Sensory, working and long-term memory of one video; objects are numbered within as they appear."""

    def __init__(
        self, model: "XMem", *, channels: int, settings: XMemMemory, length: int | None
    ) -> None:
        self.model = model.for_inference()
        self.channels = channels
        self.settings = settings
        self.memory = Memory(settings, settings.counts_usage(length))
        self.order: list[int] = []  # the channel of each object, in order of appearance
        self.hidden: Tensor | None = None  # (1, N, C_h, h, w)
        self.time = 0
        self.last_memory = 0
        self.last_deep_update = -settings.deep_update_every

    @torch.inference_mode()
    def step(
        self, frame: Tensor, *, given: dict[int, Tensor] | None = None, last: bool = False
    ) -> Tensor:
        """Take the next frame; see `Session.step`."""
        given = given or {}
        known = len(self.order)
        self.order += [channel for channel in sorted(given) if channel not in self.order]
        if not self.order:
            raise ValueError("the first frame of a session must give at least one object")
        asynchronous = self.settings.deep_update_every >= 0
        memory_frame = not last and (
            bool(given) or self.time - self.last_memory >= self.settings.mem_every
        )
        predict = known > 0 and len(given) != len(self.order)
        if asynchronous:
            deep_update = (
                not last and self.time - self.last_deep_update >= self.settings.deep_update_every
            )
        else:
            deep_update = memory_frame
        normal_update = not last and (asynchronous or not deep_update)

        height, width = frame.shape[-2:]
        pads = padding(height, width, self.model.widths.stride)
        image = F.pad(self.model.normalise(frame)[None], pads).contiguous(
            memory_format=self.model.memory_format
        )
        select = self.settings.enable_long_term or predict
        key, shrinkage, selection, features = self.model.encode_key(
            image, shrinkage=memory_frame, selection=select
        )
        probabilities = None  # (1, N + 1, H, W)
        if predict:
            read = self.memory.read(key.flatten(2), selection.flatten(2)).unflatten(
                -1, key.shape[-2:]
            )
            if self.model.memory_format == torch.channels_last:
                read = read[0].contiguous(memory_format=torch.channels_last)[None]
            hidden, _, probabilities = self.model.segment(
                features, read, self.hidden, update_hidden=normal_update
            )
            self.hidden = hidden if normal_update else self.hidden
        if given:
            probabilities = self._with_given(
                probabilities, {c: F.pad(mask.float(), pads) for c, mask in given.items()}
            )
            self._extend_hidden(key)
        if memory_frame:
            value, hidden = self.model.encode_value(
                image, features.deep, self.hidden, probabilities[:, 1:], deep_update=deep_update
            )
            stored_selection = selection.flatten(2) if self.settings.enable_long_term else None
            self.memory.add(
                key.flatten(2), shrinkage.flatten(2), stored_selection, value.flatten(3)
            )
            self.last_memory = self.time
            if deep_update:
                self.hidden, self.last_deep_update = hidden, self.time
        self.time += 1
        left, _, top, _ = pads
        return self._in_channels(probabilities[0, :, top : top + height, left : left + width])

    def memory_usage(self) -> dict[str, Any]:
        """Return the number of elements (positions of stride-sized cells) in each part."""
        return {"working": self.memory.working.size, "long_term": self.memory.long_term.size}

    def _with_given(self, predicted: Tensor | None, given: dict[int, Tensor]) -> Tensor:
        """Join given masks (H, W) with the prediction, from which all given regions are cut out; return (1, N + 1, H, W)."""
        planes = torch.stack(
            [
                given[channel] if channel in given else torch.zeros_like(next(iter(given.values())))
                for channel in self.order
            ]
        )
        if predicted is not None:
            free = planes.sum(0) <= 0.5
            for index in range(predicted.shape[1] - 1):
                if self.order[index] not in given:
                    planes[index] = predicted[0, index + 1] * free
        return aggregate(planes[None])[1]

    def _extend_hidden(self, like: Tensor) -> None:
        known = 0 if self.hidden is None else self.hidden.shape[1]
        new = self.model.new_hidden(1, len(self.order) - known, like)
        self.hidden = (
            new if self.hidden is None or new is None else torch.cat([self.hidden, new], 1)
        )

    def _in_channels(self, probabilities: Tensor) -> Tensor:
        result = probabilities.new_zeros(self.channels + 1, *probabilities.shape[1:])
        result[[0, *self.order]] = probabilities
        return result
