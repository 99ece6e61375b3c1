"""Cross-entropy with and without mining of the largest losses, with and without dice."""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from noisyvos.losses import selection
from noisyvos.methods.base import METHODS
from noisyvos.methods.cross_entropy import CrossEntropy, WithDice, WithoutDice
from noisyvos.registry import Settings


class Fall(Settings):
    """Between which shares of the training the share of kept pixels falls from 1 to 0.15."""

    start: float = Field(default=selection.START, ge=0)
    end: float = Field(default=selection.END, ge=0)


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
