"""Losses of whole masks rather than pixels."""

import math
from typing import Any

import torch
from torch import Tensor

from noisyvos.losses.pixels import Frame


def dice_loss(frame: Frame) -> Tensor:
    """Return the smoothed Dice loss of all object slots, a scalar (XMem, training loss; slots without an object give about 0).

    1 - (2 sum(p g) + 1) / (sum p + sum g + 1) for every slot and sample, averaged; p is the softmax over all channels,
    used or not. Void pixels are left out of every sum.
    """
    probabilities = torch.softmax(frame.logits, dim=1)[:, 1:]
    labels = frame.one_hot[:, 1:]
    overlap = torch.where(labels, probabilities, 0).flatten(2).sum(2)
    predicted = torch.where(frame.valid.unsqueeze(1), probabilities, 0).flatten(2).sum(2)
    given = labels.flatten(2).sum(2)
    return (1 - (2 * overlap + 1) / (predicted + given + 1)).mean()


def with_dice(terms: dict[str, Any], frame: Frame, weight: float) -> dict[str, Any]:
    """Return a method's terms with `dice` among them and, times `weight`, in `total`; unchanged for a weight of 0."""
    if not weight:
        return terms
    dice = dice_loss(frame)
    return terms | {"total": terms["total"] + weight * dice, "dice": dice}


def student_t(frame: Frame, log_degrees: Tensor) -> Tensor:
    """Return the negative log-likelihood of each object's error map under a Student-t distribution, per pixel, (B,).

    T-Loss with an identity scale matrix: the D errors p - y of one object are one draw, so whole masks are weighed
    down, not pixels. Degrees of freedom are exp(log_degrees) + 1e-8. Divided by D (ours) to be comparable between sizes;
    averaged over the objects of a sample.
    """
    objects = frame.used[:, 1:]
    error = frame.probabilities[:, 1:] - frame.one_hot[:, 1:].to(frame.probabilities.dtype)
    squares = torch.where(frame.valid.unsqueeze(1) & objects, error**2, 0).flatten(2).sum(2)
    degrees = log_degrees.to(error).exp() + 1e-8
    pixels = frame.valid.flatten(1).sum(1, keepdim=True).clamp(min=1).to(error.dtype)
    half = (degrees + pixels) / 2
    normaliser = (
        torch.lgamma(degrees / 2)
        - torch.lgamma(half)
        + pixels / 2 * (math.log(math.pi) + degrees.log())
    )
    likelihood = (normaliser + half * torch.log1p(squares / degrees)) / pixels
    present = objects.flatten(1)
    return torch.where(present, likelihood, 0).sum(1) / present.sum(1).clamp(min=1)
