"""Too few labels rather than wrong ones: frames without annotation (frame_delete) and scribbles instead of masks (scribble).

Pixels without a label are void (255), which every loss ignores.
"""

import cv2
import numpy as np
from pydantic import Field, model_validator

from noisyvos.io.images import VOID
from noisyvos.noise.base import NOISE, NoisyVideo, Video
from noisyvos.noise.distance import cut_patch, object_boxes, square_distance
from noisyvos.registry import Settings


class FrameDeleteSettings(Settings):
    """Either `keep`, the share of frames that stay labelled, or `labelled`, their number per video (2: two-shot)."""

    keep: float | None = Field(None, gt=0, le=1)
    labelled: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def one_of_both(self) -> "FrameDeleteSettings":
        """Refuse both and neither."""
        if (self.keep is None) == (self.labelled is None):
            raise ValueError("give either keep (a share of frames) or labelled (a number of frames per video)")
        return self


@NOISE.register("frame_delete", FrameDeleteSettings)
def frame_delete(video: Video, settings: FrameDeleteSettings) -> NoisyVideo:
    """Take the labels of all but some frames away; the first frame, which prompts, always stays."""
    count = len(video.masks)
    wanted = settings.labelled if settings.labelled is not None else round(float(settings.keep or 0) * count)
    others = video.generator("frames").permutation(np.arange(1, count))
    kept = {0, *(int(t) for t in others[: max(0, wanted - 1)])}
    return NoisyVideo([mask.copy() if t in kept else np.full_like(mask, VOID) for t, mask in enumerate(video.masks)])


class ScribbleSettings(Settings):
    """`width` of a scribble in pixels."""

    width: int = Field(3, ge=1, le=31)


@NOISE.register("scribble", ScribbleSettings)
def scribble(video: Video, settings: ScribbleSettings) -> NoisyVideo:
    """Keep of each object its morphological skeleton drawn `width` pixels wide, and one stroke of background; the rest is void."""
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (settings.width, settings.width))
    masks = []
    for t, mask in enumerate(video.masks):
        noisy = np.full_like(mask, VOID)
        for i, box in object_boxes(mask).items():
            patch = cut_patch(mask, i, box, settings.width)
            line = cv2.dilate(skeleton(patch.inside), brush).astype(bool) & patch.inside
            noisy[patch.box][line] = i
        stroke = background_stroke(mask == 0, settings.width, video.generator("stroke", video.frames[t]))
        noisy[stroke] = 0
        masks.append(noisy)
    return NoisyVideo(masks)


def background_stroke(background: np.ndarray, width: int, random: np.random.Generator) -> np.ndarray:
    """Return a straight stroke between two random background pixels, without what comes near an object, (H, W) bool."""
    deep = square_distance(background) > width * width
    places = np.argwhere(deep if deep.any() else background)
    canvas = np.zeros(background.shape, np.uint8)
    if not len(places):
        return canvas.astype(bool)
    a, b = places[random.integers(len(places), size=2)]
    cv2.line(canvas, (int(a[1]), int(a[0])), (int(b[1]), int(b[0])), 1, width)
    return canvas.astype(bool) & (deep if deep.any() else background)


def skeleton(inside: np.ndarray) -> np.ndarray:
    """Return the skeleton of a bool mask as 0/1 uint8: thinning by Zhang and Suen (1984), never empty for a non-empty mask."""
    picture = np.pad(inside.astype(np.uint8), 1)
    while True:
        before = picture
        for table in _THINNING:
            neighbours = cv2.filter2D(picture, cv2.CV_16S, _WEIGHTS, borderType=cv2.BORDER_CONSTANT)
            picture = picture & ~(table[neighbours] & picture)
        if np.array_equal(before, picture):
            break
    if not picture.any() and inside.any():
        row, column = np.unravel_index(np.argmax(square_distance(inside)), inside.shape)
        picture[row + 1, column + 1] = 1
    return picture[1:-1, 1:-1]


def _thinning_tables() -> tuple[np.ndarray, np.ndarray]:
    """Return, for both half-steps, which of the 256 neighbourhoods (bit k: neighbour k, clockwise from north) lose their centre."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    north, east, south, west = bits[:, 0], bits[:, 2], bits[:, 4], bits[:, 6]
    crossings = ((bits == 0) & (np.roll(bits, -1, axis=1) == 1)).sum(1)
    common = (bits.sum(1) >= 2) & (bits.sum(1) <= 6) & (crossings == 1)
    first = common & (north * east * south == 0) & (east * south * west == 0)
    second = common & (north * east * west == 0) & (north * south * west == 0)
    return first.astype(np.uint8), second.astype(np.uint8)


_THINNING = _thinning_tables()
_WEIGHTS = np.array([[128, 1, 2], [64, 0, 4], [32, 16, 8]], np.float32)
