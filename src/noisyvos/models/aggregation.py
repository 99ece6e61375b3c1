"""Planes of objects: soft aggregation to a distribution over labels, padding to a stride,
cropping.
"""

from functools import reduce

import torch
from torch import Tensor

CLAMP = 1e-7

Pads = tuple[int, int, int, int]  # pixels added left, right, at the top and at the bottom


def aggregate(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Join object probabilities (B, N, H, W) with a background.

    Returns logits and their softmax, both (B, N + 1, H, W). Background is the product of all
    objects' complements. Probabilities are clamped to [1e-7, 1 - 1e-7] before the logit (soft
    aggregation, Oh et al., ICCV 2019, section 3.4).
    """
    probabilities = probabilities.float()
    background = reduce(torch.mul, (1 - probabilities).unbind(1))
    odds = torch.cat([background.unsqueeze(1), probabilities], 1).clamp(CLAMP, 1 - CLAMP)
    logits = torch.logit(odds)
    return logits, torch.softmax(logits, 1)


def softmax_with_unused(logits: Tensor, channels: int) -> Tensor:
    """Return the softmax of aggregated logits (B, N + 1, H, W) over `channels` channels.

    Only the first N + 1 are returned. Published code gives each unused channel the odds of the
    clamp, about 1e-7.
    """
    odds = logits.exp()
    unused = max(0, channels - odds.shape[1]) * CLAMP / (1 - CLAMP)
    return odds / (odds.sum(1, keepdim=True) + unused)


def padding(height: int, width: int, stride: int) -> Pads:
    """Return the pixels to add so that both sides become multiples of `stride`.

    An odd pixel goes to the right and to the bottom.
    """
    down, across = -height % stride, -width % stride
    return across // 2, across - across // 2, down // 2, down - down // 2


def crop(planes: Tensor, pads: Pads, height: int, width: int) -> Tensor:
    """Undo padding: return the inner (..., height, width) of padded planes."""
    left, _, top, _ = pads
    return planes[..., top : top + height, left : left + width]
