"""SMART: cross-entropy plus terms that use a frozen teacher to judge the given labels.

The teacher was pretrained on clean data. Source: "Spatial Mask-Based Adaptive Robust Training for
Video Object Segmentation with Noisy Labels", IEEE TCSVT 2025. The terms follow the released code.
The settings `reliability_score`, `intersection_rule` and `accumulate` choose between it and
corrections.
"""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisyvos.errors import UserError
from noisyvos.losses import selection
from noisyvos.losses import smart as parts
from noisyvos.losses.pixels import Frame, cross_entropy, frame, with_dice
from noisyvos.methods.base import METHODS, Method
from noisyvos.registry import Settings

Term = Literal["reliability", "intersection", "union"]
PRESETS: dict[str, dict[str, float]] = {
    # the released run script
    "released": {"reliability": 1e-4, "intersection": 1.0, "union": 1e-4},
    "unit": {"reliability": 1.0, "intersection": 1.0, "union": 1.0},
}


class SmartSettings(Settings):
    """Settings of `smart`. None means: as released with `parity`, corrected without."""

    preset: Literal["released", "unit"] = Field(
        "released",
        description=(
            "`released` has the weights of the released run script, `unit` has weights of 1."
        ),
    )
    parity: bool = Field(
        False, description="Reproduce the released code with its published mining schedule."
    )
    weights: dict[Term, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="Weights that replace those of the preset."
    )
    without: tuple[Term, ...] = Field((), description="Terms left out of the total, for ablations.")
    reliability_score: Literal["labels", "foreground", "per_class"] | None = Field(
        None, description="How the overlap of given and teacher labels is measured."
    )
    intersection_rule: Literal["foreground", "class"] = Field(
        "foreground",
        description=(
            "`class` asks that the teacher sees the same object, `foreground` that it sees any."
        ),
    )
    accumulate: Literal["faithful", "mean"] | None = Field(
        None,
        description=(
            "`mean` averages over samples. `faithful` is the released running sum over the batch."
        ),
    )
    dice: float = Field(
        0.0,
        ge=0,
        description=(
            "Weight of a dice term. SMART has none, so it is for a fair comparison with `xmem`."
        ),
    )

    def term_weights(self) -> dict[str, float]:
        """Return the weight of each term."""
        weights = PRESETS[self.preset] | self.weights
        return {name: 0.0 if name in self.without else weight for name, weight in weights.items()}


@METHODS.register("smart", SmartSettings)
class Smart(Method):
    """CE + w_rel reliability + w_int intersection + w_uni union.

    Each term is the mean of its largest losses.
    """

    settings: SmartSettings
    teacher = True

    def __init__(self, settings: SmartSettings, total_iterations: int | None = None) -> None:
        super().__init__(settings, total_iterations)
        self.limits = selection.schedule_limits(total_iterations, settings.parity)
        self.weights = settings.term_weights()
        self.score = settings.reliability_score or ("labels" if settings.parity else "foreground")
        self.accumulate = settings.accumulate or ("faithful" if settings.parity else "mean")
        self.in_parts = self.in_processes = self.accumulate == "mean"

    def terms(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        num_objects: Tensor,
        teacher_logits: Tensor | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return `ce`, `reliability`, `intersection`, `union`, `sigma`, `top_p` and `total`.

        All except `top_p` and `total` are (B,) without weights. Raises UserError without
        `teacher_logits`.
        """
        if teacher_logits is None:
            raise UserError(
                "Method 'smart' compares labels with a teacher. "
                "Pass teacher_logits, the logits of the frozen network."
            )
        share = selection.top_share(iteration, self.limits)
        now = frame(logits, target, num_objects)
        teacher = parts.teacher_labels(teacher_logits, now)
        sigma = parts.reliability_score(target, teacher, num_objects, self.score).to(
            now.logits.dtype
        )
        losses = self.pixel_losses(now, teacher, sigma)
        # the same share of pixels for all terms
        means = selection.top_mean(
            torch.cat(list(losses.values())), now.valid.repeat(len(losses), 1, 1), share
        )
        terms = dict(zip(losses, means.chunk(len(losses)), strict=True))
        weighted = terms["ce"] + sum(weight * terms[name] for name, weight in self.weights.items())
        total = selection.over_batch(weighted, self.accumulate)
        return with_dice(
            {"total": total, **terms, "sigma": sigma, "top_p": share}, now, self.settings.dice
        )

    def pixel_losses(self, now: Frame, teacher: Tensor, sigma: Tensor) -> dict[str, Tensor]:
        """Return the four terms of every pixel, (B, H, W).

        teacher: labels (B, H, W). sigma: reliability of the given labels (B,).
        """
        log_probabilities, given = now.log_probabilities, now.cross_entropy
        trust = sigma.view(-1, 1, 1)
        common = parts.intersection_labels(now.target, teacher, self.settings.intersection_rule)
        either = (now.target != 0) | (teacher != 0)
        return {
            "ce": given,
            "reliability": trust * given + (1 - trust) * cross_entropy(log_probabilities, teacher),
            "intersection": cross_entropy(log_probabilities, common),
            "union": parts.union_reverse_cross_entropy(now, either),
        }
