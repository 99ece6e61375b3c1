"""Boundary noise as a Markov process that grows, shrinks or drifts.

Source: Yao et al., "Learning to segment from noisy annotations: a spatial correction approach"
(released code).
"""

from typing import Literal

import cv2
import numpy as np
from pydantic import Field

from noisyvos.noise.base import NOISE, GeometricSettings, NoisyVideo, Video
from noisyvos.noise.engine.geometry import Patch
from noisyvos.noise.engine.shapes import Search, Shape, reshape_objects

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
LONGEST = 4000  # steps


class MarkovSettings(GeometricSettings):
    """`flip` (theta2): probability that a ring pixel flips in a step.

    Calibration finds the number of steps.
    """

    flip: float = Field(
        0.05,
        gt=0,
        le=1,
        description=(
            "Probability that a pixel of the ring flips in one step (theta2). "
            "Calibration finds the number of steps."
        ),
    )
    temporal: Literal["iid"] = Field("iid", description="Only `iid` is defined for this kind.")


@NOISE.register("markov_grow", MarkovSettings)
def markov_grow(video: Video, settings: MarkovSettings) -> NoisyVideo:
    """Step outward with probability 0.8, inward otherwise."""
    return wander(video, settings, 0.8)


@NOISE.register("markov_shrink", MarkovSettings)
def markov_shrink(video: Video, settings: MarkovSettings) -> NoisyVideo:
    """Step outward with probability 0.2, inward otherwise."""
    return wander(video, settings, 0.2)


@NOISE.register("markov_neutral", MarkovSettings)
def markov_neutral(video: Video, settings: MarkovSettings) -> NoisyVideo:
    """Step outward and inward with equal probability."""
    return wander(video, settings, 0.5)


def wander(video: Video, settings: MarkovSettings, outward: float) -> NoisyVideo:
    """Run the process on every affected object until it reaches IoU q."""

    def make(t: int, patch: Patch) -> Shape:
        walk = Walk(
            patch.inside,
            outward,
            settings.flip,
            video.generator("steps", patch.object_id, video.frames[t]),
        )
        return lambda strength: walk.at(round(strength))

    return reshape_objects(video, settings, make, Search(limit=LONGEST, start=16, step=1))


class Walk:
    """One run of the process. It keeps all states, so other lengths need no new draws."""

    def __init__(
        self, inside: np.ndarray, outward: float, flip: float, random: np.random.Generator
    ) -> None:
        self.size, self.outward, self.flip, self.random = inside.shape, outward, flip, random
        self.state = inside.astype(np.uint8)
        self.kept = [np.packbits(self.state)]

    def at(self, steps: int) -> np.ndarray:
        """Return the mask after `steps` steps, (h, w) bool, smoothed by a 5x5 Gaussian (sigma 2).

        The smoothed mask is cut at 1/2.
        """
        while len(self.kept) <= steps:
            self.step()
        picture = np.unpackbits(self.kept[steps], count=self.size[0] * self.size[1]).reshape(
            self.size
        )
        return smooth(picture) if steps else picture.astype(bool)

    def step(self) -> None:
        """Flip each pixel of the ring just outside (or just inside) with the flip probability.

        Numbers are drawn for ring pixels in raster order, so they do not depend on the crop.
        """
        out = self.random.random() < self.outward
        ring = (
            cv2.dilate(self.state, CROSS) - self.state
            if out
            else self.state - cv2.erode(self.state, CROSS)
        )
        places = np.flatnonzero(ring.view(bool))
        flipped = places[self.random.random(len(places)) < self.flip]
        self.state.ravel()[flipped] = 1 if out else 0
        self.kept.append(np.packbits(self.state))


def smooth(picture: np.ndarray) -> np.ndarray:
    """Return where the 5x5 Gaussian (sigma 2) of a 0/1 picture exceeds 1/2, (h, w) bool.

    The weights are integers whose sums stay below 2^24, so 32-bit floats are exact and equal on any
    machine.
    """
    return 2 * cv2.sepFilter2D(picture, cv2.CV_32F, _WEIGHTS, _WEIGHTS) > _WEIGHTS.sum() ** 2


_WEIGHTS = np.rint(1000 * np.exp(-(np.arange(-2, 3) ** 2) / 8)).astype(np.float32)
