"""ADELE: when the network starts to memorise, its confident predictions replace given labels.

A consistency term makes predictions agree over scales. Source: Liu et al., "Adaptive Early-Learning
Correction for Segmentation from Noisy Annotations", CVPR 2022. Here all objects share one curve.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from noisyvos.losses.pixels import VOID, Frame, frame, with_dice
from noisyvos.losses.selection import pixel_mean
from noisyvos.methods.base import METHODS
from noisyvos.methods.pixel_memory import PixelMemory, PixelMemoryMethod, on_frame, places
from noisyvos.models.base import Clip, ClipOutput
from noisyvos.registry import Settings


class LabelCorrectionSettings(Settings):
    """Settings of `adele`."""

    periods: int = Field(
        20, ge=4, description="Number of equal parts of the training, used as epochs."
    )
    fall: float = Field(
        0.9,
        gt=0,
        lt=1,
        description=(
            "Share of its first slope that the fitted curve must have lost before "
            "labels are corrected."
        ),
    )
    object_threshold: float = Field(
        0.8, ge=0.5, le=1, description="Probability above which a pixel is relabelled as object."
    )
    background_threshold: float = Field(
        0.8,
        ge=0.5,
        le=1,
        description=(
            "Probability above which a pixel is relabelled as background. The "
            "released code uses 0.95 for medical images."
        ),
    )
    consistency: float = Field(
        1.0,
        ge=0,
        description=(
            "Weight of the divergence between scales (lambda). 0 leaves out the "
            "passes at other scales."
        ),
    )
    scales: tuple[float, ...] = Field(
        (0.7, 1.5), description="Scales of the extra passes, besides 1."
    )
    sure: float = Field(
        0.8,
        ge=0,
        le=1,
        description=(
            "Consistency applies only to frames in which the mean probability of an "
            "object reaches this value."
        ),
    )
    dice: float = Field(1.0, ge=0, description="Weight of the dice term.")


def consistency(frames: Sequence[Frame], sure: float) -> Tensor:
    """Return the mean over scales and valid pixels of KL(p_s || mean of all p_s), (B,).

    It is 0 for frames without a confident object.
    """
    logs = torch.stack([each.log_probabilities for each in frames])  # (S, B, C, H, W)
    mean = logs.logsumexp(0) - float(np.log(len(frames)))
    divergence = (logs.exp() * (logs - mean)).sum(2).mean(0)
    valid = frames[0].valid
    highest = mean[:, 1:].exp().amax(1).masked_fill(~valid, 0).flatten(1).amax(1)
    return pixel_mean(divergence, valid) * (highest >= sure)


LEAST_POINTS = 4  # one more than the number of parameters of the curve


def fit_early_learning(overlaps: list[float]) -> tuple[float, float, float]:
    """Return a, b, c of f(x) = a (1 - exp(-x^b / c)), fitted by least squares.

    The data are `overlaps` at x = 1, 2, ... The bounds are a and b in [0, 1] and c >= 0. Source:
    Liu et al., CVPR 2022, equation 3.
    """
    from scipy.optimize import least_squares

    x, y = np.arange(1, len(overlaps) + 1, dtype=float), np.array(overlaps)

    def error(values: np.ndarray) -> np.ndarray:
        return curve(x, *values) - y

    tiny = 1e-6
    fitted = least_squares(error, (0.5, 0.5, 1.0), bounds=([tiny] * 3, [1, 1, np.inf])).x
    a, b, c = (float(value) for value in fitted)
    return a, b, c


def curve(x: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    """Return f(x) of the fitted curve."""
    return a * (1 - np.exp(-(x**b) / c))


def slope(x: float, a: float, b: float, c: float) -> float:
    """Return f'(x) of the fitted curve."""
    return float(a * b / c * x ** (b - 1) * np.exp(-(x**b) / c))


def is_memorising(overlaps: list[float], fall: float) -> bool:
    """Return whether the slope has decreased by more than the share `fall` since x = 1.

    The result is False with too few points.
    """
    if len(overlaps) < LEAST_POINTS:
        return False
    fitted = fit_early_learning(overlaps)
    first = slope(1, *fitted)
    return first > 0 and abs(slope(len(overlaps), *fitted) - first) / first > fall


