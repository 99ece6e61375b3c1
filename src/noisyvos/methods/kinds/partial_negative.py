"""NPN: frequently predicted labels become candidates; all other labels count as wrong.

Predictions on two views must agree. Source: Sheng et al., "Adaptive Integration of Partial Label
Learning and Negative Learning for Enhanced Noisy Label Learning", AAAI 2024, applied to single
pixels of video. docs/explanation/methods.md lists our additions.
"""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from noisyvos.losses import partial
from noisyvos.losses.pixels import Frame, frame, with_dice
from noisyvos.losses.scribbles import gray
from noisyvos.losses.selection import pixel_mean
from noisyvos.methods.base import METHODS
from noisyvos.methods.pixel_memory import CERTAIN, PixelMemory, PixelMemoryMethod, on_frame, places
from noisyvos.models.base import Clip, ClipOutput
from noisyvos.registry import Settings
from noisyvos.seeding import torch_generator


class PartialNegativeSettings(Settings):
    """Settings of `npn`. Defaults are those of ActiSeg-NL (warm-up: 2 of its 6 epochs)."""

    negative: float = Field(0.1, ge=0, description="Weight of negative learning (alpha).")
    consistency: float = Field(
        0.2,
        ge=0,
        description=(
            "Weight of agreement between the views (beta). 0 leaves out the pass of "
            "the strong view."
        ),
    )
    sure: float = Field(
        0.7,
        ge=0,
        le=1,
        description=(
            "Probability from which the weak view's label is asked of the strong view (tau)."
        ),
    )
    warmup: float = Field(
        1 / 3,
        ge=0,
        le=1,
        description=(
            "Share of the training in which labels are used as given and only votes are gathered."
        ),
    )
    disambiguation: Literal["soft", "hard"] = Field(
        "soft",
        description=(
            "`soft` weighs all candidates by their votes, `hard` takes the one with the most."
        ),
    )
    dice: float = Field(1.0, ge=0, description="Weight of the dice term.")


def strong_view(clip: Clip, seed: int, iteration: int) -> Clip:
    """Return a clip with changed colours, the same in all frames of a sample; pixels stay in place.

    Brightness changes by up to +-0.2, contrast by 0.5..1.5, saturation by 0..2 and channel gains by
    0.8..1.2. The values depend on (seed, iteration, sample).
    """
    changed = []
    for row, frames in enumerate(clip.frames):
        drawn = torch.rand(
            6, generator=torch_generator("strong view", seed, iteration, clip.place(row)[0])
        ).to(frames)
        brightness, contrast, saturation = 0.4 * drawn[0] - 0.2, 0.5 + drawn[1], 2 * drawn[2]
        gains = (0.8 + 0.4 * drawn[3:]).view(3, 1, 1)
        grey = gray(frames).unsqueeze(1)
        coloured = (grey + saturation * (frames - grey)) * gains
        middle = coloured.mean()
        changed.append((middle + contrast * (coloured - middle) + brightness).clamp(0, 1))
    return replace(clip, frames=torch.stack(changed))


@METHODS.register("npn", PartialNegativeSettings)
class PartialNegative(PixelMemoryMethod):
    """Partial-label loss, negative loss, agreement of views and dice.

    During the warm-up the loss is cross-entropy plus dice.
    """

    settings: PartialNegativeSettings
    averaged = ("top_p", "replaced")

    def __init__(
        self, settings: PartialNegativeSettings, total_iterations: int | None = None
    ) -> None:
        # one vote is one step of the uint8 map
        super().__init__(settings, total_iterations, PixelMemory(1.0, 1 / CERTAIN))

    def warming(self, iteration: int) -> bool:
        """Return whether `iteration` is in the warm-up."""
        return iteration < self.settings.warmup * self.length

    def views(self, clip: Clip, *, seed: int, iteration: int) -> list[Clip]:
        """Return the strong view after the warm-up."""
        return (
            []
            if self.warming(iteration) or not self.settings.consistency
            else [strong_view(clip, seed, iteration)]
        )

    def frame_terms(
        self, now: Frame, iteration: int, votes: Tensor | None = None, strong: Frame | None = None
    ) -> dict[str, Any]:
        """Return the terms of one frame.

        They are `partial` (B,), `negative` (B,), `agreement` (B,) (with a strong view), `replaced`
        (B,), `dice`, `top_p` = 1 and `total`. votes (B, K+1, H, W) counts how often each label was
        predicted at a pixel, including now; None: never. `replaced` is the share of pixels where
        another candidate outweighs the given label. In the warm-up, and without votes, `partial` is
        cross-entropy with the given label.
        """
        warming = self.warming(iteration)
        votes = (
            torch.zeros_like(now.log_probabilities)
            if votes is None or warming
            else votes.to(now.log_probabilities)
        )
        chosen = partial.candidates(now, votes)
        weights = partial.candidate_weights(now, votes, chosen)
        labels = partial.settled_labels(now, weights)
        settled = replace(now, target=labels)
        if self.settings.disambiguation == "hard":
            weights = settled.one_hot.to(weights)
        loss = pixel_mean(partial.partial_label_loss(now, weights), now.valid)
        terms: dict[str, Any] = {"total": loss.mean(), "partial": loss, "top_p": 1.0}
        terms["replaced"] = pixel_mean((labels != now.target).to(loss), now.valid)
        if not warming:
            terms["negative"] = pixel_mean(partial.negative_loss(now, chosen), now.valid)
            terms["total"] = terms["total"] + self.settings.negative * terms["negative"].mean()
        if strong is not None:
            terms["agreement"] = pixel_mean(
                partial.view_consistency(now, strong, self.settings.sure), now.valid
            )
            terms["total"] = terms["total"] + self.settings.consistency * terms["agreement"].mean()
        return with_dice(terms, settled, self.settings.dice)

    def clip_loss(
        self,
        outputs: list[ClipOutput],
        clip: Clip,
        *,
        teacher: ClipOutput | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return a clip's terms, with votes that include its predictions."""
        frames = []
        for time in range(1, clip.masks.shape[1]):
            now, *views = (
                frame(output.logits[time - 1], clip.masks[:, time], clip.num_objects)
                for output in outputs
            )
            frames.append(self.frame_terms(now, iteration, self.votes(now, clip, time), *views))
        return self.over_frames(frames)

    def votes(self, now: Frame, clip: Clip, time: int) -> Tensor:
        """Return how often each label was predicted at the pixels of frame `time`, (B, K+1, H, W).

        The current prediction is included.
        """
        said = now.log_probabilities.detach()
        one_hot = torch.zeros_like(said).scatter_(1, said.argmax(1, keepdim=True), 1)
        votes = torch.zeros_like(one_hot)
        for place in places(clip, time, "npn"):
            counts, visits = self.memory.visit(place, one_hot[place.sample])
            # objects omitted from some clips have fewer visits
            mass = visits.min(0).astype(np.float32) / np.float32(CERTAIN)
            votes[place.sample] = (
                on_frame(place, counts, mass, one_hot[place.sample]) * CERTAIN
            ).round()
        return votes
