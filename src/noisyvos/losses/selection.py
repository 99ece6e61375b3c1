"""From per-pixel losses to one number a sample: plain means, means of the largest losses, and sums over the batch."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from noisyvos.losses.pixels import Frame

SMALLEST_SHARE = 0.15
PUBLISHED_LIMITS = (20_000.0, 70_000.0)
REFERENCE_ITERATIONS = (
    110_000  # length of the published schedule, 100,000 and 10,000 of fine-tuning
)
START, END = 0.18, 0.64  # the published limits as shares of the schedule's length, rounded


def schedule_limits(
    total_iterations: int | None, parity: bool, start: float = START, end: float = END
) -> tuple[float, float]:
    """Return the iterations between which the share of kept pixels falls: published ones with `parity`, else shares of the length."""
    if parity:
        return PUBLISHED_LIMITS
    length = REFERENCE_ITERATIONS if total_iterations is None else total_iterations
    return start * length, end * length


def top_share(iteration: int, limits: tuple[float, float]) -> float:
    """Return the share of pixels kept at `iteration`: 1 up to the first limit, then linear to 0.15 at the second (XMem, training)."""
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
    """Return the mean of the floor(share * n) largest losses among the n valid pixels of each sample, (B,) from (B, H, W).

    At least one pixel is kept where there is one; a sample without valid pixels gives 0. Void pixels make the number
    differ between samples, so the largest possible one is taken in descending order and cut by weights: no loop over
    the batch. Where a CPU sees no void pixel the order does not matter, and leaving it out is 20 times faster; an
    accelerator would have to wait for that answer.
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
    """Return floor(share * n) for the n valid pixels of each sample, at least 1 where n > 0, (B,) int64."""
    total = valid.flatten(1).sum(1)
    return torch.minimum((total.double() * share).floor().long().clamp(min=1), total)


def over_batch(per_sample: Tensor, accumulate: str) -> Tensor:
    """Return the scalar of per-sample losses (B,): their `mean`, or `faithful` to SMART's code its running sum.

    The released training adds the partial sum so far after every sample, so sample b of B (from 0) weighs (B - b)/B.
    """
    if accumulate == "mean":
        return per_sample.mean()
    batch = per_sample.shape[0]
    weights = torch.arange(batch, 0, -1, device=per_sample.device, dtype=per_sample.dtype) / batch
    return (weights * per_sample).sum()


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
