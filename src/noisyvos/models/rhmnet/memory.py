"""The content of RHMNet's memory: soft labels, how they mark features, and which entries stay.

arXiv 2303.14384; released code. A label map has a plane of background first and then one per
object, (B, K + 1, H, W).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.losses.scribbles import downsampled, ignore_bands
from noisyvos.models.rhmnet.transformer import Tokens

# least share of a cell that a scribble must cover to take part in the object's prototype
ENOUGH = 0.211
SOME = 0.15  # least share to be labelled at all


def block_mean(planes: Tensor, cell: int) -> Tensor:
    """Return the means over disjoint cells, (B, C, H, W) -> (B, C, H / cell, W / cell)."""
    return F.avg_pool2d(planes, cell)


def gate(probabilities: Tensor, threshold: float) -> Tensor:
    """Return probabilities where they are above `threshold`, and 0 elsewhere."""
    return torch.where(probabilities > threshold, probabilities, 0)


@torch.no_grad()
def similarity_labels(scribbles: Tensor, features: Tensor, cell: int) -> Tensor:
    """Return labels for scribbles by the similarity of the cells they cross, (B, K + 1, h, w) in
    [-1, 1].

    scribbles (B, K + 1, H, W) 0 or 1, features (B, C, h, w). A label's prototype is the mean of the
    features of well covered cells; if there are none, of the best covered ones. Cells with too
    little coverage, and all cells of an empty scribble, are 0.
    """
    share = block_mean(scribbles, cell)
    weights = torch.where(share >= ENOUGH, share, 0)
    best = torch.where(share == share.amax((2, 3), keepdim=True), share, 0)
    weights = torch.where(weights.sum((2, 3), keepdim=True) > 0, weights, best)
    sums = torch.einsum("bkhw,bchw->bkc", weights, features)
    prototypes = sums / (weights.sum((2, 3)) + 1e-8).unsqueeze(2)
    alike = F.cosine_similarity(prototypes[:, :, :, None, None], features[:, None], dim=2)
    return torch.where(share >= SOME, alike, 0)


def attach(tokens: Tensor, labels: Tensor, own: Tensor, rest: Tensor | None) -> Tensor:
    """Return the tokens of every object with its label embedding added, (B * K, L, C).

    tokens (B, L, C) or, per object, (B * K, L, C); labels (B, K + 1, h, w) with h * w = L.
    Embedding `own` (C,) marks the object; `rest`, unless None, marks all other objects and the
    background.
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


def planes(labels: Tensor, objects: int) -> Tensor:
    """Return 0/1 planes of labels (..., H, W) int64, background first, (..., objects + 1, H, W)
    float32.

    The label 255 is in none of them.
    """
    ids = torch.arange(objects + 1, device=labels.device).view(-1, 1, 1)
    return (labels.unsqueeze(-3) == ids).float()


def region_targets(labels: Tensor, objects: int, band: int, cell: int = 4) -> tuple[Tensor, Tensor]:
    """Return the target of the regions and where it counts, both (..., objects, H / cell, W /
    cell) bool.

    labels (..., H, W) int64. Every place outside an object's scribble counts as not its region,
    unlabelled places too, except in the band of `band` pixels across around the scribble.
    """
    scribbles = planes(labels, objects)[..., 1:, :, :]
    return downsampled(scribbles, cell), ~downsampled(ignore_bands(scribbles, band), cell)


@dataclass
class Entries:
    """Memory entries of one kind.

    Holds every k-th frame's entry, of which the first always stays, and with `keep_last` that of
    the last frame in between.
    """

    every: int
    capacity: int
    keep_last: bool
    entries: list[Tokens] = field(default_factory=list)
    last: Tokens | None = None  # stays through frames that are appended, as published

    def all(self) -> list[Tokens]:
        """Return all entries to read from."""
        return self.entries if self.last is None else [*self.entries, self.last]

    def add(self, time: int, tokens: Tokens) -> None:
        """Add the entry of frame `time`."""
        if time % self.every == 0:
            self.entries.append(tokens)
        elif self.keep_last:
            self.last = tokens
        if len(self.entries) > self.capacity:
            self.entries.pop(1)
