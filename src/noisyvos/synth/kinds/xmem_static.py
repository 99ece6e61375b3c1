"""Pseudo-videos of one still image by affine and thin-plate warps (XMem's stage 0).

Source: Cheng and Schwing 2022, released training code. Geometry and colour follow Pillow, as
torchvision's PIL backend does. With `max_objects: 2` and `thin_plate: 0` the recipe serves
AFB-URR's still-image stage.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pydantic import Field

from noisyvos.datasets.augmentations.colour import jitter
from noisyvos.io.images import read_frame
from noisyvos.synth.clip import SynthClip
from noisyvos.synth.instances import Instances, extent, fill
from noisyvos.synth.recipe import RECIPES, ClipSeries, SeriesSettings
from noisyvos.synth.thin_plate import random_map

MEAN_COLOUR = (124, 116, 104)  # ImageNet's mean, the fill outside the image
GREY = 0.05  # probability of a clip in grey
_BICUBIC, _NEAREST = Image.Resampling.BICUBIC, Image.Resampling.NEAREST


class StaticClipSettings(SeriesSettings):
    """Three warped views of one image. The shorter side of the image is scaled to `crop`."""

    max_objects: int = Field(
        1,
        ge=1,
        le=10,
        description="Most objects of a clip, drawn from the instances of the image; published: 1.",
    )
    min_area: float = Field(
        0,
        ge=0,
        lt=1,
        description="Least share of the image that an instance must cover to be an object.",
    )
    thin_plate: float = Field(
        0.33, ge=0, le=1, description="Probability of a thin-plate warp, per frame."
    )


@dataclass(frozen=True)
class _View:
    """An image and its label map, both Pillow images of one size."""

    image: Image.Image
    labels: Image.Image


def make_static_clip(
    instances: Instances, image: int, settings: StaticClipSettings, generator: np.random.Generator
) -> SynthClip:
    """Return a clip of image number `image`. Objects 1..n are those visible in its first frame."""
    base = _base(_still(instances, image, settings, generator), generator)
    views = [_frame(base, settings, generator) for _ in range(3)]
    masks = np.stack([labels for _, labels in views])
    table = np.zeros(256, np.uint8)
    seen = np.flatnonzero(np.bincount(masks[0].ravel())[1:]) + 1
    table[seen] = np.arange(1, len(seen) + 1)
    return SynthClip(np.stack([frame for frame, _ in views]), table[masks], 0, (0.0, 0.0, 0.0))


@RECIPES.register("xmem_static", StaticClipSettings)
def xmem_static(images: str | Path, settings: StaticClipSettings, seed: int = 0) -> ClipSeries:
    """Return the series of clips of a converted image dataset."""
    return ClipSeries(images, settings, seed, make_static_clip)


def _still(
    instances: Instances, image: int, settings: StaticClipSettings, generator: np.random.Generator
) -> _View:
    frame = read_frame(instances.folder / instances.files[image])
    labels = np.zeros(frame.shape[:2], np.uint8)
    objects = []
    for shape in filter(None, map(instances.shape, instances.in_image(image))):
        left, top, right, bottom = window = extent(shape, *frame.shape[:2])
        if right > left and bottom > top:
            mask = fill(shape, window)
            if cv2.countNonZero(mask) >= settings.min_area * labels.size:
                objects.append((mask, (slice(top, bottom), slice(left, right))))
    if len(objects) > settings.max_objects:
        objects = [
            objects[index]
            for index in generator.choice(len(objects), settings.max_objects, replace=False)
        ]
    for number in range(len(objects), 0, -1):  # earlier objects are in front
        mask, place = objects[number - 1]
        labels[place][mask != 0] = number
    return _View(Image.fromarray(frame), Image.fromarray(labels))


def _base(still: _View, generator: np.random.Generator) -> _View:
    """Return the base of all frames: scaled by 0.8..1.5 about the centre, flipped, recoloured.

    Some clips are grey.
    """
    move = affine_coefficients(still.image.size, 0, 0, generator.uniform(0.8, 1.5))
    image = still.image.transform(
        still.image.size, Image.Transform.AFFINE, move, _NEAREST, fillcolor=MEAN_COLOUR
    )
    labels = still.labels.transform(
        still.image.size, Image.Transform.AFFINE, move, _NEAREST, fillcolor=0
    )
    if generator.random() < 0.5:
        image, labels = (
            part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for part in (image, labels)
        )
    image = Image.fromarray(jitter(np.asarray(image), (0.1, 0.05, 0.05, 0.05), generator))
    return _View(image.convert("L").convert("RGB") if generator.random() < GREY else image, labels)


def _frame(
    base: _View, settings: StaticClipSettings, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return one frame (crop, crop, 3) and its label map (crop, crop).

    The frame is rotated, scaled, sheared, cropped, recoloured and warped by a thin-plate spline.
    Objects are warped with bicubic interpolation, like the image, and cut at one half. Later steps
    use nearest neighbours.
    """
    size, crop = base.image.size, settings.crop
    move = affine_coefficients(size, *generator.uniform((-20, -10, 0.9), (20, 10, 1.1)))
    image = base.image.transform(
        size, Image.Transform.AFFINE, move, _BICUBIC, fillcolor=MEAN_COLOUR
    )
    labels = _warp_labels(base.labels, move)
    short = min(size)
    reduced = (int(crop * size[0] / short), int(crop * size[1] / short))
    left, top = (int(generator.integers(side - crop, endpoint=True)) for side in reduced)
    window = (left, top, left + crop, top + crop)
    image = image.resize(reduced, _BICUBIC).crop(window)
    frame = jitter(np.array(image), (0.1, 0.05, 0.05, 0), generator)
    mask = np.array(labels.resize(reduced, _NEAREST).crop(window))
    if generator.random() >= settings.thin_plate:
        return frame, mask
    maps = random_map(generator, crop, crop)
    return cv2.remap(frame, *maps, cv2.INTER_LINEAR), cv2.remap(mask, *maps, cv2.INTER_NEAREST)


def _warp_labels(labels: Image.Image, move: tuple[float, ...]) -> Image.Image:
    before = np.array(labels)
    after = np.zeros_like(before)
    for label in range(int(before.max()), 0, -1):
        binary = Image.fromarray(np.where(before == label, np.uint8(255), np.uint8(0)))
        after[
            np.array(
                binary.transform(labels.size, Image.Transform.AFFINE, move, _BICUBIC, fillcolor=0)
            )
            > 127
        ] = label
    return Image.fromarray(after)


def affine_coefficients(
    size: tuple[int, int], degrees: float, shear: float, scale: float
) -> tuple[float, ...]:
    """Return Pillow's backward coefficients of scaling, x-shear and rotation about the centre.

    Angles are in degrees, the size is (width, height).
    """
    turn, slant = np.deg2rad(degrees), np.deg2rad(shear)
    forward = (
        scale
        * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        @ np.array([[1, -np.tan(slant)], [0, 1]])
    )
    back, centre = np.linalg.inv(forward), np.array(size) / 2
    shift = centre - back @ centre
    return tuple(float(value) for value in (*back[0], shift[0], *back[1], shift[1]))
