"""Per-pixel losses and the Dice loss of one frame, with unused channels and void handled once."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from noisyvos.errors import UserError

VOID = 255
# finite, so that p * log p is exactly 0 on unused channels rather than 0 * -inf
UNUSED_LOGIT = -1e4


@dataclass(frozen=True)
class Frame:
    """Predictions and labels of one frame, ready for per-pixel losses.

    Logits are at least float32, so that a half-precision network does not reduce the precision of a
    loss. Channels above `num_objects[b]` of sample b are excluded from the softmax and get no
    gradient from it.
    """

    logits: Tensor  # (B, C, H, W) from the network
    log_probabilities: Tensor  # (B, C, H, W) log-softmax over the used channels
    used: Tensor  # (B, C, 1, 1) bool
    target: Tensor  # (B, H, W) int64, 255 = ignore
    valid: Tensor  # (B, H, W) bool, target != 255

    @cached_property
    def probabilities(self) -> Tensor:
        """Softmax over the used channels, (B, C, H, W); exactly 0 on unused ones."""
        return self.log_probabilities.exp()

    @cached_property
    def given_probability(self) -> Tensor:
        """Probability of the given label, (B, H, W); 1 on ignored pixels."""
        return self.cross_entropy.neg().exp()

    @cached_property
    def cross_entropy(self) -> Tensor:
        """Cross-entropy with the given label, (B, H, W); 0 on ignored pixels."""
        return cross_entropy(self.log_probabilities, self.target)

    @cached_property
    def one_hot(self) -> Tensor:
        """The given label as one-hot planes, (B, C, H, W) bool; all False on ignored pixels."""
        channels = torch.arange(self.used.shape[1], device=self.target.device).view(1, -1, 1, 1)
        return self.target.unsqueeze(1) == channels


def frame(logits: Tensor, target: Tensor, num_objects: Tensor) -> Frame:
    """Return a `Frame` of logits (B, K+1, H, W), target (B, H, W) and num_objects (B,).

    Raises UserError (a ValueError) if shapes or labels are inconsistent.
    """
    batch, channels, height, width = logits.shape
    if target.shape != (batch, height, width) or num_objects.shape != (batch,):
        raise UserError(
            f"The shapes of a frame do not fit together: logits {tuple(logits.shape)}, target "
            f"{tuple(target.shape)}, num_objects {tuple(num_objects.shape)}. "
            "Expected (B, K+1, H, W), (B, H, W) and (B,)."
        )
    valid = target != VOID
    if (
        target.device.type == "cpu"
        # on an accelerator this check would wait for the device at every frame
    ):
        highest = target.masked_fill(~valid, 0).amax((1, 2))
        if bool((highest > num_objects).any()) or int(num_objects.max()) >= channels:
            raise UserError(
                f"Labels up to {highest.tolist()} with num_objects {num_objects.tolist()} and "
                f"{channels} channels. A label must be at most its sample's num_objects "
                "(255 is ignored), and num_objects less than the number of channels."
            )
    logits = at_least_single(logits)
    used = (torch.arange(channels, device=logits.device) <= num_objects.unsqueeze(1)).view(
        batch, channels, 1, 1
    )
    return Frame(logits, restricted_log_softmax(logits, used), used, target, valid)


def at_least_single(logits: Tensor) -> Tensor:
    """Return half-precision logits as float32 and others unchanged."""
    return logits if logits.dtype == torch.float64 else logits.float()


def restricted_log_softmax(logits: Tensor, used: Tensor) -> Tensor:
    """Return the log-softmax over the channels marked in `used` (B, C, 1, 1)."""
    return functional.log_softmax(logits.masked_fill(~used, UNUSED_LOGIT), dim=1)


def cross_entropy(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """Return -log p of the label, (B, H, W); 0 where the label is 255."""
    return functional.nll_loss(log_probabilities, target, ignore_index=VOID, reduction="none")


def soft_cross_entropy(log_probabilities: Tensor, weights: Tensor) -> Tensor:
    """Return -sum_k w_k log p_k, (B, H, W), for target weights (B, C, H, W)."""
    return -(weights * log_probabilities).sum(dim=1)


def dice_loss(frame: Frame) -> Tensor:
    """Return the smoothed Dice loss over all object slots, a scalar (XMem, training loss).

    It is 1 - (2 sum(p g) + 1) / (sum p + sum g + 1) per slot and sample, averaged. p is the softmax
    over all channels, used or not. Slots without an object contribute about 0. Sums exclude void
    pixels.
    """
    probabilities = torch.softmax(frame.logits, dim=1)[:, 1:]
    labels = frame.one_hot[:, 1:]
    overlap = torch.where(labels, probabilities, 0).flatten(2).sum(2)
    predicted = torch.where(frame.valid.unsqueeze(1), probabilities, 0).flatten(2).sum(2)
    given = labels.flatten(2).sum(2)
    return (1 - (2 * overlap + 1) / (predicted + given + 1)).mean()


def with_dice(terms: dict[str, Any], frame: Frame, weight: float) -> dict[str, Any]:
    """Return a method's terms with `dice` added, times `weight`, to `total`.

    A weight of 0 changes nothing.
    """
    if not weight:
        return terms
    dice = dice_loss(frame)
    return terms | {"total": terms["total"] + weight * dice, "dice": dice}
