"""XMem's matching: anisotropic similarity, affinity, readout and soft aggregation (ECCV 2022, section 3.2, equations 1-3)."""

import math
from functools import reduce

import torch
from torch import Tensor

CLAMP = 1e-7


def similarity(
    keys: Tensor, shrinkage: Tensor | None, query: Tensor, selection: Tensor | None
) -> Tensor:
    """Return the similarity of every memory element to every query element, (B, M, Q) float32.

    keys (B, C, M), shrinkage (B, 1, M) or None, query (B, C, Q), selection (B, C, Q) or None. Without selection the
    query's own norm is dropped, which leaves a softmax over memory as it is.
    """
    with torch.autocast(
        keys.device.type, enabled=False
    ):  # squares and their differences need the range of float32
        keys, query = keys.float(), query.float()
        transposed = keys.mT
        if selection is None:
            result = 2 * (transposed @ query) - keys.square().sum(1).unsqueeze(2)
        else:
            selection = selection.float()
            weighted = query * selection
            result = (
                2 * (transposed @ weighted)
                - transposed.square() @ selection
                - (weighted * query).sum(1, keepdim=True)
            )
        scale = 1 / math.sqrt(keys.shape[1])
        return result * (scale if shrinkage is None else shrinkage.float().mT * scale)


def affinity(similarities: Tensor, top_k: int | None = None) -> Tensor:
    """Return the softmax over memory for each query, (B, M, Q); with `top_k` all but the k largest per query are zero.

    The maximum is subtracted first in both cases: equal values, but similarities far below zero give no 0 / 0.
    """
    if top_k is None or top_k >= similarities.shape[1]:
        return torch.softmax(similarities, 1)
    values, indices = torch.topk(similarities, top_k, dim=1)
    return torch.zeros_like(similarities).scatter_(1, indices, torch.softmax(values, 1))


def readout(weights: Tensor, values: Tensor) -> Tensor:
    """Return values (B, N, C, M) read through an affinity (B, M, Q) that all objects share, (B, N, C, Q)."""
    batch, objects, channels, elements = values.shape
    return (values.reshape(batch, objects * channels, elements) @ weights).view(
        batch, objects, channels, -1
    )


def aggregate(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Join object probabilities (B, N, H, W) with a background; return logits and their softmax, both (B, N + 1, H, W).

    Background is the product of all objects' complements; probabilities are clamped to [1e-7, 1 - 1e-7] before the
    logit (soft aggregation, Oh et al., ICCV 2019, section 3.4).
    """
    probabilities = probabilities.float()
    background = reduce(torch.mul, (1 - probabilities).unbind(1))
    odds = torch.cat([background.unsqueeze(1), probabilities], 1).clamp(CLAMP, 1 - CLAMP)
    logits = torch.logit(odds)
    return logits, torch.softmax(logits, 1)


def softmax_with_unused(logits: Tensor, channels: int) -> Tensor:
    """Return the softmax of aggregated logits (B, N + 1, H, W) over `channels` channels, of which the first N + 1 are returned.

    Channels above N + 1 are unused: published code gives each the odds of the clamp, about 1e-7.
    """
    odds = logits.exp()
    unused = max(0, channels - odds.shape[1]) * CLAMP / (1 - CLAMP)
    return odds / (odds.sum(1, keepdim=True) + unused)


def padding(height: int, width: int, stride: int) -> tuple[int, int, int, int]:
    """Return the zeros (left, right, top, bottom) that make both sides multiples of `stride`; the odd pixel goes right and down."""
    extra_height, extra_width = -height % stride, -width % stride
    return (
        extra_width // 2,
        extra_width - extra_width // 2,
        extra_height // 2,
        extra_height - extra_height // 2,
    )
