"""STM's softmax over objects at inference, with the channels that no object uses (Oh et al., ICCV 2019, section 3.4)."""

from torch import Tensor

from noisyvos.models.matching import CLAMP, aggregate


def combine(probabilities: Tensor, channels: int) -> Tensor:
    """Join object probabilities (B, N, H, W) with a background in a softmax over `channels`; return (B, N + 1, H, W).

    Channels above N + 1 are unused: the published softmax gives each the odds of the clamp, about 1e-7, and they are left out here.
    """
    logits, _ = aggregate(probabilities)
    odds = logits.exp()
    unused = max(0, channels - odds.shape[1]) * CLAMP / (1 - CLAMP)
    return odds / (odds.sum(1, keepdim=True) + unused)
