"""RHMNet's augmentations, for clips with scribbles as labels (arXiv 2303.14384, released code)."""

from dataclasses import replace

import numpy as np
from PIL import Image

from noisyvos.datasets.augmentations.base import AUGMENTATIONS, Pictures, flip
from noisyvos.datasets.augmentations.geometry import (
    contiguous,
    enlarged,
    per_image,
    random_crop,
    window_starts,
)
from noisyvos.datasets.augmentations.walking import walk
from noisyvos.datasets.scribbles import Hand, scribbles
from noisyvos.io.masks import VOID
from noisyvos.synth.geometry import random_homographies, warp


@AUGMENTATIONS.register("video_scribbles", resizes=True)
def video_scribbles(
    clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator
) -> Pictures:
    """Do what `walk` describes with a crop near all scribbles; places outside are unlabelled.

    For videos with scribbles.
    """
    return walk(clip, crop, rotate, generator, outside=VOID)


@AUGMENTATIONS.register("still_scribbles")
def still_scribbles(
    clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator
) -> Pictures:
    """Crop, and draw scribbles on the masks of every frame.

    For clips made from still images with dense masks. RHMNet's own scribbles were not published;
    `noisyvos.datasets.scribbles` draws these.
    """
    clip = random_crop(clip, crop, generator)
    drawn = np.stack([scribbles(mask, Hand(), generator) for mask in clip.masks[0]])
    return replace(clip, masks=(drawn, *clip.masks[1:]))


@AUGMENTATIONS.register("still_warped", resizes=True)
def still_warped(
    clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator
) -> Pictures:
    """Make a clip of one image with scribbles: flip it, and warp each frame after the first.

    The shorter side becomes 480 first. The homographies move corners by up to a sixth of the
    sides, then by up to an eighth more in the same direction, for at most three frames. The crop
    is the same in all frames and near all scribbles. It is drawn up to 21 times until every frame
    has more than 100 pixels of objects and of background. Pixels refer to a crop of 384. The maps
    are not affine, so `to_source` is not recorded.
    """
    height, width = clip.frames.shape[1:3]
    out = crop or (height, width)
    reach = min(out) / 384
    if crop is not None:
        scale = 480 * reach / min(height, width)
        size = (max(out[1], int(width * scale)), max(out[0], int(height * scale)))
        bilinear, nearest = Image.Resampling.BILINEAR, Image.Resampling.NEAREST
        steps = [[enlarged(size, (0, 0, width, height))] for _ in clip.frames]
        clip = per_image(
            clip,
            lambda _, image: image.resize(size, bilinear),
            lambda _, image: image.resize(size, nearest),
            steps,
        )
        width, height = size
    clip = contiguous(flip(clip, 2) if generator.random() < 0.5 else clip)
    whole = (0, 0, width, height)
    maps = [np.eye(3), *random_homographies(generator, height, width, 6, 8)][: len(clip.frames)]
    frames = np.stack(
        [warp(frame, matrix, whole) for frame, matrix in zip(clip.frames, maps, strict=True)]
    )
    masks = tuple(
        np.stack([warp(each, matrix, whole, VOID) for each, matrix in zip(mask, maps, strict=True)])
        for mask in clip.masks
    )
    drawn = masks[0] != VOID
    for _ in range(21):
        top, left = window_starts(drawn, out, 0, generator)[0]
        place = (slice(None), slice(top, top + out[0]), slice(left, left + out[1]))
        seen = masks[0][place]
        if (
            min(
                np.count_nonzero(seen == 0, (1, 2)).min(),
                np.count_nonzero((seen != 0) & drawn[place], (1, 2)).min(),
            )
            > 100 * reach**2
        ):
            break
    return Pictures(
        np.ascontiguousarray(frames[place]),
        tuple(np.ascontiguousarray(mask[place]) for mask in masks),
    )
