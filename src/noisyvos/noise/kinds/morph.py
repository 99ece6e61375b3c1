"""Morphological label noise as SMART released it: a fixed elliptical element, whatever the object's size.

Operators: D dilate, E erode, EAD dilate then erode (a closing), DAE erode then dilate (an opening), each step `iterations`
times. `kernel: 9|15|21` with `shape: rectangle`, operator D and one iteration is the noise of ActiSeg-NL.
"""

from typing import Literal

import cv2
import numpy as np
from pydantic import Field, field_validator

from noisyvos.io.masks import VOID
from noisyvos.noise.base import NOISE, NoiseSettings, NoisyVideo, Video, affected_objects
from noisyvos.noise.engine.geometry import Box, cut_patch, label_boxes, widen
from noisyvos.noise.engine.shapes import Proposal, composite


class MorphSettings(NoiseSettings):
    """`parity: true` reproduces the released generator: the smallest value of the mask is passed over (so a mask without
    background loses its first object), void is treated as one more object and then erased, higher ids overwrite lower ones,
    and objects may vanish. Otherwise the rules of the other kinds hold."""

    operator: Literal["D", "E", "EAD", "DAE"] = "EAD"
    kernel: int = Field(5, ge=1, le=99)
    iterations: int = Field(3, ge=0, le=50)
    shape: Literal["ellipse", "rectangle"] = "ellipse"
    parity: bool = False

    @field_validator("kernel")
    @classmethod
    def odd(cls, value: int) -> int:
        """Refuse even kernels: they have no centre."""
        if value % 2 == 0:
            raise ValueError("the kernel must be an odd number of pixels")
        return value

    @property
    def reach(self) -> int:
        """How many pixels a boundary can move."""
        return self.kernel // 2 * self.iterations


@NOISE.register("morph", MorphSettings)
def morph(video: Video, settings: MorphSettings) -> NoisyVideo:
    """Apply the operator to every touched object."""
    found = [
        label_boxes(mask) for mask in video.masks
    ]  # once: it costs as much as the operator itself
    touched = affected_objects(
        video, settings, [[i for i in boxes if i != VOID] for boxes in found]
    )
    result = NoisyVideo([], {(t, i) for t, ids in enumerate(touched) for i in ids})
    for t, mask in enumerate(video.masks):
        if settings.parity:
            result.masks.append(_released(mask, settings, found[t]))
            continue
        proposals = []
        for i in touched[t]:
            patch = cut_patch(mask, i, found[t][i], settings.reach + 1)
            proposals.append(Proposal(patch, operate(patch.inside, settings)))
        noisy, rescued = composite(mask, proposals)
        result.masks.append(noisy)
        result.rescued |= {(t, i) for i in rescued}
    return result


def operate(inside: np.ndarray, settings: MorphSettings) -> np.ndarray:
    """Return the operator's result on a bool crop; the image border neither adds nor removes pixels."""
    form = cv2.MORPH_ELLIPSE if settings.shape == "ellipse" else cv2.MORPH_RECT
    element = cv2.getStructuringElement(form, (settings.kernel, settings.kernel))
    picture: np.ndarray = inside.astype(np.uint8)
    for step in {"D": "D", "E": "E", "EAD": "DE", "DAE": "ED"}[settings.operator]:
        change = cv2.dilate if step == "D" else cv2.erode
        picture = change(picture, element, iterations=settings.iterations)
    return picture.astype(bool)


def _released(mask: np.ndarray, settings: MorphSettings, boxes: dict[int, Box]) -> np.ndarray:
    """Return what the released generator writes for a mask, on crops around each label instead of whole frames.

    A crop cuts background only, and is wide enough that neither step reaches its edge unless that is the image's edge.
    """
    if boxes and mask.all():
        boxes = {label: box for label, box in boxes.items() if label != min(boxes)}
    noisy = np.zeros_like(mask)
    for label, box in boxes.items():
        wide = widen(box, settings.reach + 1, mask.shape)
        noisy[wide][operate(mask[wide] == label, settings)] = label
    if VOID in boxes:
        noisy[noisy == VOID] = 0
    return noisy
