"""Sparse labels: unlabelled frames (frame_delete), scribbles for masks (scribble, strokes).

Unlabelled pixels are void (255), which every loss ignores.
"""

import cv2
import numpy as np
from pydantic import Field, model_validator

from noisyvos.datasets.scribbles import Hand, scribbles, thin
from noisyvos.io.masks import VOID
from noisyvos.noise.base import NOISE, NoisyVideo, Video
from noisyvos.noise.engine.geometry import cut_patch, object_boxes, square_distance
from noisyvos.registry import Settings


class FrameDeleteSettings(Settings):
    """Give either `keep`, the share of labelled frames, or `labelled`, their number per video."""

    keep: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of frames that stay labelled. Give either this or `labelled`.",
    )
    labelled: int | None = Field(
        None, ge=1, description="Number of labelled frames in each video. 2 is two-shot VOS."
    )

    @model_validator(mode="after")
    def one_of_both(self) -> "FrameDeleteSettings":
        """Refuse both settings and neither."""
        if (self.keep is None) == (self.labelled is None):
            raise ValueError(
                "give either keep (a share of frames) or labelled (a number of frames per video)"
            )
        return self


@NOISE.register("frame_delete", FrameDeleteSettings)
def frame_delete(video: Video, settings: FrameDeleteSettings) -> NoisyVideo:
    """Remove the labels of all frames but some. The first frame, the prompt, always keeps its
    labels.
    """
    count = len(video.masks)
    wanted = (
        settings.labelled
        if settings.labelled is not None
        else round(float(settings.keep or 0) * count)
    )
    others = video.generator("frames").permutation(np.arange(1, count))
    kept = {0, *(int(t) for t in others[: max(0, wanted - 1)])}
    return NoisyVideo(
        [
            mask.copy() if t in kept else np.full_like(mask, VOID)
            for t, mask in enumerate(video.masks)
        ]
    )


class ScribbleSettings(Settings):
    """`width` of a scribble in pixels."""

    width: int = Field(3, ge=1, le=31, description="Width of a scribble in pixels.")


@NOISE.register("scribble", ScribbleSettings)
def scribble(video: Video, settings: ScribbleSettings) -> NoisyVideo:
    """Keep each object's morphological skeleton and one stroke of background.

    Lines are `width` pixels wide. All other pixels become void.
    """
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (settings.width, settings.width))
    masks = []
    for t, mask in enumerate(video.masks):
        noisy = np.full_like(mask, VOID)
        for i, box in object_boxes(mask).items():
            patch = cut_patch(mask, i, box, settings.width)
            line = cv2.dilate(skeleton(patch.inside), brush).astype(bool) & patch.inside
            noisy[patch.box][line] = i
        stroke = background_stroke(
            mask == 0, settings.width, video.generator("stroke", video.frames[t])
        )
        noisy[stroke] = 0
        masks.append(noisy)
    return NoisyVideo(masks)


def background_stroke(
    background: np.ndarray, width: int, random: np.random.Generator
) -> np.ndarray:
    """Return a straight stroke between two random background pixels, (H, W) bool.

    Pixels near an object are left out.
    """
    deep = square_distance(background) > width * width
    places = np.argwhere(deep if deep.any() else background)
    canvas = np.zeros(background.shape, np.uint8)
    if not len(places):
        return canvas.astype(bool)
    a, b = places[random.integers(len(places), size=2)]
    cv2.line(canvas, (int(a[1]), int(a[0])), (int(b[1]), int(b[0])), 1, width)
    return canvas.astype(bool) & (deep if deep.any() else background)


def skeleton(inside: np.ndarray) -> np.ndarray:
    """Return the skeleton of a bool mask as 0/1 uint8. It is never empty for a non-empty mask."""
    picture = thin(inside)
    if not picture.any() and inside.any():
        picture[np.unravel_index(np.argmax(square_distance(inside)), inside.shape)] = 1
    return picture


class StrokeSettings(Settings):
    """Settings of strokes as a person draws them.

    `trim`: largest share cut off at each end. `strokes`: most strokes of one object. `wobble`:
    largest shift of an end in pixels.
    """

    trim: float = Field(
        0.2, ge=0, le=0.4, description="Largest share that is cut off each end of a stroke."
    )
    strokes: int = Field(2, ge=1, le=1000, description="Largest number of strokes on one object.")
    wobble: float = Field(2.0, ge=0, description="Largest displacement of an end in pixels.")


@NOISE.register("strokes", StrokeSettings)
def strokes(video: Video, settings: StrokeSettings) -> NoisyVideo:
    """Keep strokes along the middle of each object and of the background on all sides.

    All other pixels become void.
    """
    hand = Hand(settings.trim, settings.strokes, settings.wobble)
    frames = zip(video.frames, video.masks, strict=True)
    return NoisyVideo(
        [scribbles(mask, hand, video.generator("stroke", frame)) for frame, mask in frames]
    )
