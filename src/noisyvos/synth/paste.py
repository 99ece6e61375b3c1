"""Objects cut out of other images and pasted over a clip."""

from dataclasses import dataclass

import cv2
import numpy as np

from noisyvos.io.images import read_frame
from noisyvos.synth.geometry import apply_affine, random_affine
from noisyvos.synth.instances import Instances, fill
from noisyvos.synth.recipe import Lengths

_MOST_DRAWS = 20


@dataclass(frozen=True)
class Patch:
    """A cut-out object: image (S, S, 3) and mask (S, S) uint8 0/1, padded so that a rotation keeps it whole."""

    image: np.ndarray
    mask: np.ndarray


def draw_objects(
    generator: np.random.Generator, instances: Instances, lengths: Lengths
) -> list[int]:
    """Return one to three instances with a large enough box, drawn from the whole dataset; fewer if 20 draws find none."""
    wanted = int(generator.integers(1, 3, endpoint=True))
    chosen: list[int] = []
    for _ in range(_MOST_DRAWS):
        if len(chosen) == wanted:
            break
        instance = int(generator.integers(len(instances.image)))
        if instances.boxes[instance, 2] * instances.boxes[instance, 3] >= lengths.box_area:
            chosen.append(instance)
    return chosen


def cut_out(instances: Instances, instance: int) -> Patch | None:
    """Return an instance as a patch at its own scale, or None if it has no polygon (crowd) or no pixel inside its box."""
    shape = instances.shape(instance)
    if not shape:
        return None
    image = read_frame(instances.folder / instances.files[instances.image[instance]])
    height, width = image.shape[:2]
    x, y, w, h = instances.boxes[instance]
    left, top, right, bottom = (
        max(0, int(x)),
        max(0, int(y)),
        min(width, int(x + w)),
        min(height, int(y + h)),
    )
    if right <= left or bottom <= top:
        return None
    mask = fill(shape, (left, top, right, bottom))
    if not mask.any():
        return None
    rows, columns = bottom - top, right - left
    diagonal = int(np.sqrt(rows**2 + columns**2))
    padding = [(int((diagonal - side) / 2),) * 2 for side in (rows, columns)]
    return Patch(np.pad(image[top:bottom, left:right], [*padding, (0, 0)]), np.pad(mask, padding))


def paste_object(
    generator: np.random.Generator,
    frames: np.ndarray,
    labels: np.ndarray,
    patch: Patch,
    label: int,
    lengths: Lengths,
    symmetric: bool,
) -> None:
    """Paste `patch` as `label` into frames (3, H, W, 3) and labels (3, H, W), in place: as cut out, then moved and warped twice."""
    crop = lengths.crop
    centre = generator.integers(0, crop, 2)
    image, mask = patch.image, patch.mask
    for time in range(3):
        if time > 0:
            low = [-most if symmetric else 0 for most in lengths.motion]
            centre = np.clip(
                centre + generator.integers(low, lengths.motion, endpoint=True), 0, crop - 1
            )
            matrix = random_affine(generator, *mask.shape)
            image, mask = apply_affine(image, matrix), apply_affine(mask, matrix)
        _place(frames[time], labels[time], image, mask, centre, label)


def _place(
    frame: np.ndarray,
    labels: np.ndarray,
    image: np.ndarray,
    mask: np.ndarray,
    centre: np.ndarray,
    label: int,
) -> None:
    height, width = mask.shape
    left, top = int(centre[0]) - width // 2, int(centre[1]) - height // 2
    x0, y0, x1, y1 = (
        max(0, left),
        max(0, top),
        min(labels.shape[1], left + width),
        min(labels.shape[0], top + height),
    )
    inside, part = (
        (slice(y0, y1), slice(x0, x1)),
        (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)),
    )
    cv2.copyTo(image[part], mask[part], frame[inside])
    labels[inside][mask[part] != 0] = label