@METHODS.register("adele", LabelCorrectionSettings)
class LabelCorrection(PixelMemoryMethod):
    """E[-log p_y] + dice on labels that are corrected once, plus consistency over scales."""

    settings: LabelCorrectionSettings
    averaged = ("top_p", "relabelled", "given_iou")

    def __init__(
        self, settings: LabelCorrectionSettings, total_iterations: int | None = None
    ) -> None:
        # Before the correction: the last prediction of every pixel. Afterwards: the source of the
        # corrected labels.
        super().__init__(settings, total_iterations, PixelMemory(0.0, 1.0))
        self.overlaps: list[float] = []  # mean IoU with the given labels, per completed period
        self.period, self.sum, self.count = 0, 0.0, 0  # of the current period
        # of this step: sample, time, sum and number of overlaps
        self.heard: list[tuple[int, int, float, int]] = []
        self.corrected_from = -1  # iteration of the correction; -1: not yet

    def views(self, clip: Clip, *, seed: int, iteration: int) -> list[Clip]:
        """Return the clip at the other scales, if consistency has a weight."""
        return (
            [clip.resized(scale) for scale in self.settings.scales]
            if self.settings.consistency
            else []
        )

    def frame_terms(
        self, now: Frame, iteration: int, scaled: Sequence[Frame] = ()
    ) -> dict[str, Any]:
        """Return the terms of one frame.

        They are `ce` (B,), `dice`, `consistency` (B,) (with frames of other scales), `top_p` = 1
        and `total`.
        """
        ce = pixel_mean(now.cross_entropy, now.valid)
        terms: dict[str, Any] = {"total": ce.mean(), "ce": ce, "top_p": 1.0}
        if scaled:
            terms["consistency"] = consistency([now, *scaled], self.settings.sure)
            terms["total"] = (
                terms["total"] + self.settings.consistency * terms["consistency"].mean()
            )
        return with_dice(terms, now, self.settings.dice)

    def clip_loss(
        self,
        outputs: list[ClipOutput],
        clip: Clip,
        *,
        teacher: ClipOutput | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return a clip's terms on given or corrected labels, and update the curve and the memory.

        `relabelled` is the share of corrected pixels.
        """
        self.advance(iteration)
        frames = []
        for time, logits in enumerate(outputs[0].logits, start=1):
            given = clip.masks[:, time]
            if self.corrected_from < 0:
                self.remember(frame(logits.detach(), given, clip.num_objects), clip, time)
                target = given
            else:
                target = self.corrected(given, clip, time)
            now, *scaled = (
                frame(output.logits[time - 1], target, clip.num_objects) for output in outputs
            )
            terms = self.frame_terms(now, iteration, scaled)
            frames.append({**terms, "relabelled": (target != given).float().mean()})
        return self.over_frames(frames)

    def advance(self, iteration: int) -> None:
        """Close a period that ended before `iteration` and decide whether to correct labels from
        now on.
        """
        period = iteration * self.settings.periods // self.length
        if period == self.period or self.corrected_from >= 0:
            return
        if self.count:
            self.overlaps.append(self.sum / self.count)
        self.period, self.sum, self.count = period, 0.0, 0
        if is_memorising(self.overlaps, self.settings.fall):
            self.corrected_from = iteration

    @torch.no_grad()
    def remember(self, now: Frame, clip: Clip, time: int) -> None:
        """Record the predictions, and their overlap with the given labels for the curve."""
        predicted = now.probabilities.argmax(1)
        sums, counts = (
            torch.zeros(len(predicted), dtype=torch.float64, device=predicted.device)
            for _ in range(2)
        )
        for label in range(1, now.used.shape[1]):
            ours, theirs = (predicted == label) & now.valid, now.target == label
            union = (ours | theirs).flatten(1).sum(1)
            sums += (ours & theirs).flatten(1).sum(1) / union.clamp(min=1).double()
            counts += union > 0
        for sample, (total, count) in enumerate(zip(sums.tolist(), counts.tolist(), strict=True)):
            self.heard.append((clip.place(sample)[0], time, total, int(count)))
        for place in places(clip, time, "adele"):
            self.memory.visit(place, now.probabilities[place.sample])

    def end_step(self) -> None:
        if self.corrected_from >= 0:
            return
        super().end_step()
        own, self.heard = self.heard, []
        for _, _, total, count in sorted(each for heard in self.from_all(own) for each in heard):
            self.sum += total
            self.count += count

    @torch.no_grad()
    def corrected(self, given: Tensor, clip: Clip, time: int) -> Tensor:
        """Return corrected labels (B, H, W).

        A prediction above its threshold replaces the given label. Void stays void.
        """
        labels = given.clone()
        for place in places(clip, time, "adele"):
            height, width = given.shape[1:]
            values, visits = self.memory.read(place.keys, place.warp.pixels.numel())
            mass = (visits.min(0) > 0).astype(np.float32)
            like = torch.zeros(clip.slots + 1, height, width, device=given.device)
            highest, label = on_frame(place, values, mass, like).max(0)
            threshold = torch.where(
                label > 0, self.settings.object_threshold, self.settings.background_threshold
            )
            own = labels[place.sample]
            labels[place.sample] = torch.where((highest > threshold) & (own != VOID), label, own)
        return labels

    def state_dict(self) -> dict[str, Any]:
        progress = {
            "overlaps": list(self.overlaps),
            "period": self.period,
            "sum": self.sum,
            "count": self.count,
        }
        return {**progress, "corrected_from": self.corrected_from, **super().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.overlaps, self.period, self.sum, self.count = (
            state[name] for name in ("overlaps", "period", "sum", "count")
        )
        self.overlaps, self.corrected_from = list(self.overlaps), state["corrected_from"]
        super().load_state_dict(state)
