"""STM's training pass over a batch of clips (Oh et al., ICCV 2019, section 3.5; released training code for COCO and VISOR)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models.base import Clip
from noisyvos.models.matching import aggregate, padding
from noisyvos.models.stm_parts.encoders import pick
from noisyvos.models.stm_parts.matching import object_probabilities, read

if TYPE_CHECKING:
    from noisyvos.models.stm.network import STM


def run(
    model: "STM", clip: Clip, *, detach: bool, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """Return logits (B, K + 1, H, W) of frames 1..T-1, each segmented from the memory of all frames before it.

    Frame 0 is memorised with its given mask, later ones with the softmax of their logits, cut from the graph if
    `detach`. Objects of all clips form one batch; unused slots cost nothing and keep the logit of probability 1e-7.
    """
    batch, length, _, height, width = clip.frames.shape
    pads = padding(height, width, model.stride)
    frames = (
        F.pad(clip.frames.flatten(0, 1), pads)
        .contiguous(memory_format=model.memory_format)
        .unflatten(0, (batch, length))
    )
    owner, slot = (
        torch.arange(clip.slots, device=clip.num_objects.device) < clip.num_objects.view(-1, 1)
    ).nonzero(as_tuple=True)
    query, prepared = model.look(frames[:, 1:].flatten(0, 1))
    kept = model.draw_kept(clip, owner, tuple(query.shape[-2:]), generator)
    query = query.unflatten(0, (batch, length - 1)).flatten(3)  # (B, T - 1, C_k, hw)

    keys, values, result = [], [], []
    masks = clip.first_mask()
    for t in range(1, length):
        own, others = own_and_others(F.pad(masks, pads), owner, slot)
        key, value = model.memorize(frames[:, t - 1], own, others, owner)
        keys.append(key.flatten(2))
        values.append(value.flatten(2))
        found = read(
            torch.cat(keys, 2), torch.cat(values, 2), pick(query[:, t - 1], owner)
        ).unflatten(2, key.shape[-2:])
        probabilities = object_probabilities(
            model.segment(prepared.at(t - 1, batch), found, owner, kept[t - 1])
        )
        logits = aggregate(
            _in_slots(_crop(probabilities, pads, height, width), owner, slot, batch, clip.slots)
        )[0]
        result.append(logits)
        masks = torch.softmax(logits.detach() if detach else logits, 1)[:, 1:]
    return tuple(result)


def own_and_others(masks: Tensor, owner: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
    """Return each object's plane and the sum of its frame's other objects, at most 1: masks (B, K, H, W) -> twice (N, H, W)."""
    own = masks[owner, slot]
    used = torch.zeros(masks.shape[:2], device=masks.device, dtype=masks.dtype).index_put(
        (owner, slot), masks.new_ones(())
    )
    total = (masks * used[:, :, None, None]).sum(1)
    return own, (pick(total, owner) - own).clamp(0, 1)


def _in_slots(planes: Tensor, owner: Tensor, slot: Tensor, batch: int, slots: int) -> Tensor:
    return planes.new_zeros(batch, slots, *planes.shape[1:]).index_put((owner, slot), planes)


def _crop(planes: Tensor, pads: tuple[int, int, int, int], height: int, width: int) -> Tensor:
    left, _, top, _ = pads
    return planes[..., top : top + height, left : left + width]
