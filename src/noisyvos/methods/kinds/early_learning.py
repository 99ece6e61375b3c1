"""ELR: what the network said of a pixel early on, averaged over its visits, holds it back from memorising a wrong label later."""

from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from noisyvos.losses.pixels import Frame, frame, with_dice
from noisyvos.losses.selection import pixel_mean
from noisyvos.methods.base import METHODS
from noisyvos.methods.pixel_memory import PixelMemory, PixelMemoryMethod, on_frame, places
from noisyvos.models.base import Clip, ClipOutput
from noisyvos.registry import Settings

SMALLEST = 1e-4  # probabilities are kept this far from 0 and 1


class EarlyLearningSettings(Settings):
    """Settings of `elr`; published momentum and weight: 0.7 and 3 (CIFAR-10), 0.9 and 7 (CIFAR-100), 0.9 and 1 (asymmetric noise)."""

    momentum: float = Field(0.7, ge=0, lt=1)  # beta, of the running average
    weight: float = Field(1.0, ge=0)  # lambda, of the regulariser
    visits: int = Field(
        2, ge=1, le=255
    )  # of a pixel, the present one included, before its average is used
    dice: float = Field(1.0, ge=0)


def clamped(now: Frame) -> Tensor:
    """Return probabilities (B, C, H, W) kept within 1e-4 of 0 and 1; 0 on unused channels."""
    return now.probabilities.clamp(SMALLEST, 1 - SMALLEST) * now.used


@METHODS.register("elr", EarlyLearningSettings)
class EarlyLearning(PixelMemoryMethod):
    """E[-log p_y] + weight E[log(1 - <average, p>)] + dice (Liu et al., "Early-Learning Regularization", NeurIPS 2020, eq. 6)."""

    settings: EarlyLearningSettings
    averaged = ("top_p", "remembered")

    def __init__(
        self, settings: EarlyLearningSettings, total_iterations: int | None = None
    ) -> None:
        super().__init__(
            settings, total_iterations, PixelMemory(settings.momentum, 1 - settings.momentum)
        )

    def frame_terms(
        self, now: Frame, iteration: int, average: Tensor | None = None
    ) -> dict[str, Any]:
        """Return `ce` (B,), `regulariser` (B,), `remembered` (B,) share of pixels with an average, `dice`, `top_p` = 1 and `total`.

        average (B, K+1, H, W): the running average of every pixel, 0 where there is none yet; None: nowhere.
        """
        ce = pixel_mean(now.cross_entropy, now.valid)
        average = (
            torch.zeros_like(now.log_probabilities)
            if average is None
            else average.to(now.log_probabilities)
        )
        agreement = (average * clamped(now)).sum(1)
        regulariser = pixel_mean(torch.log1p(-agreement), now.valid)
        remembered = pixel_mean((average.sum(1) > 0).to(ce), now.valid)
        total = (ce + self.settings.weight * regulariser).mean()
        terms = {
            "total": total,
            "ce": ce,
            "regulariser": regulariser,
            "remembered": remembered,
            "top_p": 1.0,
        }
        return with_dice(terms, now, self.settings.dice)

    def clip_loss(
        self,
        outputs: list[ClipOutput],
        clip: Clip,
        *,
        teacher: ClipOutput | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return a clip's terms with the averages as they are with its predictions."""
        frames = []
        for time, logits in enumerate(outputs[0].logits, start=1):
            now = frame(logits, clip.masks[:, time], clip.num_objects)
            frames.append(self.frame_terms(now, iteration, self.averages(now, clip, time)))
        return self.over_frames(frames)

    def averages(self, now: Frame, clip: Clip, time: int) -> Tensor:
        """Return the averages with frame `time`'s predictions on its pixels, (B, K+1, H, W); 0 before enough visits."""
        probabilities = clamped(now).detach()
        probabilities = probabilities / probabilities.sum(1, keepdim=True)
        average = torch.zeros_like(probabilities)
        for place in places(clip, time, "elr"):
            values, visits = self.memory.visit(place, probabilities[place.sample])
            least = visits.min(0)  # objects that were left out of a clip were visited less
            share = 1 - np.float32(self.settings.momentum) ** least.astype(np.float32)
            mass = np.where(least >= self.settings.visits, share, np.float32(0))
            average[place.sample] = on_frame(place, values, mass, probabilities[place.sample])
        return average
