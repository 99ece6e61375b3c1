"""Annotation errors of COCO-N: approximation, localisation and scale errors per object.

Source: the COCO-N benchmark of noisy instance segmentation, with its levels easy, medium and hard.
Its class flips are omitted, because video object segmentation has no classes.
"""

from typing import Literal

import cv2
import numpy as np
from pydantic import Field

from noisyvos.noise.base import NOISE, NoiseSettings, NoisyVideo, Video
from noisyvos.noise.engine.geometry import Patch, fill, outer_contours, simplify
from noisyvos.noise.engine.shapes import reshape_once

# per level: probability of each error, Douglas-Peucker tolerance, vertex jitter (standard
# deviation), side of the square kernel; lengths in pixels
LEVELS = {
    "easy": (0.2, 5.0, 2.0, 3),
    "medium": (0.25, 10.0, 3.0, 5),
    "hard": (0.3, 15.0, 4.0, 7),
}


class CocoSettings(NoiseSettings):
    """`scale` multiplies all lengths, for frames whose size differs much from 480p."""

    level: Literal["easy", "medium", "hard"] = Field(
        "medium", description="Published difficulty level."
    )
    scale: float = Field(
        1.0,
        gt=0,
        le=10,
        description="Factor on all lengths, for frames whose size differs much from 480p.",
    )
    temporal: Literal["iid"] = Field("iid", description="Only `iid` is defined for this kind.")


@NOISE.register("coco_n", CocoSettings)
def coco_n(video: Video, settings: CocoSettings) -> NoisyVideo:
    """Give each object at most one error: approximation, localisation or scale.

    Each error has the level's probability.
    """
    share, tolerance, wobble, kernel = LEVELS[settings.level]
    kernel = 2 * round((kernel - 1) / 2 * settings.scale) + 1

    def make(t: int, patch: Patch) -> np.ndarray:
        random = video.generator("error", patch.object_id, video.frames[t])
        error = int(random.random() / share)
        if error == 0:
            lines = [
                simplify(line, tolerance * settings.scale) for line in outer_contours(patch.inside)
            ]
            return fill(patch.inside.shape, lines)
        if error == 1:
            lines = outer_contours(patch.inside, every_pixel=False)
            moved = [
                np.rint(line + random.normal(0, wobble * settings.scale, line.shape))
                for line in lines
            ]
            return fill(patch.inside.shape, moved)
        if error == 2:
            change = cv2.dilate if random.random() < 0.5 else cv2.erode
            return change(
                patch.inside.astype(np.uint8), np.ones((kernel, kernel), np.uint8)
            ).astype(bool)
        return patch.inside

    return reshape_once(
        video, settings, make, lambda patch: round(6 * wobble * settings.scale) + kernel
    )
