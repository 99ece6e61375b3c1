"""Which pixels count as clean because their loss is small: per class, in a band around the labelled boundaries."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from noisyvos.losses.pixels import Frame


def kept_share(iteration: int, total_iterations: int, forgotten: float, ramp: float) -> float:
    """Return R = 1 - forgotten * min(iteration / (ramp * total_iterations), 1) (Han et al., 2018, algorithm 1)."""
    return 1 - forgotten * min(iteration / max(1.0, ramp * total_iterations), 1.0)


def boundary_band(frame: Frame, width: float) -> Tensor:
    """Return where any object's boundary is at most width * sqrt(its area) pixels away, (B, H, W) bool.

    Distances are Euclidean, from a pixel to the nearest one on the other side, as an exact distance transform gives them.
    """
    objects = frame.one_hot[:, 1:]
    height, batch_width = objects.shape[-2:]
    reach = math.ceil(width * math.sqrt(height * batch_width))
    squares = torch.maximum(nearest_square(objects, reach), nearest_square(~objects, reach))
    limit = width**2 * objects.flatten(2).sum(2).to(squares.dtype)
    return (squares <= limit[..., None, None]).any(1)


def nearest_square(mask: Tensor, reach: int) -> Tensor:
    """Return the squared Euclidean distance to the nearest True pixel, (..., H, W) float32, infinite beyond `reach` rows or columns.

    The minimum over rows and then over columns is exact, and runs on any device.
    """
    squares = torch.where(mask, 0.0, torch.inf)
    for dim in (-2, -1):
        pads = (0, 0, reach, reach) if dim == -2 else (reach, reach)
        padded = functional.pad(squares, pads, value=torch.inf)
        length = squares.shape[dim]
        for offset in range(1, reach + 1):
            for start in (reach - offset, reach + offset):
                squares = torch.minimum(squares, padded.narrow(dim, start, length) + offset**2)
    return squares


def small_loss_pixels(loss: Tensor, frame: Frame, band: Tensor, share: float) -> Tensor:
    """Return the valid pixels outside the band and, inside, the `share` of smallest losses of each sample and label, (B, H, W) bool.

    floor(share * n) of a group's n pixels are kept, at least one.
    """
    batch, channels = frame.used.shape[:2]
    inside = (band & frame.valid).flatten(1)
    labels = frame.target.masked_fill(~frame.valid, 0).flatten(1)
    samples = torch.arange(batch, device=loss.device).unsqueeze(1)
    groups = torch.where(inside, samples * channels + labels, batch * channels).flatten()
    sizes = torch.zeros(batch * channels + 1, dtype=torch.long, device=loss.device).scatter_add_(
        0, groups, torch.ones_like(groups)
    )
    by_loss = loss.detach().flatten().argsort(stable=True)
    order = by_loss[groups[by_loss].argsort(stable=True)]
    starts = sizes.cumsum(0) - sizes
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order), device=loss.device) - starts[groups[order]]
    quota = (sizes.double() * share).floor().long().clamp(min=1)
    return frame.valid & (~band | (ranks < quota[groups]).view_as(band))
