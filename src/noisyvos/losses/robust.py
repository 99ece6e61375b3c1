"""Noise-robust losses: (B, H, W) or (B,) from a `Frame`. Values on ignored pixels are undefined."""

import math

import torch
from torch import Tensor

from noisyvos.losses.pixels import Frame, soft_cross_entropy

REVERSE_SCALE = -math.log(1e-4)
SMALLEST = 1e-7


def generalised_cross_entropy(frame: Frame, exponent: float) -> Tensor:
    """Return (1 - p_y^q) / q (Zhang and Sabuncu, 2018).

    It is cross-entropy for q -> 0 and 1 - p_y for q = 1.
    """
    return -torch.expm1(-exponent * frame.cross_entropy) / exponent


def reverse_cross_entropy(frame: Frame) -> Tensor:
    """Return -sum_k p_k log max(e_y, 1e-4)_k = 9.21 (1 - p_y) (Wang et al., 2019)."""
    return REVERSE_SCALE * (1 - frame.given_probability)


def mean_absolute_error(frame: Frame) -> Tensor:
    """Return 1 - p_y, half the L1 distance between softmax and one-hot label."""
    return 1 - frame.given_probability


def normalised_cross_entropy(frame: Frame) -> Tensor:
    """Return log p_y / sum_k log p_k over the used channels (Ma et al., 2020).

    Probabilities are clamped to at least 1e-7.
    """
    logs = frame.log_probabilities.clamp(min=math.log(SMALLEST))
    everything = torch.where(frame.used, logs, 0).sum(1)
    given = frame.cross_entropy.clamp(max=-math.log(SMALLEST))
    return given / everything.neg()


def bootstrapped_soft(frame: Frame, trust: float) -> Tensor:
    """Return -sum_k (b e_y + (1 - b) p)_k log p_k, with trust b (Reed et al., 2015).

    The target gets no gradient.
    """
    own = soft_cross_entropy(frame.log_probabilities, frame.probabilities.detach())
    return trust * frame.cross_entropy + (1 - trust) * own


def bootstrapped_hard(frame: Frame, trust: float) -> Tensor:
    """Return b times -log p of the given label plus (1 - b) times that of the predicted one.

    b is `trust` (Reed et al., 2015).
    """
    own = frame.log_probabilities.max(dim=1).values.neg()
    return trust * frame.cross_entropy + (1 - trust) * own


def student_t(frame: Frame, log_degrees: Tensor) -> Tensor:
    """Return the negative log-likelihood of error maps under a Student-t distribution, (B,).

    This is T-Loss with an identity scale matrix. The D errors p - y of one object are one draw, so
    whole masks are down-weighted rather than pixels. Degrees of freedom are exp(log_degrees) +
    1e-8. We divide by D, to compare sizes, and average over the objects of a sample.
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
