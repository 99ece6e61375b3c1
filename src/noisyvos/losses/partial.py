"""Learning from sets of labels: one of the candidates is right, none of the others is (partial-label and negative learning)."""

import torch
from torch import Tensor

from noisyvos.losses.pixels import Frame, soft_cross_entropy


def candidates(frame: Frame, votes: Tensor) -> Tensor:
    """Return which labels may be right, (B, C, H, W) bool: the given one, and those with most of a pixel's votes, if it has any.

    votes (B, C, H, W): how often each label was predicted. Without votes only the given label is a candidate.
    """
    return frame.one_hot | ((votes > 0) & (votes == votes.amax(1, keepdim=True)))


def candidate_weights(frame: Frame, votes: Tensor, chosen: Tensor) -> Tensor:
    """Return how much each candidate counts, (B, C, H, W), 1 in all on a labelled pixel: its votes, the given label having one more."""
    weights = (votes + frame.one_hot.to(votes.dtype)) * chosen
    return weights / weights.sum(1, keepdim=True).clamp(min=1)


def settled_labels(frame: Frame, weights: Tensor) -> Tensor:
    """Return the candidate that counts most, (B, H, W): the given label where none counts more; 255 stays."""
    heaviest, label = weights.max(1)
    given = (weights * frame.one_hot).sum(1)
    return torch.where(frame.valid & (heaviest > given), label, frame.target)


def partial_label_loss(frame: Frame, weights: Tensor) -> Tensor:
    """Return -sum_k w_k log p_k, (B, H, W), for weights (B, C, H, W) that get no gradient."""
    return soft_cross_entropy(frame.log_probabilities, weights.detach())


def negative_loss(frame: Frame, chosen: Tensor) -> Tensor:
    """Return -sum log(1 - p_k) over the used labels that are no candidates, (B, H, W); from the log p of the others, so never infinite."""
    loss = torch.zeros_like(frame.cross_entropy)
    logs = frame.log_probabilities
    for label in range(logs.shape[1]):
        others = torch.cat([logs[:, :label], logs[:, label + 1 :]], 1).logsumexp(1)
        excluded = frame.used[:, label] & ~chosen[:, label]
        loss = loss - torch.where(excluded, others, 0)
    return loss


def view_consistency(weak: Frame, strong: Frame, sure: float) -> Tensor:
    """Return -log p_strong of the label predicted on the weak view, (B, H, W), 0 where that has a probability below `sure`.

    No gradient goes through the weak view.
    """
    probability, label = weak.probabilities.detach().max(1)
    loss = -strong.log_probabilities.gather(1, label.unsqueeze(1)).squeeze(1)
    return torch.where(probability >= sure, loss, 0)
