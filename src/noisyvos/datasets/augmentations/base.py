"""The registry of augmentations, and the training clip that they change.

An augmentation moves frames and all mask sets alike. Masks stay index masks: they are only ever
resampled by nearest neighbour. Everything random comes from the generator that is passed in.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from noisyvos.registry import Registry, Settings


@dataclass(frozen=True)
class Pictures:
    """A clip as arrays: frames (T, H, W, 3) RGB, uint8 or float32 in [0, 1], and its mask sets.

    Each mask set is (T, H, W) uint8 on the pixels of the frames, for example noisy and clean
    labels. `to_source` (T, 2, 3) maps a point (x, y, 1) of each frame to the image before
    augmentation, with pixel centres at halves; None is the identity.
    """

    frames: np.ndarray
    masks: tuple[np.ndarray, ...]
    to_source: np.ndarray | None = None

    def moved(
        self, frames: np.ndarray, masks: tuple[np.ndarray, ...], maps: Sequence[Sequence[float]]
    ) -> "Pictures":
        """Return a clip of new pixels whose `to_source` includes the map of each frame.

        A map is 6 numbers that take new points to old ones, as Pillow's affine coefficients do.
        """
        before = (
            np.broadcast_to(np.eye(2, 3), (len(frames), 2, 3))
            if self.to_source is None
            else self.to_source
        )
        step = np.zeros((len(frames), 3, 3))
        step[:, :2], step[:, 2, 2] = np.reshape(maps, (-1, 2, 3)), 1
        return Pictures(frames, masks, before @ step)


def mirrored(size: int, axis: int) -> tuple[float, ...]:
    """Return the map of a picture mirrored along array axis 1 or 2 of length `size`."""
    return (1, 0, 0, 0, -1, size) if axis == 1 else (-1, 0, size, 0, 1, 0)


def flip(clip: Pictures, axis: int) -> Pictures:
    """Return the clip mirrored along array axis 1 (vertically) or 2 (horizontally)."""
    step = mirrored(clip.frames.shape[axis], axis)

    def each(arrays: np.ndarray) -> np.ndarray:
        # OpenCV fills it six times as fast as a mirrored view is copied
        turned = np.empty(arrays.shape, arrays.dtype)
        for array, place in zip(arrays, turned, strict=True):
            cv2.flip(array, axis - 1, place)
        return turned

    return clip.moved(
        each(clip.frames), tuple(each(mask) for mask in clip.masks), [step] * len(clip.frames)
    )


def stacked(arrays: Iterable[np.ndarray], count: int) -> np.ndarray:
    """Return `count` arrays of one shape and type as np.stack does, each taken when it is due.

    So memory holds one array beside the result, and the same pages serve all of them.
    """
    result: np.ndarray | None = None
    for index, array in enumerate(arrays):
        if result is None:
            result = np.empty((count, *array.shape), array.dtype)
        result[index] = array
    assert result is not None
    return result


def as_planes(clips: Sequence[np.ndarray]) -> np.ndarray:
    """Return B clips of frames (T, H, W, 3) as (B, T, 3, H, W), uint8 or float32 as they are.

    Working plane by plane takes a tenth of the time that moving the axis takes.
    """
    length, height, width = clips[0].shape[:3]
    planes = np.empty((len(clips), length, 3, height, width), np.result_type(*clips))
    for frames, target in zip(clips, planes, strict=True):
        for frame, places in zip(frames, target, strict=True):
            if frame.dtype == planes.dtype:
                cv2.split(frame, list(places))
            else:  # bytes beside a clip that is in [0, 1] already
                for plane, place in zip(cv2.split(frame), places, strict=True):
                    np.divide(plane, np.float32(255), out=place)
    return planes


Augmentation = Callable[[Pictures, tuple[int, int] | None, bool, np.random.Generator], Pictures]


class AugmentationRegistry(Registry):
    """The registry of augmentations, which also knows which of them resize frames to the crop."""

    def register(
        self,
        name: str,
        settings: type[Settings] = Settings,
        *,
        resizes: bool = False,
        **fixed: Any,
    ) -> Callable[[Any], Any]:
        """Decorate the function (clip, crop, rotate, generator, **fixed) behind `name`.

        `crop` is (height, width) of the result, None for the size of the frames. `rotate` tells
        whether rotation and shear are on. `resizes`: frames may be smaller than the crop.
        """

        def decorate(function: Callable[..., Pictures]) -> Callable[..., Pictures]:
            def build() -> tuple[Augmentation, bool]:
                return partial(function, **fixed), resizes

            build.__module__ = function.__module__
            super(AugmentationRegistry, self).register(name, settings)(build)
            return function

        return decorate


AUGMENTATIONS = AugmentationRegistry("augmentation", "noisyvos.datasets.augmentations.kinds")


def resizes_frames(name: str) -> bool:
    """Whether augmentation `name` takes frames smaller than the crop; UserError if unknown."""
    return bool(AUGMENTATIONS.get(name).build()[1])


def augment(
    name: str,
    clip: Pictures,
    crop: tuple[int, int] | None,
    *,
    rotate: bool,
    generator: np.random.Generator,
) -> Pictures:
    """Return `clip` under augmentation `name` at the size `crop` (height, width), None: no change.

    Raises UserError for an unknown name, and where the frames are too small for the crop.
    """
    change, _ = AUGMENTATIONS.get(name).build()
    return change(clip, crop, rotate, generator)
