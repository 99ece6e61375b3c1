"""Base of the methods that use cross-entropy, with optional mining and dice."""

from typing import Any

from pydantic import Field
from torch import Tensor

from noisyvos.losses import selection
from noisyvos.losses.pixels import frame, with_dice
from noisyvos.methods.base import Method
from noisyvos.registry import Settings


class WithoutDice(Settings):
    """Settings of a method with a released counterpart."""

    parity: bool = Field(
        False, description="As in SMART's code: running sum over the batch and published schedule."
    )


class WithDice(WithoutDice):
    """Settings of a method with a dice term."""

    dice: float = Field(1.0, ge=0, description="Weight of the dice term.")


class CrossEntropy(Method):
    """Mean cross-entropy over all pixels, or over the largest losses if `mining`, plus dice."""

    settings: WithoutDice | WithDice
    mining = True

    def __init__(self, settings: Settings, total_iterations: int | None = None) -> None:
        super().__init__(settings, total_iterations)
        self.limits = selection.schedule_limits(total_iterations, self.settings.parity)
        self.accumulate = "faithful" if self.settings.parity else "mean"
        # the running sum of `parity` needs the whole batch
        self.in_parts = self.in_processes = not self.settings.parity
        self.dice_weight = getattr(settings, "dice", 0.0)

    def terms(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        num_objects: Tensor,
        teacher_logits: Tensor | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return `ce` (B,), `dice` (scalar, if the method has it), `top_p` and `total`."""
        share = selection.top_share(iteration, self.limits) if self.mining else 1.0
        now = frame(logits, target, num_objects)
        ce = selection.top_mean(now.cross_entropy, self.counted(now.valid), share)
        terms: dict[str, Any] = {
            "total": selection.over_batch(ce, self.accumulate),
            "ce": ce,
            "top_p": share,
        }
        # SMART's code adds the batch's dice once per sample
        times = len(ce) if self.settings.parity else 1
        return with_dice(terms, now, self.dice_weight * times)

    def counted(self, valid: Tensor) -> Tensor:
        """Return the pixels (B, H, W) that a mean is taken over."""
        return valid
