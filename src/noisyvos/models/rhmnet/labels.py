"""Soft labels and how they mark features: the content of RHMNet's memory (arXiv 2303.14384; released code).

A label map has one plane of background first and then one an object, (B, K + 1, H, W).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

ENOUGH = 0.211  # share of a cell that a scribble covers, from which on the cell tells what the object looks like
SOME = 0.15  # and from which on it is labelled at all


def block_mean(planes: Tensor, cell: int) -> Tensor:
    """Return the means over cells that do not overlap, (B, C, H, W) -> (B, C, H / cell, W / cell)."""
    return F.avg_pool2d(planes, cell)


def gate(probabilities: Tensor, threshold: float) -> Tensor:
    """Return probabilities where they are above `threshold`, and 0 elsewhere."""
    return torch.where(probabilities > threshold, probabilities, 0)


@torch.no_grad()
def similarity_labels(scribbles: Tensor, features: Tensor, cell: int) -> Tensor:
    """Return labels for scribbles by how alike the cells they cross are, (B, K + 1, h, w) in [-1, 1].

    scribbles (B, K + 1, H, W) 0 or 1, features (B, C, h, w). A label's prototype is the mean of the features of well covered
    cells; where no cell is, of the best covered ones. Cells that are covered too little, and all cells of an empty scribble, are 0.
    """
    share = block_mean(scribbles, cell)
    weights = torch.where(share >= ENOUGH, share, 0)
    best = torch.where(share == share.amax((2, 3), keepdim=True), share, 0)
    weights = torch.where(weights.sum((2, 3), keepdim=True) > 0, weights, best)
    prototypes = torch.einsum("bkhw,bchw->bkc", weights, features) / (
        weights.sum((2, 3)) + 1e-8
    ).unsqueeze(2)
    alike = F.cosine_similarity(prototypes[:, :, :, None, None], features[:, None], dim=2)
    return torch.where(share >= SOME, alike, 0)


def attach(tokens: Tensor, labels: Tensor, own: Tensor, rest: Tensor | None) -> Tensor:
    """Return the tokens of every object with its label on them, (B * K, L, C).

    tokens (B, L, C) or, an object's own, (B * K, L, C); labels (B, K + 1, h, w) with h * w = L. Embedding `own` (C,) marks the
    object; `rest` marks all other objects and the background, unless it is None.
    """
    objects = labels[:, 1:].flatten(2)  # (B, K, L)
    count = objects.shape[1]
    if len(tokens) != len(labels) * count:
        tokens = tokens.repeat_interleave(count, 0)
    marked = tokens + objects.flatten(0, 1).unsqueeze(2) * own
    if rest is None:
        return marked
    others = labels.flatten(2).sum(1, keepdim=True) - objects
    return marked + others.flatten(0, 1).unsqueeze(2) * rest
