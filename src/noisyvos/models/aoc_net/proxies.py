"""Adaptive object proxies: k-means over the embeddings of an object (arXiv 2207.00887; sections "AOP" of the poster)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from noisyvos.seeding import torch_generator

COUNT = 16  # proxies of an object, where it has so many pixels
ITERATIONS = 20  # no early stop

Clustering = Literal["fixed", "released"]
Start = Literal["even", "random"]


@dataclass(frozen=True)
class Proxies:
    """Of one object: the centroids that clustering ends with (K, C), without gradient, and the means of its clusters (K', C)."""

    centroids: Tensor
    means: Tensor


def k_means(rows: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Return centroids (K, C) and the cluster (n,) of each row (n, C) after 20 iterations from the centroids `start`.

    A cluster that loses its rows keeps its last centroid. As SciPy's `kmeans2`, which the release calls.
    """
    centroids = start.clone()
    labels = rows.new_zeros(len(rows), dtype=torch.long)
    for _ in range(ITERATIONS):
        labels = (centroids.square().sum(1) - 2 * rows @ centroids.T).argmin(1)
        means, counts = _means(rows, labels, len(centroids))
        centroids = torch.where(counts[:, None] > 0, means, centroids)
    return centroids, labels


def _means(rows: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the mean of the rows of each label (count, C), and how many there are."""
    members = torch.nn.functional.one_hot(labels, count).to(
        rows.dtype
    )  # sums by a product: the same bits each time
    counts = members.sum(0)
    return (members.T @ rows) / counts.clamp(min=1)[:, None], counts


def _starting_rows(
    rows: Tensor, count: int, start: Start, frame: int, object_number: int
) -> Tensor:
    if start == "random":
        chosen = torch.randperm(
            len(rows), generator=torch_generator("k-means", frame, object_number)
        )[:count].to(rows.device)
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
    """Return the proxies of each of `objects` (background included), None for one without a reference pixel.

    rows: (R, C) embeddings of all reference pixels; labels: (R,) the object of each, any other number for none. `released`
    repeats two slips: means are taken of the first rows of all labelled pixels in the place of the object's own, and an object
    with few pixels lowers the number of proxies of all later ones.
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
            centroids, clusters = k_means(
                own_rows, _starting_rows(own_rows, few, start, frame, number)
            )
        averaged = labelled[: len(own)] if clustering == "released" else own
        means, counts = _means(averaged, clusters, few)
        found.append(Proxies(centroids, means[counts > 0]))
    return found
