"""Proto-maps: how far each pixel of a frame is from each object's pixels, proxies and mean.

Xu et al., ACM MM 2022; released code. Distances are squared lengths between embeddings. The nearest
partner is found without a graph, then its distance is computed with one: the gradient of a minimum
is that of its smallest term, and memory stays small.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models.aoc_net.references import Proxies

FAR = 5e4  # the distance to an absent object
CHUNK = 2**22  # distances that exist at a time on a CPU
ON_GPU = 16  # times as many on a GPU
SMALL = 128  # pixels of a grid whose pairs are compared in one piece


def squash(distances: Tensor, bias: Tensor) -> Tensor:
    """Return distances (N, ...) on a scale from 0 (equal, where the bias is 0) to 1; bias (N,)."""
    return 2 * torch.sigmoid(distances + bias.view(-1, *[1] * (distances.ndim - 1))) - 1


def to_nearest(queries: Tensor, rows: Tensor) -> Tensor:
    """Return the squared distance of each query (Q, C) to the nearest of the rows (R, C), (Q,)."""
    with torch.no_grad():
        lengths = rows.square().sum(1)
        most = CHUNK * (1 if rows.device.type == "cpu" else ON_GPU)
        step = max(1, most // len(rows))
        parts = [
            torch.addmm(lengths, queries[at : at + step], rows.T, alpha=-2).min(1).indices
            for at in range(0, len(queries), step)
        ]
        nearest = torch.cat(parts)
    return (queries - rows[nearest]).square().sum(1)


def global_maps(queries: Tensor, pixels: list[Tensor]) -> Tensor:
    """Return distances (N, Q) to the nearest of each object's reference pixels (R, C)."""
    found = []
    for own in pixels:
        absent = queries.new_full((len(queries),), FAR)
        found.append(to_nearest(queries, own) if len(own) else absent)
    return torch.stack(found)


def proxy_maps(queries: Tensor, proxies: list[Proxies | None]) -> tuple[Tensor, Tensor]:
    """Return distances (N, Q) to the nearest centroid and to the nearest cluster mean.

    Only the second trains both sides.
    """
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


def local_maps(
    current: Tensor, previous: Tensor, planes: Tensor, windows: tuple[int, ...]
) -> Tensor:
    """Return distances (N, W, h', w') to the nearest pixel of each object of the previous frame.

    The W maps are of windows around the same place, given as half sides. current, previous: (C, h,
    w) embeddings; planes: (N, h, w). The grid has half the resolution, (h // 2 + 1, w // 2 + 1),
    embeddings bilinear, planes nearest.
    """
    size = [side // 2 + 1 for side in current.shape[1:]]
    current, previous = (
        F.interpolate(x[None], size, mode="bilinear", align_corners=True)[0]
        for x in (current, previous)
    )
    planes = F.interpolate(planes[None], size)[0] > 0
    small = planes[0].numel() <= SMALL
    find = nearest_of_all_pairs if small else nearest_in_windows
    partner = find(current, previous, planes, windows)
    there = partner >= 0
    chosen = previous.flatten(1)[:, partner.clamp(min=0)]  # (C, N, W, h', w')
    return torch.where(there, (current[:, None, None] - chosen).square().sum(0), FAR)


@torch.no_grad()
def nearest_of_all_pairs(
    current: Tensor, previous: Tensor, planes: Tensor, windows: tuple[int, ...]
) -> Tensor:
    """Do what `nearest_in_windows` does in fewer, larger operations."""
    height, width = current.shape[1:]
    rows = torch.arange(height, device=current.device).repeat_interleave(width)
    columns = torch.arange(width, device=current.device).repeat(height)
    apart = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs())
    near = torch.stack([apart <= reach for reach in windows])  # (W, hw, hw)
    there = near & planes.flatten(1)[:, None, None]  # (N, W, hw, hw)
    earlier = previous.flatten(1)
    distances = earlier.square().sum(0) - 2 * current.flatten(1).T @ earlier
    value, at = distances.masked_fill(~there, float("inf")).min(3)
    return torch.where(value.isinf(), -1, at).unflatten(2, (height, width))


@torch.no_grad()
def nearest_in_windows(
    current: Tensor, previous: Tensor, planes: Tensor, windows: tuple[int, ...]
) -> Tensor:
    """Return for each object and window the flat index of the nearest pixel, (N, W, h, w) int64.

    -1 means none. For each vertical offset, the distances between all pixels of two rows
    are one matrix product, of which a band is used.
    """
    height, width = current.shape[1:]
    reach = max(windows)
    device = current.device
    best = current.new_full((len(planes), len(windows), height, width), float("inf"))
    partner = torch.full(best.shape, -1, dtype=torch.long, device=device)
    offsets = torch.arange(-reach, reach + 1, device=device)
    columns = torch.arange(width, device=device)[:, None] + offsets  # (w, 2 reach + 1)
    outside = (columns < 0) | (columns >= width)
    columns = columns.clamp(0, width - 1)
    rows, lengths = current.permute(1, 2, 0), previous.square().sum(0)
    for offset in range(-min(reach, height - 1), min(reach, height - 1) + 1):
        # rows of the current frame that have a partner
        top, bottom = max(0, -offset), min(height, height - offset)
        target = slice(top + offset, bottom + offset)
        products = rows[top:bottom] @ previous[:, target].permute(1, 0, 2)  # (rows, w, w)
        band = lengths[target][:, columns] - 2 * products.gather(
            2, columns.expand(bottom - top, -1, -1)
        )
        band = band.masked_fill(outside, float("inf"))  # (rows, w, 2 reach + 1)
        for number, plane in enumerate(planes):
            own = band.masked_fill(~plane[target][:, columns], float("inf"))
            for index, window in enumerate(windows):
                if abs(offset) > window:
                    continue
                inner = slice(reach - window, reach + window + 1)
                value, at = own[:, :, inner].min(2)
                nearer = value < best[number, index, top:bottom]
                wide = columns[:, inner].expand(bottom - top, -1, -1)
                flat = wide.gather(2, at[:, :, None])[:, :, 0]
                below = torch.arange(top + offset, bottom + offset, device=device)[:, None]
                flat = flat + below * width
                here = (number, index, slice(top, bottom))
                best[here] = torch.where(nearer, value, best[here])
                partner[here] = torch.where(nearer, flat, partner[here])
    return partner


def of_others(maps: Tensor) -> Tensor:
    """Return per object the minimum of all other objects' maps (N, ...).

    With one object its own map.
    """
    if len(maps) == 1:
        return maps
    others = [torch.cat([maps[:number], maps[number + 1 :]]) for number in range(len(maps))]
    return torch.stack([each.amin(0) for each in others])
