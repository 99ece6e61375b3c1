"""STM's softmax over objects at inference, with the channels that no object uses (Oh et al., ICCV 2019, section 3.4)."""

from torch import Tensor

from noisyvos.models.matching import aggregate, softmax_with_unused


def combine(probabilities: Tensor, channels: int) -> Tensor:
    """Join object probabilities (B, N, H, W) with a background in a softmax over `channels`; return (B, N + 1, H, W)."""
    return softmax_with_unused(aggregate(probabilities)[0], channels)
