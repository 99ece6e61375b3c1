"""STM's inference, frame by frame (Oh et al., ICCV 2019, section 3.6).

Follows the published evaluation loops.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models.aggregation import aggregate, crop, padding, softmax_with_unused
from noisyvos.models.base import Session
from noisyvos.models.stm.settings import KeptFrames
from noisyvos.models.stm_parts.decoder import Prepared
from noisyvos.models.stm_parts.encoders import pick
from noisyvos.models.stm_parts.matching import object_probabilities, read


class STMParts(Protocol):
    """What a session uses of the network; see `noisyvos.models.stm.network.STM`."""

    stride: int
    memory_format: torch.memory_format

    def memorize(
        self, frames: Tensor, own: Tensor, others: Tensor, owner: Tensor
    ) -> tuple[Tensor, Tensor]: ...

    def look(self, frames: Tensor) -> tuple[Tensor, Prepared]: ...

    def segment(self, prepared: Prepared, read: Tensor, owner: Tensor) -> Tensor: ...


def own_and_others(masks: Tensor, owner: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
    """Return each object's plane and the sum of its frame's other objects, at most 1.

    masks (B, K, H, W); owner and slot (N,) name the frame and the plane of each object. Both
    results are (N, H, W).
    """
    own = masks[owner, slot]
    used = torch.zeros(masks.shape[:2], device=masks.device, dtype=masks.dtype)
    used = used.index_put((owner, slot), masks.new_ones(()))
    total = (masks * used[:, :, None, None]).sum(1)
    return own, (pick(total, owner) - own).clamp(0, 1)


def combine(probabilities: Tensor, channels: int) -> Tensor:
    """Join object probabilities (B, N, H, W) with a background, (B, N + 1, H, W).

    The softmax runs over `channels` channels, unused ones included (section 3.4).
    """
    return softmax_with_unused(aggregate(probabilities)[0], channels)


@dataclass(frozen=True)
class _Entry:
    """One memorised frame: keys (N, C_k, hw) and values (N, C_v, hw) of the N objects known by
    then.
    """

    keys: Tensor
    values: Tensor


class STMSession(Session):
    """The memory of one video.

    Objects are numbered as they appear, so each frame's entry holds the first N of them.
    """

    def __init__(
        self, network: STMParts, *, channels: int, kept: KeptFrames, mask_channels: int
    ) -> None:
        self.network = network
        self.channels = channels
        self.kept = kept
        self.mask_channels = mask_channels
        self.order: list[int] = []  # the channel of each object, in order of appearance
        self.entries: list[_Entry] = []  # frames that stay
        self.previous: _Entry | None = None  # the previous frame, where it does not stay
        self.time = 0

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
        height, width = frame.shape[-2:]
        pads = padding(height, width, self.network.stride)
        image = F.pad(frame[None], pads).contiguous(memory_format=self.network.memory_format)
        result = frame.new_zeros(self.channels + 1, height, width)
        if known:
            planes = crop(self._predict(image, known), pads, height, width)
            rows = self.rows([0, *self.order[:known]], result.device)
            result[rows] = combine(planes[None], self.mask_channels)[0]
        else:
            result[0] = 1
        for channel, mask in given.items():
            result[:, mask] = 0
            result[channel, mask] = 1
        if not last:
            keep = bool(given) or self.time in self.kept
            self._memorise(image, F.pad(result[self.rows(self.order, result.device)], pads), keep)
        self.time += 1
        return result

    def memory_usage(self) -> dict[str, Any]:
        """Return the number of memorised frames."""
        return {"frames": len(self.entries) + (self.previous is not None)}

    def _predict(self, image: Tensor, known: int) -> Tensor:
        """Return the probabilities (N, H, W) of the `known` objects, each against the rest."""
        query, prepared = self.network.look(image)
        entries = self.entries if self.previous is None else [*self.entries, self.previous]
        found = []
        for first, stop in self._groups(entries, known):
            holding = [entry for entry in entries if len(entry.keys) > first]
            keys = torch.cat([entry.keys[first:stop] for entry in holding], 2)
            values = torch.cat([entry.values[first:stop] for entry in holding], 2)
            found.append(read(keys, values, query.flatten(2).expand(stop - first, -1, -1)))
        readout = torch.cat(found).unflatten(2, query.shape[-2:])
        readout = readout.contiguous(memory_format=self.network.memory_format)
        owner = torch.zeros(known, dtype=torch.long, device=image.device)
        return object_probabilities(self.network.segment(prepared, readout, owner))

    @staticmethod
    def _groups(entries: list[_Entry], known: int) -> list[tuple[int, int]]:
        """Return ranges of objects that the same frames know."""
        ends = sorted({len(entry.keys) for entry in entries} | {known})
        return list(zip([0, *ends[:-1]], ends, strict=True))

    def _memorise(self, image: Tensor, masks: Tensor, keep: bool) -> None:
        """Memorise a frame (1, 3, H, W) with its masks (N, H, W), in place of a frame that does
        not stay.
        """
        slot = torch.arange(len(masks), device=masks.device)
        owner = torch.zeros_like(slot)
        key, value = self.network.memorize(image, *own_and_others(masks[None], owner, slot), owner)
        entry = _Entry(key.flatten(2), value.flatten(2))
        if keep:
            self.entries.append(entry)
        self.previous = None if keep else entry
