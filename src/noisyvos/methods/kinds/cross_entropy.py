"""Cross-entropy with and without mining of the largest losses, with and without dice."""

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from noisyvos.losses import selection
from noisyvos.losses.pixels import frame
from noisyvos.losses.region import with_dice
from noisyvos.methods.base import METHODS, Method
from noisyvos.registry import Settings


class WithoutDice(Settings):
    """Settings of a method that has a released counterpart."""

    parity: bool = (
        False  # the running sum over the batch and the published schedule, as in SMART's code
    )


class Fall(Settings):
    """Between which shares of the training the share of kept pixels falls from 1 to 0.15."""

    start: float = Field(selection.START, ge=0)
    end: float = Field(selection.END, ge=0)


class Mined(WithoutDice):
    """Settings that make XMem's mining that of CFBI and AOC-Net."""

    mining: Fall = Fall()
    void: Literal["left_out", "counted"] = (
        "left_out"  # counted: ignored pixels are pixels with a loss of 0
    )
    frames: Literal["sum", "mean"] = (
        "sum"  # how the losses of a clip's frames join; with `sgd` it matters
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Mined":
        if self.mining.end < self.mining.start:
            raise ValueError("`mining`: `end` lies before `start`")
        if self.parity and self.mining != Fall():
            raise ValueError("`parity` is the published mining; leave out `mining` or `parity`")
        return self


class WithDice(WithoutDice):
    """Settings of a method with a dice term."""

    dice: float = Field(1.0, ge=0)  # weight of the dice term


class CrossEntropy(Method):
    """Mean cross-entropy over all pixels or over the largest losses, plus dice."""

    settings: WithoutDice | WithDice
    mining = True

    def __init__(self, settings: Settings, total_iterations: int | None = None) -> None:
        super().__init__(settings, total_iterations)
        self.limits = selection.schedule_limits(total_iterations, self.settings.parity)
        self.accumulate = "faithful" if self.settings.parity else "mean"
        self.in_parts = (
            self.in_processes
        ) = not self.settings.parity  # the running sum goes over the batch
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
        """Return `ce` (B,), `dice` (scalar, where the method has it), `top_p` and `total`; see the base class."""
        share = selection.top_share(iteration, self.limits) if self.mining else 1.0
        now = frame(logits, target, num_objects)
        ce = selection.top_mean(now.cross_entropy, self.counted(now.valid), share)
        terms: dict[str, Any] = {
            "total": selection.over_batch(ce, self.accumulate),
            "ce": ce,
            "top_p": share,
        }
        times = (
            len(ce) if self.settings.parity else 1
        )  # SMART's code adds the batch's dice once a sample
        return with_dice(terms, now, self.dice_weight * times)

    def counted(self, valid: Tensor) -> Tensor:
        """Return which pixels (B, H, W) a mean is taken over."""
        return valid


@METHODS.register("ce_plain", WithDice)
class PlainCrossEntropy(CrossEntropy):
    """Mean cross-entropy over all pixels, plus dice: the baseline without mining."""

    mining = False


@METHODS.register("ce_topp", Mined)
class MinedCrossEntropy(CrossEntropy):
    """Mean of the largest cross-entropies, no dice: what SMART's own terms are added to, and what AOC-Net is trained with."""

    settings: Mined

    def __init__(self, settings: Mined, total_iterations: int | None = None) -> None:
        super().__init__(settings, total_iterations)
        self.limits = selection.schedule_limits(
            total_iterations, settings.parity, settings.mining.start, settings.mining.end
        )
        if settings.frames == "mean":
            self.averaged = (*self.averaged, "total", "ce")

    def counted(self, valid: Tensor) -> Tensor:
        """Return which pixels (B, H, W) there are to choose from."""
        return torch.ones_like(valid) if self.settings.void == "counted" else valid


@METHODS.register("xmem", WithDice)
class XMemLoss(CrossEntropy):
    """Mean of the largest cross-entropies, plus dice (XMem; in `parity` as SMART's code has it)."""
