"""XMem's inference, frame by frame (ECCV 2022, section 3.2; the published inference loop)."""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models.aggregation import aggregate, crop, padding
from noisyvos.models.base import Session
from noisyvos.models.xmem.encoders import KeyFeatures
from noisyvos.models.xmem.memory import Memory
from noisyvos.models.xmem.settings import XMemMemory


class XMemParts(Protocol):
    """What a session uses of the network; see `noisyvos.models.xmem.network.XMem`."""

    stride: int
    memory_format: torch.memory_format

    def normalise(self, frames: Tensor) -> Tensor: ...

    def new_hidden(self, batch: int, objects: int, like: Tensor) -> Tensor | None: ...

    def encode_key(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, KeyFeatures]: ...

    def encode_value(
        self,
        frames: Tensor,
        deep: Tensor,
        hidden: Tensor | None,
        masks: Tensor,
        *,
        deep_update: bool,
    ) -> tuple[Tensor, Tensor | None]: ...

    def segment(
        self, features: KeyFeatures, readout: Tensor, hidden: Tensor | None, *, update_hidden: bool
    ) -> tuple[Tensor | None, Tensor, Tensor]: ...


class XMemSession(Session):
    """Sensory, working and long-term memory of one video; objects are numbered as they appear."""

    def __init__(
        self, network: XMemParts, *, channels: int, memory: XMemMemory, length: int | None
    ) -> None:
        self.network = network
        self.channels = channels
        self.settings = memory
        self.memory = Memory(memory, memory.counts_usage(length))
        self.order: list[int] = []  # the channel of each object, in order of appearance
        self.hidden: Tensor | None = None  # (1, N, C_h, h, w)
        self.time = 0
        self.last_memory = 0
        self.last_deep_update = -memory.deep_update_every

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
        memory_frame, deep_update, normal_update = self._schedule(bool(given), last)
        height, width = frame.shape[-2:]
        pads = padding(height, width, self.network.stride)
        image = F.pad(self.network.normalise(frame)[None], pads)
        image = image.contiguous(memory_format=self.network.memory_format)
        key, shrinkage, selection, features = self.network.encode_key(image)

        predicted = None  # (1, N + 1, H, W)
        if known > 0 and len(given) != len(self.order):
            read = self.memory.read(key.flatten(2), selection.flatten(2))[0]
            read = read.unflatten(-1, key.shape[-2:])
            read = read.contiguous(memory_format=self.network.memory_format)[None]
            hidden, _, predicted = self.network.segment(
                features, read, self.hidden, update_hidden=normal_update
            )
            self.hidden = hidden if normal_update else self.hidden
        if given or predicted is None:
            padded = {channel: F.pad(mask.float(), pads) for channel, mask in given.items()}
            predicted = self._with_given(predicted, padded)
            self._extend_hidden(key)
        if memory_frame:
            value, hidden = self.network.encode_value(
                image, features.deep, self.hidden, predicted[:, 1:], deep_update=deep_update
            )
            stored = selection.flatten(2) if self.settings.enable_long_term else None
            self.memory.add(key.flatten(2), shrinkage.flatten(2), stored, value.flatten(3))
            self.last_memory = self.time
            if deep_update:
                self.hidden, self.last_deep_update = hidden, self.time
        self.time += 1
        return self._in_channels(crop(predicted[0], pads, height, width))

    def memory_usage(self) -> dict[str, Any]:
        """Return the number of elements (positions of stride-sized cells) in each part."""
        return {"working": self.memory.working.size, "long_term": self.memory.long_term.size}

    def _schedule(self, given: bool, last: bool) -> tuple[bool, bool, bool]:
        """Return whether this frame is memorised, updates the hidden state deeply, and normally."""
        settings = self.settings
        memory_frame = given or self.time - self.last_memory >= settings.mem_every
        asynchronous = settings.deep_update_every >= 0
        deep = memory_frame
        if asynchronous:
            deep = self.time - self.last_deep_update >= settings.deep_update_every
        return (
            memory_frame and not last,
            deep and not last,
            not last and (asynchronous or not deep),
        )

    def _with_given(self, predicted: Tensor | None, given: dict[int, Tensor]) -> Tensor:
        """Join given masks (H, W) with the prediction, (1, N + 1, H, W).

        All given regions are cut out of the prediction.
        """
        empty = torch.zeros_like(next(iter(given.values())))
        planes = torch.stack([given.get(channel, empty) for channel in self.order])
        if predicted is not None:
            free = planes.sum(0) <= 0.5
            for index in range(predicted.shape[1] - 1):
                if self.order[index] not in given:
                    planes[index] = predicted[0, index + 1] * free
        return aggregate(planes[None])[1]

    def _extend_hidden(self, like: Tensor) -> None:
        known = 0 if self.hidden is None else self.hidden.shape[1]
        new = self.network.new_hidden(1, len(self.order) - known, like)
        if self.hidden is not None and new is not None:
            new = torch.cat([self.hidden, new], 1)
        self.hidden = new

    def _in_channels(self, probabilities: Tensor) -> Tensor:
        if self.order == list(range(1, self.channels + 1)):
            return probabilities.contiguous()
        result = probabilities.new_zeros(self.channels + 1, *probabilities.shape[1:])
        result[self.rows([0, *self.order], result.device)] = probabilities
        return result
