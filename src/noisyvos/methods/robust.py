"""Methods that only put another per-pixel loss in the place of cross-entropy; dice stays, and its weight is a setting."""

from abc import abstractmethod
from typing import Any

from pydantic import Field
from torch import Tensor

from noisyvos.losses import robust
from noisyvos.losses.pixels import Frame, frame
from noisyvos.losses.region import dice_loss
from noisyvos.losses.selection import pixel_mean
from noisyvos.methods.base import METHODS, Method
from noisyvos.registry import Settings


class DiceWeight(Settings):
    """Settings shared by all: dice is not robust to noise and can mask what the robust part does."""

    dice: float = Field(1.0, ge=0)


class PixelMethod(Method):
    """The mean over pixels of `pixel_loss`, averaged over samples, plus weighted dice."""

    settings: DiceWeight

    @abstractmethod
    def pixel_loss(self, now: Frame) -> Tensor:
        """Return the loss of every pixel, (B, H, W); values on ignored pixels are dropped."""

    def terms(
        self, logits: Tensor, target: Tensor, *, num_objects: Tensor, teacher_logits: Tensor | None = None, iteration: int = 0
    ) -> dict[str, Any]:
        """Return `robust` (B,), `dice` (scalar, unless its weight is 0), `top_p` = 1 and `total`; see the base class."""
        now = frame(logits, target, num_objects)
        loss = pixel_mean(self.pixel_loss(now), now.valid)
        terms: dict[str, Any] = {"total": loss.mean(), "robust": loss, "top_p": 1.0}
        if self.settings.dice:
            terms["dice"] = dice_loss(now)
            terms["total"] = terms["total"] + self.settings.dice * terms["dice"]
        return terms


class GeneralisedSettings(DiceWeight):
    """Settings of `gce`."""

    q: float = Field(0.7, gt=0, le=1)


@METHODS.register("gce", GeneralisedSettings)
class GeneralisedCrossEntropy(PixelMethod):
    """Generalised cross-entropy."""

    settings: GeneralisedSettings

    def pixel_loss(self, now: Frame) -> Tensor:
        return robust.generalised_cross_entropy(now, self.settings.q)
