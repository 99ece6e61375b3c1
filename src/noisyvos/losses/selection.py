"""Which pixels count in a loss, and reductions from per-pixel losses to numbers.

Hard example mining keeps the largest losses (XMem). The small-loss criterion keeps the smallest
losses of each class in a band around labelled boundaries (co-teaching).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from noisyvos.losses.pixels import Frame

SMALLEST_SHARE = 0.15
PUBLISHED_LIMITS = (20_000.0, 70_000.0)
# length of the published schedule: 100,000 and 10,000 of fine-tuning
REFERENCE_ITERATIONS = 110_000
START, END = 0.18, 0.64  # the published limits as shares of the schedule's length, rounded


def schedule_limits(
    total_iterations: int | None, parity: bool, start: float = START, end: float = END
) -> tuple[float, float]:
    """Return the iterations between which the share of kept pixels falls.

    With `parity` these are the published ones, otherwise shares of the training length.
    """
    if parity:
        return PUBLISHED_LIMITS
    length = REFERENCE_ITERATIONS if total_iterations is None else total_iterations
    return start * length, end * length


def top_share(iteration: int, limits: tuple[float, float]) -> float:
    """Return the share of pixels kept at `iteration` (XMem, training).

    It is 1 up to the first limit and falls linearly to 0.15 at the second.
    """
    start, end = limits
    if iteration < start:
        return 1.0
    if iteration > end or end == start:
        return SMALLEST_SHARE
    return SMALLEST_SHARE + (1 - SMALLEST_SHARE) * (end - iteration) / (end - start)


def pixel_mean(loss: Tensor, valid: Tensor) -> Tensor:
    """Return the mean over valid pixels, (B,) from (B, H, W); 0 for a sample without any."""
    return torch.where(valid, loss, 0).flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)


def top_mean(loss: Tensor, valid: Tensor, share: float) -> Tensor:
    """Return the mean of the floor(share * n) largest losses among the n valid pixels, (B,).

    loss and valid are (B, H, W). At least one pixel is kept if a sample has one; otherwise its mean
    is 0. Void pixels make the number differ between samples. The code therefore takes the largest
    number in descending order and masks the rest, without a loop over the batch. On a CPU without
    void pixels the order does not matter, and an unsorted top-k is 20 times faster. On an
    accelerator that test would wait for the device.
    """
    if share >= 1:
        return pixel_mean(loss, valid)
    kept = top_counts(valid, share)
    ordered = valid.device.type != "cpu" or not bool(valid.all())
    count = max(1, int(valid[0].numel() * share))
    largest = (
        loss.masked_fill(~valid, -torch.inf).flatten(1).topk(count, dim=1, sorted=ordered).values
    )
    keep = torch.arange(largest.shape[1], device=loss.device) < kept.unsqueeze(1)
    return torch.where(keep, largest, 0).sum(1) / kept.clamp(min=1)


def top_counts(valid: Tensor, share: float) -> Tensor:
    """Return floor(share * n) for the n valid pixels of each sample, (B,) int64; at least 1 if n
    > 0.
    """
    total = valid.flatten(1).sum(1)
    return torch.minimum((total.double() * share).floor().long().clamp(min=1), total)


def over_batch(per_sample: Tensor, accumulate: str) -> Tensor:
    """Return a scalar from per-sample losses (B,): `mean`, or `faithful` to SMART's code.

    The released training adds the partial sum after every sample. Sample b of B (from 0) therefore
    has weight (B - b)/B.
    """
    if accumulate == "mean":
        return per_sample.mean()
    batch = per_sample.shape[0]
    weights = torch.arange(batch, 0, -1, device=per_sample.device, dtype=per_sample.dtype) / batch
    return (weights * per_sample).sum()


def kept_share(iteration: int, total_iterations: int, forgotten: float, ramp: float) -> float:
    """Return R = 1 - forgotten * min(iteration / (ramp * total_iterations), 1).

    Source: Han et al., 2018, algorithm 1.
    """
    return 1 - forgotten * min(iteration / max(1.0, ramp * total_iterations), 1.0)


def boundary_band(frame: Frame, width: float) -> Tensor:
    """Return where an object's boundary is within width * sqrt(its area) pixels, (B, H, W) bool.

    Distances are Euclidean, from a pixel to the nearest one on the other side of the boundary.
    """
    objects = frame.one_hot[:, 1:]
    height, batch_width = objects.shape[-2:]
    reach = math.ceil(width * math.sqrt(height * batch_width))
    squares = torch.maximum(nearest_square(objects, reach), nearest_square(~objects, reach))
    limit = width**2 * objects.flatten(2).sum(2).to(squares.dtype)
    return (squares <= limit[..., None, None]).any(1)


def nearest_square(mask: Tensor, reach: int) -> Tensor:
    """Return the squared Euclidean distance to the nearest True pixel, (..., H, W) float32.

    It is infinite beyond `reach` rows or columns. The minimum over rows and then columns is exact
    and runs on any device.
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
    """Return the pixels kept by the small-loss criterion, (B, H, W) bool.

    All valid pixels outside the band are kept. Inside it, each sample and label keeps the
    floor(share * n) smallest of its n losses, at least one.
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
