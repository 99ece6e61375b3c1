"""Morphological label noise as released with SMART: a fixed elliptical structuring element.

Operators: D dilation, E erosion, EAD dilation then erosion (a closing), DAE erosion then dilation
(an opening). Each step runs `iterations` times. `kernel: 9|15|21` with `shape: rectangle`, operator
D and one iteration is the noise of ActiSeg-NL.
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
    """`parity: true` reproduces the released generator.

    It skips the smallest value of the mask, so a mask without background loses its first object.
    Void is one more object and is erased afterwards. Higher ids overwrite lower ones, and objects
    may vanish. Without parity the rules of the other kinds apply.
    """

    operator: Literal["D", "E", "EAD", "DAE"] = Field(
        "EAD",
        description=(
            "D dilates, E erodes, EAD dilates then erodes (closing), DAE erodes then "
            "dilates (opening)."
        ),
    )
    kernel: int = Field(5, ge=1, le=99, description="Side of the structuring element in pixels.")
    iterations: int = Field(3, ge=0, le=50, description="How often the operator is applied.")
    shape: Literal["ellipse", "rectangle"] = Field(
        "ellipse", description="Shape of the structuring element."
    )
    parity: bool = Field(
        False,
        description=(
            "Give the bytes of the released generator. Objects may vanish, void is "
            "erased, higher ids overwrite lower ones."
        ),
    )

    @field_validator("kernel")
    @classmethod
    def odd(cls, value: int) -> int:
        """Refuse even kernels, which have no centre pixel."""
        if value % 2 == 0:
            raise ValueError("the kernel must be an odd number of pixels")
        return value

    @property
    def reach(self) -> int:
        """Largest distance in pixels that a boundary moves."""
        return self.kernel // 2 * self.iterations


@NOISE.register("morph", MorphSettings)
def morph(video: Video, settings: MorphSettings) -> NoisyVideo:
    """Apply the operator to every affected object."""
    # once per mask: it costs as much as the operator
    found = [label_boxes(mask) for mask in video.masks]
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
    """Return the operator's result on a bool crop. The image border adds and removes no pixels."""
    form = cv2.MORPH_ELLIPSE if settings.shape == "ellipse" else cv2.MORPH_RECT
    element = cv2.getStructuringElement(form, (settings.kernel, settings.kernel))
    picture: np.ndarray = inside.astype(np.uint8)
    for step in {"D": "D", "E": "E", "EAD": "DE", "DAE": "ED"}[settings.operator]:
        change = cv2.dilate if step == "D" else cv2.erode
        picture = change(picture, element, iterations=settings.iterations)
    return picture.astype(bool)


def _released(mask: np.ndarray, settings: MorphSettings, boxes: dict[int, Box]) -> np.ndarray:
    """Return the mask that the released generator writes, computed on crops around each label.

    The crop's margin exceeds the reach of the operator, so results equal those on whole frames.
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
