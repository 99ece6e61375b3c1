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
    """The shares of the training between which the share of kept pixels falls from 1 to 0.15."""

    start: float = Field(
        default=selection.START,
        ge=0,
        description="Share of the training at which the kept share starts to fall from 1.",
    )
    end: float = Field(
        default=selection.END, ge=0, description="Share of the training at which it reaches 0.15."
    )


class Mined(WithoutDice):
    """Settings that change XMem's mining into that of CFBI and AOC-Net."""

    mining: Fall = Field(Fall(), description="When the share of kept pixels falls.")
    void: Literal["left_out", "counted"] = Field(
        "left_out", description="`counted` keeps ignored pixels in the count, with a loss of 0."
    )
    frames: Literal["sum", "mean"] = Field(
        "sum",
        description=(
            "Whether the losses of the frames of a clip are added or averaged. The "
            "choice matters to `sgd`."
        ),
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Mined":
        if self.mining.end < self.mining.start:
            raise ValueError("`mining`: `end` must not be below `start`")
        if self.parity and self.mining != Fall():
            raise ValueError("`parity` is the published mining; leave out `mining` or `parity`")
        return self


@METHODS.register("ce_plain", WithDice)
class PlainCrossEntropy(CrossEntropy):
    """Mean cross-entropy over all pixels, plus dice: the baseline without mining."""

    mining = False


@METHODS.register("ce_topp", Mined)
class MinedCrossEntropy(CrossEntropy):
    """Mean of the largest cross-entropies, without dice.

    SMART adds its terms to this loss, and AOC-Net is trained with it.
    """

    settings: Mined

    def __init__(self, settings: Mined, total_iterations: int | None = None) -> None:
        super().__init__(settings, total_iterations)
        self.limits = selection.schedule_limits(
            total_iterations, settings.parity, settings.mining.start, settings.mining.end
        )
        if settings.frames == "mean":
            self.averaged = (*self.averaged, "total", "ce")

    def counted(self, valid: Tensor) -> Tensor:
        """Return the pixels (B, H, W) to choose from."""
        return torch.ones_like(valid) if self.settings.void == "counted" else valid


@METHODS.register("xmem", WithDice)
class XMemLoss(CrossEntropy):
    """Mean of the largest cross-entropies, plus dice (XMem; with `parity` as in SMART's code)."""
