"""ELR: a running average of early predictions keeps the network from memorising wrong labels."""

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

SMALLEST = 1e-4  # probabilities stay this far from 0 and 1


class EarlyLearningSettings(Settings):
    """Settings of `elr`.

    Published momentum and weight: 0.7 and 3 (CIFAR-10), 0.9 and 7 (CIFAR-100), 0.9 and 1
    (asymmetric noise).
    """

    momentum: float = Field(0.7, ge=0, lt=1, description="Momentum of the running average (beta).")
    weight: float = Field(1.0, ge=0, description="Weight of the regulariser (lambda).")
    visits: int = Field(
        2,
        ge=1,
        le=255,
        description=("Visits to a pixel, including the present one, before its average is used."),
    )
    dice: float = Field(1.0, ge=0, description="Weight of the dice term.")


def clamped(now: Frame) -> Tensor:
    """Return probabilities (B, C, H, W) clamped to [1e-4, 1 - 1e-4]; 0 on unused channels."""
    return now.probabilities.clamp(SMALLEST, 1 - SMALLEST) * now.used


@METHODS.register("elr", EarlyLearningSettings)
class EarlyLearning(PixelMemoryMethod):
    """E[-log p_y] + weight E[log(1 - <average, p>)] + dice.

    Source: Liu et al., "Early-Learning Regularization", NeurIPS 2020, equation 6.
    """

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
        """Return the terms of one frame.

        They are `ce` (B,), `regulariser` (B,), `remembered` (B,) (share of pixels with an average),
        `dice`, `top_p` = 1 and `total`. average (B, K+1, H, W) is the running average of every
        pixel, 0 where it is not available yet; None: nowhere.
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
        """Return a clip's terms, with averages that include its predictions."""
        frames = []
        for time, logits in enumerate(outputs[0].logits, start=1):
            now = frame(logits, clip.masks[:, time], clip.num_objects)
            frames.append(self.frame_terms(now, iteration, self.averages(now, clip, time)))
        return self.over_frames(frames)

    def averages(self, now: Frame, clip: Clip, time: int) -> Tensor:
        """Return the averages on the pixels of frame `time`, (B, K+1, H, W).

        They include the frame's predictions and are 0 before enough visits.
        """
        probabilities = clamped(now).detach()
        probabilities = probabilities / probabilities.sum(1, keepdim=True)
        average = torch.zeros_like(probabilities)
        for place in places(clip, time, "elr"):
            values, visits = self.memory.visit(place, probabilities[place.sample])
            # objects omitted from some clips have fewer visits
            least = visits.min(0)
            share = 1 - np.float32(self.settings.momentum) ** least.astype(np.float32)
            mass = np.where(least >= self.settings.visits, share, np.float32(0))
            average[place.sample] = on_frame(place, values, mass, probabilities[place.sample])
        return average
