"""Methods that replace cross-entropy by another per-pixel loss and keep dice."""

from abc import abstractmethod
from typing import Any

from pydantic import Field
from torch import Tensor

from noisyvos.losses import robust
from noisyvos.losses.pixels import Frame, frame, with_dice
from noisyvos.losses.selection import pixel_mean
from noisyvos.methods.base import METHODS, Method
from noisyvos.registry import Settings


class DiceWeight(Settings):
    """The weight of dice, which is not robust to noise and can mask the robust part."""

    dice: float = Field(1.0, ge=0, description="Weight of the dice term.")


class PixelMethod(Method):
    """The mean over pixels of `pixel_loss`, averaged over samples, plus weighted dice."""

    settings: DiceWeight

    @abstractmethod
    def pixel_loss(self, now: Frame) -> Tensor:
        """Return the loss of every pixel, (B, H, W). Values on ignored pixels are dropped."""

    def terms(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        num_objects: Tensor,
        teacher_logits: Tensor | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return `robust` (B,), `dice` (scalar, unless its weight is 0), `top_p` = 1 and
        `total`.
        """
        now = frame(logits, target, num_objects)
        loss = pixel_mean(self.pixel_loss(now), now.valid)
        return with_dice(
            {"total": loss.mean(), "robust": loss, "top_p": 1.0}, now, self.settings.dice
        )


class GeneralisedSettings(DiceWeight):
    """Settings of `gce`."""

    q: float = Field(
        0.7,
        gt=0,
        le=1,
        description="Exponent. Towards 0 the loss is cross-entropy, at 1 it is 1 - p.",
    )


@METHODS.register("gce", GeneralisedSettings)
class GeneralisedCrossEntropy(PixelMethod):
    """Generalised cross-entropy."""

    settings: GeneralisedSettings

    def pixel_loss(self, now: Frame) -> Tensor:
        return robust.generalised_cross_entropy(now, self.settings.q)


class BootstrapSettings(DiceWeight):
    """Settings of `boot_soft` and `boot_hard`."""

    trust: float = Field(
        0.95, ge=0, le=1, description="Weight of the given label; the prediction has the rest."
    )


class HardBootstrapSettings(BootstrapSettings):
    """Settings of `boot_hard`."""

    trust: float = Field(
        0.8, ge=0, le=1, description="Weight of the given label; the prediction has the rest."
    )


@METHODS.register("boot_soft", BootstrapSettings)
class SoftBootstrap(PixelMethod):
    """Cross-entropy with a mixture of label and prediction."""

    settings: BootstrapSettings

    def pixel_loss(self, now: Frame) -> Tensor:
        return robust.bootstrapped_soft(now, self.settings.trust)


@METHODS.register("boot_hard", HardBootstrapSettings)
class HardBootstrap(PixelMethod):
    """Cross-entropy with a mixture of label and predicted label."""

    settings: HardBootstrapSettings

    def pixel_loss(self, now: Frame) -> Tensor:
        return robust.bootstrapped_hard(now, self.settings.trust)


class SymmetricSettings(DiceWeight):
    """Settings of `sce`."""

    alpha: float = Field(0.1, ge=0, description="Weight of cross-entropy.")
    beta: float = Field(1.0, ge=0, description="Weight of reverse cross-entropy.")


@METHODS.register("sce", SymmetricSettings)
class SymmetricCrossEntropy(PixelMethod):
    """Cross-entropy plus reverse cross-entropy."""

    settings: SymmetricSettings

    def pixel_loss(self, now: Frame) -> Tensor:
        return (
            self.settings.alpha * now.cross_entropy
            + self.settings.beta * robust.reverse_cross_entropy(now)
        )


class ActivePassiveSettings(DiceWeight):
    """Settings of `apl`."""

    alpha: float = Field(
        1.0, ge=0, description="Weight of the active loss, normalised cross-entropy."
    )
    beta: float = Field(1.0, ge=0, description="Weight of the passive loss, reverse cross-entropy.")


@METHODS.register("apl", ActivePassiveSettings)
class ActivePassive(PixelMethod):
    """Normalised plus reverse cross-entropy."""

    settings: ActivePassiveSettings

    def pixel_loss(self, now: Frame) -> Tensor:
        return self.settings.alpha * robust.normalised_cross_entropy(
            now
        ) + self.settings.beta * robust.reverse_cross_entropy(now)


class ActiSegSettings(DiceWeight):
    """Settings of `apl_actiseg`."""

    alpha: float = Field(10.0, ge=0, description="Weight of generalised cross-entropy.")
    beta: float = Field(1.0, ge=0, description="Weight of the mean absolute error.")
    q: float = Field(0.7, gt=0, le=1, description="Exponent of the generalised cross-entropy.")


@METHODS.register("apl_actiseg", ActiSegSettings)
class ActiSegActivePassive(PixelMethod):
    """Generalised cross-entropy plus mean absolute error, which ActiSeg-NL calls APL."""

    settings: ActiSegSettings

    def pixel_loss(self, now: Frame) -> Tensor:
        generalised = robust.generalised_cross_entropy(now, self.settings.q)
        return self.settings.alpha * generalised + self.settings.beta * robust.mean_absolute_error(
            now
        )
