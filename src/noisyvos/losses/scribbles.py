"""Losses for labels that are scribbles (arXiv 2303.14384 and its released code; the focal loss is Lin et al. 2017, equation 5).

Labels are int64: 0 background, 1..K objects, 255 without a label. With `pooled` a batch is one set of pixels, as in the
released code; otherwise a loss is the mean of its samples' losses, so that a batch may be computed in pieces.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.losses.pixels import VOID

SMALL = 1e-6


def partial_cross_entropy(
    logits: Tensor, labels: Tensor, background_weight: float = 1.0, *, pooled: bool = False
) -> Tensor:
    """Return the weighted mean cross-entropy over all labelled pixels of a sample's frames; 0 where there is none.

    logits (B, T, K + 1, H, W), labels (B, T, H, W). Background pixels count `background_weight` times.
    """
    given = labels != VOID
    log_p = (
        torch.log_softmax(logits, 2)
        .gather(2, torch.where(given, labels, 0).unsqueeze(2))
        .squeeze(2)
    )
    weights = torch.where(labels == 0, background_weight, 1.0) * given
    return _mean(-log_p * weights, weights, pooled)


def region_loss(
    logits: Tensor, target: Tensor, asked: Tensor, alpha: float, *, pooled: bool = False
) -> Tensor:
    """Return the mean sigmoid focal loss (gamma 2) over the places `asked`; positives count `alpha`, negatives 1 - `alpha`.

    All (B, ...); target and asked are bool.
    """
    wanted = target.to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    p = torch.sigmoid(logits)
    miss = torch.where(target, 1 - p, p)
    focal = entropy * miss.square() * torch.where(target, alpha, 1 - alpha)
    return _mean(focal * asked, asked.to(logits.dtype), pooled)


def smoothness(
    probabilities: Tensor, gray: Tensor, alpha: float = 10.0, *, labelled: Tensor | None = None
) -> Tensor:
    """Return how uneven probabilities (N, C, H, W) are where the picture (N, H, W) in [0, 1] is even: summed over C, mean over N.

    First differences (Sobel) count ten times as much as second ones (Laplace), all under a smooth absolute value; edges of the
    picture excuse them by exp(-alpha * edge), except on `labelled` pixels (N, H, W) if given.
    """
    kernels = gray.new_tensor(_KERNELS).unsqueeze(1)
    edges = F.conv2d(gray.unsqueeze(1), kernels, padding=1).abs()  # (N, 3, H, W)
    weights = torch.exp(-alpha * edges)
    if labelled is not None:
        weights = torch.where(labelled.unsqueeze(1), 1.0, weights)
    count = probabilities.shape[1]
    changes = F.conv2d(
        probabilities, kernels.repeat(count, 1, 1, 1), padding=1, groups=count
    ).unflatten(1, (count, 3))
    size = torch.sqrt((changes.abs() * weights.unsqueeze(1)).square() + SMALL)
    return (size.mean((3, 4)) * gray.new_tensor([10.0, 10.0, 1.0])).sum((1, 2)).mean()


def difference(one: Tensor, other: Tensor, channels: int) -> Tensor:
    """Return the mean square difference of probabilities (B, T, K + 1, H, W) over `channels`, of which those not given are equal."""
    return (one - other).square().mean() * (one.shape[2] / channels)


def ignore_bands(scribbles: Tensor, side: int) -> Tensor:
    """Return the places within a square of `side` (odd) pixels around a scribble but not on it: 0/1 planes (..., H, W) both."""
    reach = side // 2
    rows = F.max_pool2d(scribbles.flatten(0, -3), (side, 1), 1, (reach, 0))
    wide = F.max_pool2d(rows, (1, side), 1, (0, reach)).view_as(scribbles)
    return wide - scribbles


def downsampled(planes: Tensor, cell: int) -> Tensor:
    """Return which cells are more than half filled: 0/1 planes (..., H, W) -> (..., H / cell, W / cell) bool.

    So does OpenCV's area reduction of bytes, which rounds a half to the even 0.
    """
    return (F.avg_pool2d(planes.flatten(0, -3), cell) > 0.5).unflatten(0, planes.shape[:-2])


def gray(frames: Tensor) -> Tensor:
    """Return the brightness of RGB frames (..., 3, H, W) in [0, 1], (..., H, W)."""
    red, green, blue = frames.unbind(-3)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _mean(values: Tensor, weights: Tensor, pooled: bool) -> Tensor:
    """Return the weighted mean of values (B, ...) that carry their weights already."""
    if pooled:
        return values.sum() / weights.sum().clamp(min=1e-8)
    return (values.flatten(1).sum(1) / weights.flatten(1).sum(1).clamp(min=1e-8)).mean()


_KERNELS = [
    [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]],
    [[-1.0, -2.0, -1.0], [0.0, 0.0, 0.0], [1.0, 2.0, 1.0]],
    [[-1.0, -1.0, -1.0], [-1.0, 8.0, -1.0], [-1.0, -1.0, -1.0]],
]
