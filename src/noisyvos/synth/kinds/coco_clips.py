"""Three-frame clips from one still image: the recipe of STM's first training stage.

The image becomes the background. Two growing homographies move it in frames 2 and 3. In half of the
clips, and in all without a usable instance, objects cut from other images are pasted over it and
moved by random affine maps.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from pydantic import Field

from noisyvos.io.images import four_channels, read_frame, three_channels
from noisyvos.io.mask_rules import histogram
from noisyvos.synth.clip import SynthClip
from noisyvos.synth.geometry import (
    apply_affine,
    random_affine,
    random_homographies,
    random_window,
    warp,
)
from noisyvos.synth.instances import Instances, extent, fill
from noisyvos.synth.recipe import PUBLISHED_CROP, RECIPES, ClipSeries, SeriesSettings

_MOST_OWN_WITH_PASTING = 5
_LAST_LABEL = 10  # labels above this are never objects of a clip
_MOST_DRAWS = 20


@dataclass(frozen=True)
class Lengths:
    """Lengths of the recipe in pixels (areas in square pixels) at one crop size."""

    crop: int
    base: int  # shorter side of the background image
    instance_area: float  # least pixels of an instance of the background image
    box_area: float  # least bounding-box area of a pasted object
    object_area: float  # an object of the clip has more pixels than this in frame 1
    # largest step of a pasted object between frames, x and y
    motion: tuple[int, int]


class CocoClipSettings(SeriesSettings):
    """Three-frame clips from COCO-format images (Xie et al., STM training; VISOR-VOS stage 1).

    At `crop` 384 every length is the published one. At other crops lengths scale with crop / 384
    and areas with its square.
    """

    max_objects: int = Field(
        5, ge=1, le=10, description="Most objects of a clip; more are sampled down."
    )
    max_instances: int = Field(
        19,
        ge=1,
        le=19,
        description="Most instances an image may bring itself; the published code fails at 20.",
    )
    symmetric_motion: bool = Field(
        False,
        description="Let pasted objects move left and up as well; published: right and down only.",
    )

    def lengths(self) -> Lengths:
        """Return the lengths at this crop."""
        scale = self.crop / PUBLISHED_CROP
        area = scale * scale
        motion = (max(1, round(40 * scale)), max(1, round(20 * scale)))
        return Lengths(self.crop, round(480 * scale), 2000 * area, 3000 * area, 350 * area, motion)


@RECIPES.register("coco_clips", CocoClipSettings)
def coco_clips(images: str | Path, settings: CocoClipSettings, seed: int = 0) -> ClipSeries:
    """Return the series of clips of a converted image dataset."""
    return ClipSeries(images, settings, seed, make_clip)


def make_clip(
    instances: Instances, image: int, settings: CocoClipSettings, generator: np.random.Generator
) -> SynthClip:
    """Return a clip with image number `image` as background; all randomness is from `generator`.

    Images without usable instances are not skipped: they become the background of pasted objects.
    """
    lengths = settings.lengths()
    background = read_frame(instances.folder / instances.files[image])
    own = _usable(instances, image, background.shape[:2], lengths)[: settings.max_instances]
    foreign: list[int] = []
    if generator.random() < 0.5:
        if not own:
            foreign = draw_objects(generator, instances, lengths)
    else:
        if len(own) > _MOST_OWN_WITH_PASTING:
            own = [
                own[i] for i in generator.choice(len(own), _MOST_OWN_WITH_PASTING, replace=False)
            ]
        foreign = draw_objects(generator, instances, lengths)
    labels = _label_map(own, background.shape[:2])
    background, labels = _base_transform(
        four_channels(background), labels, lengths.base, flip=generator.random() < 0.5
    )
    frames, masks = _warp_and_crop(generator, background, labels, lengths.crop)
    before = _areas(masks)
    label = len(own)
    for instance in foreign:
        patch = cut_out(instances, instance)
        if patch is not None:
            label += 1
            paste_object(generator, frames, masks, patch, label, lengths, settings.symmetric_motion)
    # background wraps to 255
    left = before if label == len(own) else _areas(masks - np.uint8(1) < len(own))
    hidden = (before - left) / np.maximum(before, 1)
    colours = np.empty((*frames.shape[:3], 3), np.uint8)
    for frame, place in zip(frames, colours, strict=True):
        three_channels(frame, place)
    return SynthClip(
        colours,
        _choose_objects(generator, masks, lengths, settings.max_objects),
        label - len(own),
        tuple(hidden.tolist()),
    )


def _areas(masks: np.ndarray) -> np.ndarray:
    """Return how many pixels of each mask (T, H, W) are set, (T,)."""
    return np.array([cv2.countNonZero(mask.view(np.uint8)) for mask in masks])


def _usable(
    instances: Instances, image: int, size: tuple[int, int], lengths: Lengths
) -> list[tuple[np.ndarray, tuple[int, int, int, int]]]:
    """Return (mask, window) of the large enough instances of an image, in the order of the file."""
    usable = []
    for instance in instances.in_image(image):
        shape = instances.shape(instance)
        if not shape:
            continue
        window = extent(shape, *size)
        left, top, right, bottom = window
        if (right - left) * (
            bottom - top
            # the mask cannot reach the area, so it need not be drawn
        ) < lengths.instance_area:
            continue
        mask = fill(shape, window)
        if cv2.countNonZero(mask) >= lengths.instance_area:
            usable.append((mask, window))
    return usable


def _label_map(
    own: list[tuple[np.ndarray, tuple[int, int, int, int]]], size: tuple[int, int]
) -> np.ndarray:
    """Return the label map (H, W) uint8 of instances 1..n. Earlier instances are in front."""
    labels = np.zeros(size, np.uint8)
    for label in range(len(own), 0, -1):
        mask, (left, top, right, bottom) = own[label - 1]
        labels[top:bottom, left:right][mask != 0] = label
    return labels


def _base_transform(
    image: np.ndarray, labels: np.ndarray, base: int, flip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return image and labels with the shorter side at `base`, optionally flipped left to right."""
    height, width = labels.shape
    size = (
        (int(base / height * width), base)
        if height <= width
        else (base, int(base / width * height))
    )
    if size != (width, height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    return (cv2.flip(image, 1), cv2.flip(labels, 1)) if flip else (image, labels)


def _warp_and_crop(
    generator: np.random.Generator, image: np.ndarray, labels: np.ndarray, crop: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return frames (3, crop, crop, 4) and label maps (3, crop, crop).

    They are the image (H, W, 4) and two growing homographies of it.
    """
    height, width = labels.shape
    maps = random_homographies(generator, height, width)
    whole = (0, 0, width, height)
    warped_labels = (
        (labels, *(warp(labels, matrix, whole) for matrix in maps))
        if labels.any()
        else (labels,) * 3
    )
    window = random_window(generator, warped_labels, crop)
    inside = (slice(window[1], window[3]), slice(window[0], window[2]))
    frames = np.empty((3, crop, crop, 4), np.uint8)
    frames[0] = image[inside]
    for frame, matrix in zip(frames[1:], maps, strict=True):
        warp(image, matrix, window, into=frame)
    return frames, np.stack([part[inside] for part in warped_labels])


def _choose_objects(
    generator: np.random.Generator, labels: np.ndarray, lengths: Lengths, most: int
) -> np.ndarray:
    """Return masks with ids 1..n for at most `most` labels that are large enough in frame 1.

    Other labels become background.
    """
    areas = histogram(labels[0])[1 : _LAST_LABEL + 1]
    chosen = np.flatnonzero(areas > lengths.object_area) + 1
    if len(chosen) > most:
        chosen = generator.choice(chosen, most, replace=False)
    ids = np.arange(1, len(chosen) + 1)
    if np.array_equal(chosen, ids) and labels.max() <= len(ids):
        return labels
    table = np.zeros(256, np.uint8)
    table[chosen] = ids
    return cv2.LUT(labels.reshape(-1, labels.shape[-1]), table).reshape(labels.shape)


@dataclass(frozen=True)
class CutOut:
    """A cut-out object: image (S, S, 4) and mask (S, S) uint8 0/1.

    The padding keeps the object whole under any rotation.
    """

    image: np.ndarray
    mask: np.ndarray


def draw_objects(
    generator: np.random.Generator, instances: Instances, lengths: Lengths
) -> list[int]:
    """Return one to three instances with a large enough box, drawn from the whole dataset.

    There are fewer if 20 draws do not find enough.
    """
    wanted = int(generator.integers(1, 3, endpoint=True))
    chosen: list[int] = []
    for _ in range(_MOST_DRAWS):
        if len(chosen) == wanted:
            break
        instance = int(generator.integers(len(instances.image)))
        if instances.boxes[instance, 2] * instances.boxes[instance, 3] >= lengths.box_area:
            chosen.append(instance)
    return chosen


def cut_out(instances: Instances, instance: int) -> CutOut | None:
    """Return an instance at its original scale.

    The result is None if it has no polygon (crowd) or no pixel inside its box.
    """
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
    above, beside = (int((diagonal - side) / 2) for side in (rows, columns))
    place = (slice(above, above + rows), slice(beside, beside + columns))
    wide_mask = np.zeros((rows + 2 * above, columns + 2 * beside), np.uint8)
    wide = np.zeros((*wide_mask.shape, 4), np.uint8)
    four_channels(image[top:bottom, left:right], wide[place])
    wide_mask[place] = mask
    return CutOut(wide, wide_mask)


def paste_object(
    generator: np.random.Generator,
    frames: np.ndarray,
    labels: np.ndarray,
    patch: CutOut,
    label: int,
    lengths: Lengths,
    symmetric: bool,
) -> None:
    """Paste `patch` as `label` into frames (3, H, W, 4) and labels (3, H, W), in place.

    Frame 1 shows it as cut out; frames 2 and 3 shift and warp it further.
    """
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
