"""One clip of three frames from one still image: the recipe of STM's first training stage, step by step."""

from dataclasses import dataclass

import cv2
import numpy as np

from noisyvos.io.images import read_frame
from noisyvos.synth.geometry import random_homographies, random_window, warp
from noisyvos.synth.instances import Instances, extent, fill
from noisyvos.synth.paste import cut_out, draw_objects, paste_object
from noisyvos.synth.recipe import ClipSettings, Lengths

_MOST_OWN_WITH_PASTING = 5
_LAST_LABEL = 10  # later labels are never objects of a clip


@dataclass(frozen=True)
class Clip:
    """frames (3, H, W, 3) uint8 RGB; masks (3, H, W) uint8, ids 1..n in frame 1; pasted objects; area hidden by them per frame."""

    frames: np.ndarray
    masks: np.ndarray
    pasted: int
    hidden: tuple[
        float, float, float
    ]  # share of the labelled area of the image itself that pasted objects cover


def make_clip(
    instances: Instances, image: int, settings: ClipSettings, generator: np.random.Generator
) -> Clip:
    """Return a clip whose background is image number `image`; the only randomness is `generator`.

    Images without usable instances are never skipped: they become background of pasted objects.
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
        background, labels, lengths.base, flip=generator.random() < 0.5
    )
    frames, masks = _warp_and_crop(generator, background, labels, lengths.crop)
    before = np.count_nonzero(masks, (1, 2))
    label = len(own)
    for instance in foreign:
        patch = cut_out(instances, instance)
        if patch is not None:
            label += 1
            paste_object(generator, frames, masks, patch, label, lengths, settings.symmetric_motion)
    left = np.count_nonzero((masks > 0) & (masks <= len(own)), (1, 2))
    hidden = (before - left) / np.maximum(before, 1)
    return Clip(
        frames,
        _choose_objects(generator, masks, lengths, settings.max_objects),
        label - len(own),
        tuple(hidden.tolist()),
    )


def _usable(
    instances: Instances, image: int, size: tuple[int, int], lengths: Lengths
) -> list[tuple[np.ndarray, tuple[int, int, int, int]]]:
    """Return (mask, window) of the instances of an image that are large enough, in the order of the file."""
    usable = []
    for instance in instances.in_image(image):
        shape = instances.shape(instance)
        if not shape:
            continue
        window = extent(shape, *size)
        left, top, right, bottom = window
        if (right - left) * (
            bottom - top
        ) < lengths.instance_area:  # cannot reach it, so need not be drawn
            continue
        mask = fill(shape, window)
        if cv2.countNonZero(mask) >= lengths.instance_area:
            usable.append((mask, window))
    return usable


def _label_map(
    own: list[tuple[np.ndarray, tuple[int, int, int, int]]], size: tuple[int, int]
) -> np.ndarray:
    """Return the label map (H, W) uint8 of instances 1..n; where they overlap the earlier one wins."""
    labels = np.zeros(size, np.uint8)
    for label in range(len(own), 0, -1):
        mask, (left, top, right, bottom) = own[label - 1]
        labels[top:bottom, left:right][mask != 0] = label
    return labels


def _base_transform(
    image: np.ndarray, labels: np.ndarray, base: int, flip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return image and labels with the shorter side at `base`, flipped left to right if asked for."""
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
    """Return frames (3, crop, crop, 3) and label maps (3, crop, crop): the image, and two growing homographies of it."""
    height, width = labels.shape
    maps = random_homographies(generator, height, width)
    whole = (0, 0, width, height)
    warped_labels = (labels, *(warp(labels, matrix, whole) for matrix in maps))
    window = random_window(generator, warped_labels, crop)
    inside = (slice(window[1], window[3]), slice(window[0], window[2]))
    frames = np.stack([image[inside], *(warp(image, matrix, window) for matrix in maps)])
    return frames, np.stack([part[inside] for part in warped_labels])


def _choose_objects(
    generator: np.random.Generator, labels: np.ndarray, lengths: Lengths, most: int
) -> np.ndarray:
    """Return masks with ids 1..n for the labels that are large enough in frame 1, at most `most`; the others become background."""
    areas = np.bincount(labels[0].reshape(-1), minlength=_LAST_LABEL + 1)[1 : _LAST_LABEL + 1]
    chosen = np.flatnonzero(areas > lengths.object_area) + 1
    if len(chosen) > most:
        chosen = generator.choice(chosen, most, replace=False)
    table = np.zeros(256, np.uint8)
    table[chosen] = np.arange(1, len(chosen) + 1)
    return cv2.LUT(labels.reshape(-1, labels.shape[-1]), table).reshape(labels.shape)
