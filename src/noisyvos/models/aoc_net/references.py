"""What AOC-Net compares a frame with: reference frames, their object proxies and mean embeddings.

Adaptive object proxies are k-means over the embeddings of an object (arXiv 2207.00887, section
"AOP" of the poster).
"""

from dataclasses import dataclass
from functools import reduce
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.seeding import torch_generator

COUNT = 16  # proxies of an object, if it has so many pixels
ITERATIONS = 20  # without an early stop
TINY = 1e-5

Clustering = Literal["fixed", "released"]
Start = Literal["even", "random"]
# (N, C) and (N, 1) each: embeddings and pixels inside, then outside the objects
Sums = tuple[Tensor, Tensor, Tensor, Tensor]


class LabelledFrame(NamedTuple):
    """A frame with a mask.

    Embedding (C, h, w) and the object of each pixel (h, w); an unknown number means none.
    """

    embedding: Tensor
    labels: Tensor

    def one_hot(self, objects: int) -> Tensor:
        """Return the planes of the objects (N, h, w), background included."""
        numbers = torch.arange(objects, device=self.labels.device)[:, None, None]
        return (self.labels == numbers).to(self.embedding.dtype)


@dataclass(frozen=True)
class Proxies:
    """The proxies of one object.

    The centroids (K, C) that clustering ends with, without gradient, and the means (K', C) of its
    clusters.
    """

    centroids: Tensor
    means: Tensor


def k_means(rows: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Return centroids (K, C) and the cluster (n,) of each row (n, C), from the centroids `start`.

    Runs 20 iterations. A cluster that loses its rows keeps its last centroid, as in SciPy's
    `kmeans2`, which the release calls.
    """
    centroids = start.clone()
    labels = rows.new_zeros(len(rows), dtype=torch.long)
    for _ in range(ITERATIONS):
        labels = (centroids.square().sum(1) - 2 * rows @ centroids.T).argmin(1)
        means, counts = _cluster_means(rows, labels, len(centroids))
        centroids = torch.where(counts[:, None] > 0, means, centroids)
    return centroids, labels


def _cluster_means(rows: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the mean of the rows of each label (count, C), and how many there are.

    Sums by a product, which gives the same bits each time.
    """
    members = F.one_hot(labels, count).to(rows.dtype)
    counts = members.sum(0)
    return (members.T @ rows) / counts.clamp(min=1)[:, None], counts


def _starting_rows(
    rows: Tensor, count: int, start: Start, frame: int, object_number: int
) -> Tensor:
    if start == "random":
        stream = torch_generator("k-means", frame, object_number)
        chosen = torch.randperm(len(rows), generator=stream)[:count].to(rows.device)
    else:
        chosen = torch.arange(count, device=rows.device) * len(rows) // count
    return rows[chosen]


def find_proxies(
    rows: Tensor,
    labels: Tensor,
    objects: int,
    *,
    clustering: Clustering = "fixed",
    start: Start = "even",
    frame: int = 0,
) -> list[Proxies | None]:
    """Return the proxies of each of `objects` (background included).

    None without a reference pixel.

    rows: (R, C) embeddings of all reference pixels; labels: (R,) the object of each, any other
    number for none. `released` repeats two slips of the release: means are taken of the first rows
    of all labelled pixels instead of the object's own, and an object with few pixels lowers the
    number of proxies of all later ones.
    """
    labelled = rows[(labels >= 0) & (labels < objects)] if clustering == "released" else rows
    found: list[Proxies | None] = []
    count = COUNT
    for number in range(objects):
        own = rows[labels == number]
        few = min(count, len(own))
        if clustering == "released":
            count = few
        if not few:
            found.append(None)
            continue
        with torch.no_grad(), torch.autocast(rows.device.type, enabled=False):
            own_rows = own.detach().float()
            first = _starting_rows(own_rows, few, start, frame, number)
            centroids, clusters = k_means(own_rows, first)
        averaged = labelled[: len(own)] if clustering == "released" else own
        means, counts = _cluster_means(averaged, clusters, few)
        found.append(Proxies(centroids, means[counts > 0]))
    return found


@dataclass(frozen=True)
class Look:
    """One embedded frame: embedding (C, h, w) and low-level features (1, 256, h, w) at stride 4."""

    embedding: Tensor
    low: Tensor

    def with_mask(self, mask: Tensor) -> LabelledFrame:
        """Return the frame with an index mask of any size (H, W), brought to the grid by nearest
        neighbour.
        """
        small = F.interpolate(mask[None, None].float(), self.embedding.shape[1:])[0, 0].long()
        return LabelledFrame(self.embedding, small)


@dataclass(frozen=True)
class Pool:
    """References, joined once for all frames that are compared with them."""

    own: list[Tensor]  # of each object: (R, C) embeddings of its pixels
    proxies: list[Proxies | None]  # of each object
    sums: Sums


def sums_of(frames: list[LabelledFrame], objects: int) -> Sums:
    """Return sums of embeddings and counts of pixels inside and outside each object."""
    inside, pixels, outside, rest = [], [], [], []
    for frame in frames:
        rows = frame.embedding.flatten(1).T  # (hw, C)
        planes = frame.one_hot(objects).flatten(1)  # (N, hw)
        own = planes @ rows
        inside.append(own)
        pixels.append(planes.sum(1, keepdim=True))
        outside.append(rows.sum(0) - own)
        rest.append((1 - planes).sum(1, keepdim=True))
    return _total(inside), _total(pixels), _total(outside), _total(rest)


def _total(parts: list[Tensor]) -> Tensor:
    return reduce(torch.add, parts, torch.zeros_like(parts[0]))


def means_of(sums: Sums) -> tuple[Tensor, Tensor]:
    """Return the mean embedding inside and outside each object, (N, C) each."""
    inside, pixels, outside, rest = sums
    return inside / (pixels + TINY), outside / (rest + TINY)
