"""Partial-label and negative learning: a set of candidate labels contains the true label."""

import torch
from torch import Tensor

from noisyvos.losses.pixels import Frame, soft_cross_entropy


def candidates(frame: Frame, votes: Tensor) -> Tensor:
    """Return the candidate labels of each pixel, (B, C, H, W) bool.

    Candidates are the given label and the labels with most votes. votes (B, C, H, W) counts how
    often each label was predicted. Without votes only the given label is a candidate.
    """
    return frame.one_hot | ((votes > 0) & (votes == votes.amax(1, keepdim=True)))


def candidate_weights(frame: Frame, votes: Tensor, chosen: Tensor) -> Tensor:
    """Return the weight of each candidate, (B, C, H, W); they sum to 1 on a labelled pixel.

    Weights are proportional to the votes, with one more vote for the given label.
    """
    weights = (votes + frame.one_hot.to(votes.dtype)) * chosen
    return weights / weights.sum(1, keepdim=True).clamp(min=1)


def settled_labels(frame: Frame, weights: Tensor) -> Tensor:
    """Return the candidate of largest weight, (B, H, W). The given label wins ties; 255 stays."""
    heaviest, label = weights.max(1)
    given = (weights * frame.one_hot).sum(1)
    return torch.where(frame.valid & (heaviest > given), label, frame.target)


def partial_label_loss(frame: Frame, weights: Tensor) -> Tensor:
    """Return -sum_k w_k log p_k, (B, H, W), for weights (B, C, H, W), which get no gradient."""
    return soft_cross_entropy(frame.log_probabilities, weights.detach())


def negative_loss(frame: Frame, chosen: Tensor) -> Tensor:
    """Return -sum log(1 - p_k) over the used labels that are not candidates, (B, H, W).

    log(1 - p_k) is computed from the log p of the other labels, so it is always finite.
    """
    loss = torch.zeros_like(frame.cross_entropy)
    logs = frame.log_probabilities
    for label in range(logs.shape[1]):
        others = torch.cat([logs[:, :label], logs[:, label + 1 :]], 1).logsumexp(1)
        excluded = frame.used[:, label] & ~chosen[:, label]
        loss = loss - torch.where(excluded, others, 0)
    return loss


def view_consistency(weak: Frame, strong: Frame, sure: float) -> Tensor:
    """Return -log p_strong of the label predicted on the weak view, (B, H, W).

    It is 0 where that label's probability is below `sure`. The weak view gets no gradient.
    """
    probability, label = weak.probabilities.detach().max(1)
    loss = -strong.log_probabilities.gather(1, label.unsqueeze(1)).squeeze(1)
    return torch.where(probability >= sure, loss, 0)
