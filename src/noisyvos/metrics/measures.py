"""Region similarity J and boundary accuracy F of one object in one frame, as DAVIS defines them.

Perazzi et al., "A benchmark dataset and evaluation methodology for video object segmentation",
CVPR 2016, section 4. Edge cases follow the evaluation code of the DAVIS 2017 challenge.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from noisyvos.metrics import packed


def tolerance(height: int, width: int) -> int:
    """Return the matching distance of boundary pixels: 0.8 % of the diagonal, rounded up."""
    return max(1, math.ceil(0.008 * math.sqrt(height * height + width * width)))


def jaccard(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Return the region similarity J, intersection over union, of two masks (H, W) bool.

    J is 1.0 if both are empty. Raises ValueError unless both are masks of one size.
    """
    prediction, truth = _masks(prediction, truth)
    union = np.count_nonzero(prediction | truth)
    return np.count_nonzero(prediction & truth) / union if union else 1.0


def boundary_f(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Return the boundary accuracy F of two masks (H, W) bool.

    F is the harmonic mean of boundary precision and recall, with the tolerance of the frame size.
    It is 1.0 if neither mask has a boundary (empty, or filling the frame), 0.0 if only one has.
    Raises ValueError unless both are masks of one size.
    """
    prediction, truth = _masks(prediction, truth)
    return float(compare(prediction.view(np.uint8), truth.view(np.uint8), (1,))[1][0])


def compare(
    prediction: np.ndarray, truth: np.ndarray, ids: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return J and F, two (K,) float64 arrays, of the K objects `ids` of two index masks.

    The masks are (H, W) uint8, and pixels of other ids, void among them, are background. Only the
    box around all objects is processed. An object that is in neither mask scores 1 at no cost.
    """
    height, width = truth.shape
    region, boundaries = np.ones(len(ids)), np.ones(len(ids))
    box = _box(prediction | truth, (0, 0, height, width), (height, width))
    if box is None:
        return region, boundaries
    prediction, truth = (mask[box[0] : box[2], box[1] : box[3]] for mask in (prediction, truth))
    for index, number in enumerate(ids):
        pair = prediction == number, truth == number
        inner = _box((pair[0] | pair[1]).view(np.uint8), box, (height, width))
        if inner is not None:
            top, left, bottom, right = inner
            window = slice(top - box[0], bottom - box[0]), slice(left - box[1], right - box[1])
            edges = right == width, bottom == height
            region[index], boundaries[index] = _compare_crops(
                pair[0][window], pair[1][window], tolerance(height, width), *edges
            )
    return region, boundaries


def _masks(prediction: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    prediction, truth = np.ascontiguousarray(prediction), np.ascontiguousarray(truth)
    for mask in (prediction, truth):
        if mask.ndim != 2 or 0 in mask.shape or mask.dtype not in (np.bool_, np.uint8):
            raise ValueError(f"a mask is (H, W) bool, not {mask.shape} {mask.dtype}")
    if prediction.shape != truth.shape:
        raise ValueError(
            f"prediction and truth differ in size: {prediction.shape} and {truth.shape} "
            "(height, width)"
        )
    return prediction.astype(bool, copy=False), truth.astype(bool, copy=False)


def _box(
    mask: np.ndarray, outer: tuple[int, ...], size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Return the box (top, left, bottom, right) around the non-zero pixels of a crop of a frame.

    `outer` is the box of the crop, and `size` the frame's (height, width). The result is in frame
    coordinates and one pixel larger on every side, since boundary pixels are up to one pixel
    outside an object.
    """
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return None
    top, left = top + outer[0], left + outer[1]
    return (
        max(0, top - 1),
        max(0, left - 1),
        min(size[0], top + height + 1),
        min(size[1], left + width + 1),
    )


def _compare_crops(
    prediction: np.ndarray, truth: np.ndarray, radius: int, at_right: bool, at_bottom: bool
) -> tuple[float, float]:
    """Return J and F of two bool crops that contain an object and its boundary completely."""
    stack = packed.pack((prediction, truth), radius)
    union = packed.count(stack[:, 0] | stack[:, 1])
    region = packed.count(stack[:, 0] & stack[:, 1]) / union if union else 1.0
    edges = packed.boundary(stack, prediction.shape[1], at_right, at_bottom)
    predicted, true = packed.count(edges[:, 0]), packed.count(edges[:, 1])
    if not predicted or not true:
        return region, float(predicted == true)
    matched = edges & packed.dilate(edges, radius)[:, ::-1]
    precision, recall = packed.count(matched[:, 0]) / predicted, packed.count(matched[:, 1]) / true
    total = precision + recall
    return region, 2 * precision * recall / total if total else 0.0
