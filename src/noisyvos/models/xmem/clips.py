"""XMem's training pass over a clip; its random choices are drawn apart from the computation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models.base import Clip
from noisyvos.models.matching import affinity, padding, readout, similarity

if TYPE_CHECKING:
    from noisyvos.models.xmem.network import XMem


@dataclass(frozen=True)
class Choices:
    """What chance decides in one training pass."""

    references: tuple[
        Tensor | None, ...
    ]  # for t = 1..T-1: (B, R) indices of the memory frames, None = all frames before t
    deep_updates: tuple[bool, ...]  # for t = 1..T-2

    def rows(self, first: int, count: int) -> "Choices":
        """Return the choices for some samples of the batch."""
        references = tuple(
            None if each is None else each[first : first + count] for each in self.references
        )
        return Choices(references, self.deep_updates)


@dataclass(frozen=True)
class Pass:
    """The result of one training pass: for t = 1..T-1 logits and probabilities (B, K + 1, H, W)."""

    logits: tuple[Tensor, ...]
    probabilities: tuple[Tensor, ...]


def draw_choices(
    batch: int,
    length: int,
    references: int,
    deep_update_probability: float,
    generator: torch.Generator,
) -> Choices:
    """Draw memory frames (frame 0 and distinct earlier ones, per sample) and deep updates (one a step for the whole batch)."""
    memory: list[Tensor | None] = []
    deep: list[bool] = []
    for t in range(1, length):
        if t <= references:
            memory.append(None)
        else:
            rows = [
                torch.randperm(t - 1, generator=generator)[: references - 1] + 1
                for _ in range(batch)
            ]
            memory.append(torch.stack([torch.cat([row.new_zeros(1), row]) for row in rows]))
        if t < length - 1:
            deep.append(bool(torch.rand((), generator=generator) < deep_update_probability))
    return Choices(tuple(memory), tuple(deep))


def run(model: "XMem", clip: Clip, choices: Choices) -> Pass:
    """Segment frames 1..T-1 from the mask of frame 0; gradients run through all frames."""
    batch, length, _, height, width = clip.frames.shape
    pads = padding(height, width, model.widths.stride)
    frames = F.pad(model.normalise(clip.frames).flatten(0, 1), pads).contiguous(
        memory_format=model.memory_format
    )
    per_frame = frames.unflatten(0, (batch, length))
    selector = (torch.arange(clip.slots, device=frames.device) < clip.num_objects.view(-1, 1)).to(
        frames.dtype
    )  # (B, K)

    key, shrinkage, selection, features = model.encode_key(frames)
    keys, shrinkages, selections = (
        x.unflatten(0, (batch, length)).flatten(3) for x in (key, shrinkage, selection)
    )  # (B, T, C, hw)
    hidden = model.new_hidden(batch, clip.slots, key)
    first = F.pad(clip.first_mask(), pads)
    at = features.of_frames(batch)
    value, hidden = model.encode_value(per_frame[:, 0], at[0].deep, hidden, first, deep_update=True)
    values = [value.flatten(3)]

    logits, probabilities = [], []
    for t in range(1, length):
        memory = choices.references[t - 1]
        weights = affinity(
            similarity(
                _pick(keys, memory, t), _pick(shrinkages, memory, t), keys[:, t], selections[:, t]
            )
        )
        read = readout(weights, _pick_values(values, memory)).unflatten(-1, key.shape[-2:])
        last = t == length - 1
        new_hidden, frame_logits, frame_probabilities = model.segment(
            at[t], read, hidden, selector=selector, update_hidden=not last
        )
        logits.append(_crop(frame_logits, pads, height, width))
        probabilities.append(_crop(frame_probabilities, pads, height, width))
        if not last:
            value, hidden = model.encode_value(
                per_frame[:, t],
                at[t].deep,
                new_hidden,
                frame_probabilities[:, 1:],
                deep_update=choices.deep_updates[t - 1],
            )
            values.append(value.flatten(3))
    return Pass(tuple(logits), tuple(probabilities))


def _pick(tensor: Tensor, memory: Tensor | None, t: int) -> Tensor:
    """Return (B, C, frames * hw) of the memory frames of (B, T, C, hw)."""
    if memory is None:
        chosen = tensor[:, :t]
    else:
        rows = torch.arange(len(memory), device=tensor.device).view(-1, 1)
        chosen = tensor[rows, memory.to(tensor.device)]
    return chosen.transpose(1, 2).flatten(2)


def _pick_values(values: list[Tensor], memory: Tensor | None) -> Tensor:
    """Return (B, N, C, frames * hw) of the memory frames among values, each (B, N, C, hw)."""
    if memory is None:
        return torch.cat(values, -1)
    stacked = torch.stack(values, 1)  # (B, T, N, C, hw)
    rows = torch.arange(len(memory), device=stacked.device).view(-1, 1)
    return stacked[rows, memory.to(stacked.device)].permute(0, 2, 3, 1, 4).flatten(3)


def _crop(planes: Tensor, pads: tuple[int, int, int, int], height: int, width: int) -> Tensor:
    left, _, top, _ = pads
    return planes[..., top : top + height, left : left + width]
