"""Losses for scribble labels (arXiv 2303.14384 and its code; focal loss: Lin et al. 2017, eq. 5).

Labels are int64: 0 background, 1..K objects, 255 unlabelled. With `pooled` a batch is one set of
pixels, as in the released code. Otherwise the loss is the mean over samples, so that a batch can be
computed in parts.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.losses.pixels import VOID

SMALL = 1e-6


def partial_cross_entropy(
    logits: Tensor, labels: Tensor, background_weight: float = 1.0, *, pooled: bool = False
) -> Tensor:
    """Return the weighted mean cross-entropy over all labelled pixels of a sample's frames.

    logits (B, T, K + 1, H, W), labels (B, T, H, W). Background pixels have weight
    `background_weight`. The loss is 0 without labelled pixels.
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
    """Return the mean sigmoid focal loss (gamma 2) over the pixels in `asked`.

    Positives have weight `alpha`, negatives 1 - `alpha`. All tensors are (B, ...); target and asked
    are bool.
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
    """Return the smoothness loss of probabilities (N, C, H, W), given the image (N, H, W) in [0,
    1].

    It sums over C and averages over N. First differences (Sobel) have ten times the weight of
    second ones (Laplace), all under a smooth absolute value. Image edges reduce the loss by
    exp(-alpha * edge), except on `labelled` pixels (N, H, W) if given.
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
    """Return the mean squared difference of probabilities (B, T, K + 1, H, W) over `channels`.

    The other channels must be equal in both.
    """
    return (one - other).square().mean() * (one.shape[2] / channels)


def ignore_bands(scribbles: Tensor, side: int) -> Tensor:
    """Return the pixels within a square of `side` (odd) pixels around a scribble but not on it.

    Both are 0/1 planes (..., H, W).
    """
    reach = side // 2
    rows = F.max_pool2d(scribbles.flatten(0, -3), (side, 1), 1, (reach, 0))
    wide = F.max_pool2d(rows, (1, side), 1, (0, reach)).view_as(scribbles)
    return wide - scribbles


def downsampled(planes: Tensor, cell: int) -> Tensor:
    """Return which cells are more than half filled: (..., H, W) 0/1 -> (..., H/cell, W/cell) bool.

    OpenCV's area reduction of bytes gives the same result, since it rounds a half to the even 0.
    """
    return (F.avg_pool2d(planes.flatten(0, -3), cell) > 0.5).unflatten(0, planes.shape[:-2])


def gray(frames: Tensor) -> Tensor:
    """Return the luminance (..., H, W) of RGB frames (..., 3, H, W) in [0, 1]."""
    red, green, blue = frames.unbind(-3)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _mean(values: Tensor, weights: Tensor, pooled: bool) -> Tensor:
    """Return the weighted mean of values (B, ...) that are already multiplied by their weights."""
    if pooled:
        return values.sum() / weights.sum().clamp(min=1e-8)
    return (values.flatten(1).sum(1) / weights.flatten(1).sum(1).clamp(min=1e-8)).mean()


_KERNELS = [
    [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]],
    [[-1.0, -2.0, -1.0], [0.0, 0.0, 0.0], [1.0, 2.0, 1.0]],
    [[-1.0, -1.0, -1.0], [-1.0, 8.0, -1.0], [-1.0, -1.0, -1.0]],
]
