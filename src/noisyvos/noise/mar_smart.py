"""SMART's Markov contour noise: a random walk of the boundary band, united with the object and smoothed.

As released, it can only add pixels before the smoothing, the structure's scale has no effect, and nothing seeds it.
"""

from collections.abc import Callable, Iterator
from math import ceil
from typing import Literal

import cv2
import numpy as np
from pydantic import Field
from scipy.ndimage import gaussian_filter

from noisyvos.io.images import VOID
from noisyvos.noise.base import NOISE, NoiseSettings, NoisyVideo, Video, object_ids
from noisyvos.noise.distance import Box, Patch, widen
from noisyvos.noise.morph import whole_box
from noisyvos.noise.shapes import reshape_once

SQUARE = np.ones((3, 3), np.uint8)
Rounds = Iterator[tuple[np.ndarray, bool]]  # per round: pixels that may change (h, w) bool, whether the band grows


class MarSettings(NoiseSettings):
    """`parity: true` treats void and overlaps as released: void is one more object and then erased, higher ids overwrite."""

    p: float = Field(0.5, ge=0, le=1)
    rounds: int = Field(30, ge=0, le=1000)
    sigma: float = Field(3.0, gt=0, le=50)
    parity: bool = False
    temporal: Literal["iid"] = "iid"

    @property
    def reach(self) -> int:
        """Pixels beyond which a mask can neither change nor be felt: the band's way, then the smoothing's support and one more."""
        return 1 + self.rounds + ceil(4 * self.sigma) + 1


@NOISE.register("mar_smart", MarSettings)
def mar_smart(video: Video, settings: MarSettings) -> NoisyVideo:
    """Perturb every touched object's contour."""

    def rounds(t: int, label: int, size: tuple[int, ...]) -> Rounds:
        random = video.generator("band", label, video.frames[t])
        for _ in range(settings.rounds):
            yield below(random, size, settings.p), bool(random.random() > 0.5)

    if settings.parity:
        masks = [
            released(mask, settings, lambda label, box, t=t: rounds(t, label, tuple(part.stop - part.start for part in box)))
            for t, mask in enumerate(video.masks)
        ]
        return NoisyVideo(masks, {(t, i) for t, mask in enumerate(video.masks) for i in object_ids(mask)})

    def make(t: int, patch: Patch) -> np.ndarray:
        return perturb(patch.inside, rounds(t, patch.object_id, patch.inside.shape), settings.sigma)

    return reshape_once(video, settings, make, lambda patch: settings.reach)


def below(random: np.random.Generator, size: tuple[int, ...], p: float) -> np.ndarray:
    """Return independent events of probability `p`; probabilities in 1/256 need only a byte a pixel."""
    if p * 256 == round(p * 256):
        return random.integers(0, 256, size, dtype=np.uint8) < p * 256
    return random.random(size, dtype=np.float32) < p


def perturb(inside: np.ndarray, rounds: Rounds, sigma: float) -> np.ndarray:
    """Return the perturbed object (h, w) bool: its band of boundary pixels walks, is united with it and smoothed."""
    picture = inside.astype(np.uint8)
    outer = cv2.dilate(picture, SQUARE, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    band = outer ^ cv2.erode(picture, SQUARE, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    for free, grow in rounds:
        change = cv2.dilate if grow else cv2.erode
        moved = change(band, SQUARE, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        np.copyto(band, moved, where=free)
    return gaussian_filter((picture | band).astype(np.float64), sigma) > 0.5


def released(mask: np.ndarray, settings: MarSettings, rounds_for: Callable[[int, Box], Rounds]) -> np.ndarray:
    """Return what the released process makes of a mask, given the draws of each label on its crop `box`."""
    noisy = np.zeros_like(mask)
    for label in np.flatnonzero(np.bincount(mask.ravel(), minlength=VOID + 1)):
        if label:
            box = widen(whole_box(mask == label), settings.reach, mask.shape)
            noisy[box][perturb(mask[box] == label, rounds_for(int(label), box), settings.sigma)] = label
    noisy[noisy == VOID] = 0
    return noisy
