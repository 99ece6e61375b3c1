"""SMART's Markov contour noise: a random walk of the boundary band, united with the object.

The union is smoothed. As in the released code, the walk can only add pixels before the smoothing,
and the structuring element's scale has no effect. The released code sets no seed; this one does.
"""

import functools
from collections.abc import Callable, Iterator
from math import ceil
from typing import Literal

import cv2
import numpy as np
from pydantic import Field

from noisyvos.io.masks import VOID
from noisyvos.noise.base import NOISE, NoiseSettings, NoisyVideo, Video
from noisyvos.noise.engine.geometry import Box, Patch, label_boxes, object_ids, widen
from noisyvos.noise.engine.shapes import reshape_once

SQUARE = np.ones((3, 3), np.uint8)
# per round: pixels that may change (h, w) uint8 0 or 1, and whether the band grows
Rounds = Iterator[tuple[np.ndarray, bool]]


class MarSettings(NoiseSettings):
    """`parity: true` treats void and overlaps as the released code does.

    Void is one more object and is erased afterwards. Higher ids overwrite lower ones.
    """

    p: float = Field(0.5, ge=0, le=1, description="Probability that a round touches a pixel.")
    rounds: int = Field(
        30, ge=0, le=1000, description="Number of rounds that grow or shrink the band."
    )
    sigma: float = Field(
        3.0,
        gt=0,
        le=50,
        description="Standard deviation of the Gaussian that smooths the result, in pixels.",
    )
    parity: bool = Field(
        False,
        description=(
            "Treat void and overlaps as the released code does. Void becomes one more "
            "object and is then erased. Higher ids overwrite lower ones."
        ),
    )
    temporal: Literal["iid"] = Field("iid", description="Only `iid` is defined for this kind.")

    @property
    def reach(self) -> int:
        """Distance in pixels beyond which the noise neither changes nor depends on the mask.

        It is the way of the band plus the support of the smoothing plus one.
        """
        return 1 + self.rounds + ceil(4 * self.sigma) + 1


@NOISE.register("mar_smart", MarSettings)
def mar_smart(video: Video, settings: MarSettings) -> NoisyVideo:
    """Perturb the contour of every affected object."""

    def rounds(t: int, label: int, box: Box) -> Rounds:
        size = tuple(part.stop - part.start for part in box)
        random = video.generator("band", label, video.frames[t])
        grows = random.random(settings.rounds) > 0.5
        yield from zip(events(random, size, settings.p), grows.tolist())

    if settings.parity:
        masks = [
            released(mask, settings, functools.partial(rounds, t))
            for t, mask in enumerate(video.masks)
        ]
        return NoisyVideo(
            masks, {(t, i) for t, mask in enumerate(video.masks) for i in object_ids(mask)}
        )

    def make(t: int, patch: Patch) -> np.ndarray:
        return perturb(patch.inside, rounds(t, patch.object_id, patch.box), settings.sigma)

    return reshape_once(video, settings, make, lambda patch: settings.reach)


def events(random: np.random.Generator, size: tuple[int, ...], p: float) -> Iterator[np.ndarray]:
    """Yield independent events of probability `p` for every pixel, (h, w) uint8 of 0 and 1."""
    while True:
        if p != 0.5:
            yield (random.random(size, dtype=np.float32) < p).view(np.uint8)
            continue
        # each byte holds eight coin flips
        coins = np.frombuffer(random.bytes(size[0] * size[1]), np.uint8).reshape(size)
        for bit in range(8):
            yield (coins >> bit) & 1


def perturb(inside: np.ndarray, rounds: Rounds, sigma: float) -> np.ndarray:
    """Return the perturbed object, (h, w) bool.

    Its band of boundary pixels walks, is united with the object and smoothed.
    """
    picture = inside.astype(np.uint8)
    outer = cv2.dilate(picture, SQUARE, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    inner = cv2.erode(picture, SQUARE, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    band = cv2.bitwise_xor(outer, inner).astype(np.uint8, copy=False)
    for free, grow in rounds:
        change = cv2.dilate if grow else cv2.erode
        moved = change(band, SQUARE, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        band ^= (band ^ moved.astype(np.uint8, copy=False)) & free
    return smooth(picture | band, sigma)


def smooth(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Return where the Gaussian of a 0/1 picture exceeds 1/2, (h, w) bool.

    The kernel is cut off at 4 sigma; the border is reflected.
    """
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    return (
        cv2.sepFilter2D(picture, cv2.CV_64F, weights, weights, borderType=cv2.BORDER_REFLECT) > 0.5
    )


def released(
    mask: np.ndarray, settings: MarSettings, rounds_for: Callable[[int, Box], Rounds]
) -> np.ndarray:
    """Return the result of the released process for a mask.

    `rounds_for` gives the draws of a label on its crop `box`.
    """
    noisy = np.zeros_like(mask)
    for label, tight in label_boxes(mask).items():
        box = widen(tight, settings.reach, mask.shape)
        noisy[box][perturb(mask[box] == label, rounds_for(label, box), settings.sigma)] = label
    noisy[noisy == VOID] = 0
    return noisy
