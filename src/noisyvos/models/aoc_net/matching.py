"""Proto-maps: how far each pixel of a frame is from each object's pixels, proxies and mean (Xu et al., ACM MM 2022; released code).

Distances are squared lengths between embeddings. The nearest partner is found without a graph, then the one distance that counts
is computed with it: the gradient of a minimum is that of its smallest term, and memory stays small.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models.aoc_net.proxies import Proxies

FAR = 5e4  # the distance to an object that is not there
WINDOWS = (
    12,
    2,
    4,
    6,
    8,
    10,
)  # half sides of the local windows, in the published order of channels
CHUNK = 2**22  # distances that exist at a time


class Frame(NamedTuple):
    """A frame with a mask: embedding (C, h, w) and the object of each pixel (h, w), any unknown number for none."""

    embedding: Tensor
    labels: Tensor

    def one_hot(self, objects: int) -> Tensor:
        """Return the planes of the objects (N, h, w), background included."""
        return (self.labels == torch.arange(objects, device=self.labels.device)[:, None, None]).to(
            self.embedding.dtype
        )


def squash(distances: Tensor, bias: Tensor) -> Tensor:
    """Return distances (N, ...) on a scale from 0 (alike, where the bias is 0) to 1; bias (N,)."""
    return 2 * torch.sigmoid(distances + bias.view(-1, *[1] * (distances.ndim - 1))) - 1


def to_nearest(queries: Tensor, rows: Tensor) -> Tensor:
    """Return the squared distance of each query (Q, C) to the nearest of the rows (R, C), (Q,)."""
    with torch.no_grad():
        lengths, step = rows.square().sum(1), max(1, CHUNK // len(rows))
        parts = [
            torch.addmm(lengths, queries[at : at + step], rows.T, alpha=-2).min(1).indices
            for at in range(0, len(queries), step)
        ]
        nearest = torch.cat(parts)
    return (queries - rows[nearest]).square().sum(1)


def global_maps(queries: Tensor, rows: Tensor, labels: Tensor, objects: int) -> Tensor:
    """Return distances (N, Q) to the nearest reference pixel of each object."""
    found = []
    for number in range(objects):
        own = rows[labels == number]
        found.append(
            to_nearest(queries, own) if len(own) else queries.new_full((len(queries),), FAR)
        )
    return torch.stack(found)


def proxy_maps(queries: Tensor, proxies: list[Proxies | None]) -> tuple[Tensor, Tensor]:
    """Return distances (N, Q) to the nearest centroid and to the nearest cluster mean; only the second trains both sides."""
    absent = queries.new_full((len(queries),), FAR)
    centroids = [
        absent if each is None else to_nearest(queries, each.centroids.to(queries.dtype))
        for each in proxies
    ]
    means = [absent if each is None else to_nearest(queries, each.means) for each in proxies]
    return torch.stack(centroids), torch.stack(means)


def mean_maps(queries: Tensor, means: Tensor) -> Tensor:
    """Return distances (N, Q) to the mean embedding (N, C) of each object."""
    return (queries[None] - means[:, None]).square().sum(2)


def local_maps(current: Tensor, previous: Tensor, planes: Tensor) -> Tensor:
    """Return distances (N, 6, h', w') to the nearest pixel of each object of the previous frame in six windows around the same place.

    current, previous: (C, h, w) embeddings; planes: (N, h, w). Work is done on a grid of half the resolution, (h // 2 + 1,
    w // 2 + 1), embeddings bilinear, planes nearest.
    """
    size = tuple(side // 2 + 1 for side in current.shape[1:])
    current, previous = (
        F.interpolate(x[None], size, mode="bilinear", align_corners=True)[0]
        for x in (current, previous)
    )
    planes = F.interpolate(planes[None], size)[0] > 0
    partner = _nearest_in_windows(current, previous, planes)
    there = partner >= 0
    chosen = previous.flatten(1)[:, partner.clamp(min=0)]  # (C, N, 6, h', w')
    return torch.where(there, (current[:, None, None] - chosen).square().sum(0), FAR)


@torch.no_grad()
def _nearest_in_windows(current: Tensor, previous: Tensor, planes: Tensor) -> Tensor:
    """Return for each object and window the flat index of the nearest pixel, (N, 6, h, w) int64, -1 where there is none.

    For each vertical offset, distances between all pixels of two rows are one matrix product, of which a band is looked at.
    """
    height, width = current.shape[1:]
    reach = max(WINDOWS)
    device = current.device
    best = current.new_full((len(planes), len(WINDOWS), height, width), float("inf"))
    partner = torch.full(best.shape, -1, dtype=torch.long, device=device)
    columns = torch.arange(width, device=device)[:, None] + torch.arange(
        -reach, reach + 1, device=device
    )  # (w, 2 reach + 1)
    outside = (columns < 0) | (columns >= width)
    columns = columns.clamp(0, width - 1)
    rows, lengths = current.permute(1, 2, 0), previous.square().sum(0)
    for offset in range(-min(reach, height - 1), min(reach, height - 1) + 1):
        top, bottom = (
            max(0, -offset),
            min(height, height - offset),
        )  # rows of the current frame that have a partner
        target = slice(top + offset, bottom + offset)
        products = rows[top:bottom] @ previous[:, target].permute(1, 0, 2)  # (rows, w, w)
        band = lengths[target][:, columns] - 2 * products.gather(
            2, columns.expand(bottom - top, -1, -1)
        )
        band = band.masked_fill(outside, float("inf"))  # (rows, w, 2 reach + 1)
        for number, plane in enumerate(planes):
            own = band.masked_fill(~plane[target][:, columns], float("inf"))
            for index, window in enumerate(WINDOWS):
                if abs(offset) > window:
                    continue
                inner = slice(reach - window, reach + window + 1)
                value, at = own[:, :, inner].min(2)
                nearer = value < best[number, index, top:bottom]
                flat = (
                    columns[:, inner]
                    .expand(bottom - top, -1, -1)
                    .gather(2, at[:, :, None])[:, :, 0]
                )
                flat = (
                    flat
                    + torch.arange(top + offset, bottom + offset, device=device)[:, None] * width
                )
                best[number, index, top:bottom] = torch.where(
                    nearer, value, best[number, index, top:bottom]
                )
                partner[number, index, top:bottom] = torch.where(
                    nearer, flat, partner[number, index, top:bottom]
                )
    return partner


def of_others(maps: Tensor) -> Tensor:
    """Return per object the minimum of all other objects' maps (N, ...); with one object its own map."""
    if len(maps) == 1:
        return maps
    return torch.stack(
        [torch.cat([maps[:number], maps[number + 1 :]]).amin(0) for number in range(len(maps))]
    )
