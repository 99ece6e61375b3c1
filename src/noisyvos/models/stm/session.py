"""STM walking through a video frame by frame (Oh et al., ICCV 2019, section 3.6; the published evaluation loops)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models.base import Session
from noisyvos.models.matching import padding
from noisyvos.models.stm.aggregation import combine
from noisyvos.models.stm.clips import own_and_others
from noisyvos.models.stm.settings import KeptFrames
from noisyvos.models.stm_parts.matching import object_probabilities, read

if TYPE_CHECKING:
    from noisyvos.models.stm.network import STM


@dataclass(frozen=True)
class _Entry:
    """One memorised frame: keys (N, C_k, hw) and values (N, C_v, hw) of the N objects known by then."""

    keys: Tensor
    values: Tensor


class STMSession(Session):
    """The memory of one video; objects are numbered within as they appear, so each frame's entry holds the first N of them."""

    def __init__(self, model: "STM", *, channels: int, kept: KeptFrames) -> None:
        self.model = model.for_inference()
        self.channels = channels
        self.kept = kept
        self.order: list[int] = []  # the channel of each object, in order of appearance
        self.entries: list[_Entry] = []  # frames that stay
        self.previous: _Entry | None = None  # the frame before, where it does not stay
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
        pads = padding(height, width, self.model.stride)
        image = F.pad(frame[None], pads).contiguous(memory_format=torch.channels_last)
        result = frame.new_zeros(self.channels + 1, height, width)
        if known:
            left, _, top, _ = pads
            planes = self._predict(image, known)[:, top : top + height, left : left + width]
            result[[0, *self.order[:known]]] = combine(
                planes[None], self.model.settings.mask_channels
            )[0]
        else:
            result[0] = 1
        for channel, mask in given.items():
            result[:, mask] = 0
            result[channel, mask] = 1
        if not last:
            self._memorise(
                image, F.pad(result[self.order], pads), keep=bool(given) or self.time in self.kept
            )
        self.time += 1
        return result

    def memory_usage(self) -> dict[str, Any]:
        """Return the number of memorised frames."""
        return {"frames": len(self.entries) + (self.previous is not None)}

    def _predict(self, image: Tensor, known: int) -> Tensor:
        """Return the probabilities (N, H, W) of the first `known` objects, each on its own against the rest."""
        query, prepared = self.model.look(image)
        entries = self.entries if self.previous is None else [*self.entries, self.previous]
        found = []
        for first, stop in self._groups(entries, known):
            holding = [entry for entry in entries if len(entry.keys) > first]
            keys = torch.cat([entry.keys[first:stop] for entry in holding], 2)
            values = torch.cat([entry.values[first:stop] for entry in holding], 2)
            found.append(read(keys, values, query.flatten(2).expand(stop - first, -1, -1)))
        readout = (
            torch.cat(found)
            .unflatten(2, query.shape[-2:])
            .contiguous(memory_format=torch.channels_last)
        )
        owner = torch.zeros(known, dtype=torch.long, device=image.device)
        return object_probabilities(self.model.segment(prepared, readout, owner))

    @staticmethod
    def _groups(entries: list[_Entry], known: int) -> list[tuple[int, int]]:
        """Return ranges of objects that the same frames know."""
        ends = sorted({len(entry.keys) for entry in entries} | {known})
        return list(zip([0, *ends[:-1]], ends, strict=True))

    def _memorise(self, image: Tensor, masks: Tensor, keep: bool) -> None:
        """Put a frame (1, 3, H, W) with its masks (N, H, W) into memory, in the place of a frame before that does not stay."""
        slot = torch.arange(len(masks), device=masks.device)
        owner = torch.zeros_like(slot)
        key, value = self.model.memorize(image, *own_and_others(masks[None], owner, slot), owner)
        entry = _Entry(key.flatten(2), value.flatten(2))
        if keep:
            self.entries.append(entry)
        self.previous = None if keep else entry
