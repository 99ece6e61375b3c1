"""Augmentations of a training clip: geometry alike for frames and every mask set, labels always nearest.

`light` is a few array operations for small clips on a CPU; `video` and `still` are XMem's recipes for videos and for
still-image clips, done with Pillow exactly as torchvision's PIL backend does them (which costs seconds to import);
`video_stm` is STM's for videos, with OpenCV where that uses it; `video_afb` and `video_afb_near` are AFB-URR's for DAVIS
and for YouTube-VOS.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from noisyvos.datasets.colour import jitter
from noisyvos.datasets.pictures import Pictures, flip
from noisyvos.errors import UserError
from noisyvos.io.images import VOID

MEAN_COLOUR = (124, 116, 104)  # ImageNet's mean, the fill outside the picture
STILL = (1, 0, 0, 0, 1, 0)  # the map that moves nothing


Augmentation = Callable[[Pictures, tuple[int, int] | None, bool, np.random.Generator], Pictures]


def augment(name: str, clip: Pictures, crop: tuple[int, int] | None, *, rotate: bool, generator: np.random.Generator) -> Pictures:
    """Return `clip` under the augmentation `name`, frames uint8 or float32 in [0, 1]; `crop` (height, width) None keeps the size."""
    return AUGMENTATIONS[name](clip, crop, rotate, generator)


def _window(clip: Pictures, top: int, left: int, height: int, width: int) -> Pictures:
    place = (slice(None), slice(top, top + height), slice(left, left + width))
    return clip.moved(clip.frames[place], tuple(mask[place] for mask in clip.masks), [(1, 0, left, 0, 1, top)] * len(clip.frames))


def random_crop(clip: Pictures, crop: tuple[int, int] | None, generator: np.random.Generator) -> Pictures:
    """Return a window of size `crop`, the same in all frames; UserError if the frames are smaller."""
    height, width = clip.frames.shape[1:3]
    if crop is None or crop == (height, width):
        return clip
    if crop[0] > height or crop[1] > width:
        raise UserError(f"A crop of {crop[0]}x{crop[1]} does not fit frames of {height}x{width}: lower `crop` in train.yaml.")
    top, left = int(generator.integers(height - crop[0] + 1)), int(generator.integers(width - crop[1] + 1))
    return _window(clip, top, left, *crop)


def _contiguous(clip: Pictures) -> Pictures:
    return replace(clip, frames=np.ascontiguousarray(clip.frames), masks=tuple(np.ascontiguousarray(mask) for mask in clip.masks))


def _enlarged(size: tuple[int, int], box: tuple[float, ...]) -> tuple[float, ...]:
    """Return the map of a resize of `box` (left, top, right, bottom) to `size` (width, height)."""
    return ((box[2] - box[0]) / size[0], 0, box[0], 0, (box[3] - box[1]) / size[1], box[1])


def none(clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator) -> Pictures:
    """Crop only."""
    return random_crop(clip, crop, generator)


def light(clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator) -> Pictures:
    """Crop, both flips, a permutation of the colour channels, gain 0.8..1.2 and bias +-0.1 of each channel."""
    clip = random_crop(clip, crop, generator)
    for axis in (1, 2):
        if generator.random() < 0.5:
            clip = flip(clip, axis)
    channels = generator.permutation(3)
    gain, bias = generator.uniform(0.8, 1.2, 3), generator.uniform(-0.1, 0.1, 3)
    table = np.clip(np.arange(256)[:, None] / 255 * gain + bias, 0, 1).astype(np.float32)  # (256, 3)
    frames = np.stack([table[clip.frames[..., channel], place] for place, channel in enumerate(channels)], axis=-1)
    return replace(clip, frames=frames)


def _colour(image: Image.Image, brightness: float, contrast: float, saturation: float, generator: np.random.Generator) -> Image.Image:
    enhancers = (
        (ImageEnhance.Brightness, brightness),
        (ImageEnhance.Contrast, contrast),
        (ImageEnhance.Color, saturation),
    )
    factors = generator.uniform(-1, 1, len(enhancers))
    for index in generator.permutation(len(enhancers)):
        enhance, strength = enhancers[index]
        image = enhance(image).enhance(1 + strength * factors[index])
    return image


def _affine(size: tuple[int, int], degrees: float, shear: float, scale: float | np.ndarray) -> tuple[float, ...]:
    """Return Pillow's backward affine coefficients of rotation, x-shear (degrees) and scale (one, or x and y) about the middle."""
    turn, slant = np.deg2rad(degrees), np.deg2rad(shear)
    forward = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.array([[1, -np.tan(slant)], [0, 1]]) * scale
    back = np.linalg.inv(forward)
    centre = np.array(size) / 2
    shift = centre - back @ centre
    return (back[0, 0], back[0, 1], shift[0], back[1, 0], back[1, 1], shift[1])


def _resized_crop_box(
    height: int, width: int, area: tuple[float, float], generator: np.random.Generator, aspects: tuple[float, float] = (3 / 4, 4 / 3)
) -> tuple[int, int, int, int]:
    """Return a window (left, top, right, bottom) of random area share and aspect; the centre if ten draws do not fit."""
    for _ in range(10):
        target = height * width * generator.uniform(*area)
        aspect = np.exp(generator.uniform(*np.log(aspects)))
        w, h = round(np.sqrt(target * aspect)), round(np.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(generator.integers(height - h + 1)), int(generator.integers(width - w + 1))
            return (left, top, left + w, top + h)
    w, h = min(width, round(height * aspects[1])), min(height, round(width / aspects[0]))
    top, left = (height - h) // 2, (width - w) // 2
    return (left, top, left + w, top + h)


def _per_image(
    clip: Pictures,
    frame: Callable[[int, Any], Any],
    mask: Callable[[int, Image.Image], Image.Image],
    steps: list[list[tuple[float, ...]]],
    arrays: bool = False,
) -> Pictures:
    """Return the clip with every picture changed; `steps` are the maps, in the order in which they apply to a frame.

    arrays: whether `frame` takes and returns arrays.
    """
    frames = np.stack([np.asarray(frame(t, array if arrays else Image.fromarray(array))) for t, array in enumerate(clip.frames)])
    masks = tuple(np.stack([np.asarray(mask(t, Image.fromarray(array))) for t, array in enumerate(each)]) for each in clip.masks)
    for maps in zip(*steps, strict=True):
        clip = clip.moved(frames, masks, list(maps))
    return replace(clip, frames=frames, masks=masks)


def video(
    clip: Pictures,
    crop: tuple[int, int] | None,
    rotate: bool,
    generator: np.random.Generator,
    *,
    area: tuple[float, float] = (0.36, 1.0),
    steady: bool = False,
) -> Pictures:
    """XMem's augmentation of videos: flip, resized crop, jitter and grey alike in all frames, then a small affine and jitter per frame.

    Area 0.36..1 and aspect 3/4..4/3, jitter 0.1/0.03/0.03, grey with 0.05; per frame rotation +-15 and x-shear +-10
    degrees (left out unless `rotate`, and with `steady`), jitter 0.01. Cheng and Schwing 2022, released training code; for
    BL30K it takes area 0.25..1 and `steady`.
    """
    rotate = rotate and not steady
    height, width = clip.frames.shape[1:3]
    out = crop or (height, width)
    size = (out[1], out[0])
    if generator.random() < 0.5:
        clip = flip(clip, 2)
    clip = _contiguous(clip)
    box = _resized_crop_box(height, width, area, generator)
    shared = int(generator.integers(2**63))  # one stream for what all frames share
    grey = generator.random() < 0.05
    angle, slant = (15.0, 10.0) if rotate else (0.0, 0.0)
    moves = [
        _affine(size, generator.uniform(-angle, angle), generator.uniform(-slant, slant), 1.0) if rotate else None for _ in clip.frames
    ]
    singles = [int(generator.integers(2**63)) for _ in clip.frames]

    def frame(t: int, image: Image.Image) -> Image.Image:
        image = image.resize(size, Image.Resampling.BILINEAR, box=box)
        image = _colour(image, 0.1, 0.03, 0.03, np.random.Generator(np.random.Philox(shared)))
        image = image.convert("L").convert("RGB") if grey else image
        if moves[t] is not None:
            image = image.transform(size, Image.Transform.AFFINE, moves[t], Image.Resampling.BILINEAR, fillcolor=MEAN_COLOUR)
        return _colour(image, 0.01, 0.01, 0.01, np.random.Generator(np.random.Philox(singles[t])))

    def mask(t: int, image: Image.Image) -> Image.Image:
        image = image.resize(size, Image.Resampling.NEAREST, box=box)
        if moves[t] is not None:
            image = image.transform(size, Image.Transform.AFFINE, moves[t], Image.Resampling.NEAREST, fillcolor=0)
        return image

    resize = _enlarged(size, box)
    return _per_image(clip, frame, mask, [[resize, *([move] if move is not None else [])] for move in moves])


def still(clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator) -> Pictures:
    """For clips made from still images, which carry their motion already: crop, horizontal flip, and colour jitter alike in all frames."""
    clip = random_crop(clip, crop, generator)
    if generator.random() < 0.5:
        clip = flip(clip, 2)
    clip = _contiguous(clip)
    shared = int(generator.integers(2**63))
    grey = generator.random() < 0.05

    def frame(t: int, image: Image.Image) -> Image.Image:
        image = _colour(image, 0.1, 0.05, 0.05, np.random.Generator(np.random.Philox(shared)))
        return image.convert("L").convert("RGB") if grey else image

    return replace(clip, frames=np.stack([np.asarray(frame(t, Image.fromarray(array))) for t, array in enumerate(clip.frames)]))


def _random_moves(size: tuple[int, int], reach: float, rotate: bool, generator: np.random.Generator) -> list[tuple[float, ...]]:
    """Return some of rotation, x-shear, translation and scale in random order, each as Pillow's affine coefficients."""
    x, y = np.rint(generator.integers(-15, 15, 2, endpoint=True) * reach)
    kinds = [
        _affine(size, generator.uniform(-30, 30), 0, 1) if rotate else None,
        _affine(size, 0, generator.uniform(-15, 15), 1) if rotate else None,
        (1, 0, -x, 0, 1, -y),
        _affine(size, 0, 0, generator.uniform(0.8, 1.2, 2)),
    ]
    chosen = generator.random(len(kinds)) < 0.5
    return [kinds[index] for index in generator.permutation(len(kinds)) if chosen[index] and kinds[index] is not None]


def _warped(frame: np.ndarray, move: tuple[float, ...]) -> np.ndarray:
    """Return a frame (H, W, 3) uint8 under Pillow's backward coefficients, bilinear and black outside, by OpenCV (as imgaug does it)."""
    matrix = np.reshape(move, (2, 3)).astype(np.float64)
    matrix[:, 2] += matrix[:, :2].sum(1) / 2 - 0.5  # OpenCV counts from the middle of the first pixel
    return cv2.warpAffine(frame, matrix, frame.shape[1::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _window_starts(wanted: np.ndarray, window: tuple[int, int], reach: float, generator: np.random.Generator) -> list[tuple[int, int]]:
    """Return (top, left) per frame of a window that holds all `wanted` places (T, H, W) bool if it can, moved on in each frame."""
    holds = wanted.any(0)
    place, limits = [], [side - length for side, length in zip(holds.shape, window, strict=True)]
    for axis, (length, limit) in enumerate(zip(window, limits, strict=True)):
        filled = np.flatnonzero(holds.any(1 - axis))
        low, high = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)
        span = (low, high - length) if high - low > length else (max(0, high - length), min(low, limit))
        place.append(int(generator.integers(*span, endpoint=True)))
    starts = []
    for _ in wanted:
        step = np.rint(generator.integers(-20, 20, 2, endpoint=True) * reach)
        place = [int(np.clip(start + move, 0, limit)) for start, move, limit in zip(place, step, limits, strict=True)]
        starts.append((place[0], place[1]))
    return starts


def video_stm(clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator) -> Pictures:
    """STM's augmentation of videos: flip alike in all frames, an affine map per frame, one scale, a crop near the objects per frame.

    Per frame, each with probability 0.5 and in random order: rotation +-30 and x-shear +-15 degrees (left out unless
    `rotate`), translation +-15 pixels, scale x and y 0.8..1.2; then all frames scaled by 0.8..1.1, and a window that
    walks up to 20 pixels a frame. Pixels are those of a crop of 384. Black outside, no change of colour. Released code for VISOR.
    """
    return _walking(clip, crop, rotate, generator, outside=0)


def video_scribbles(clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator) -> Pictures:
    """RHMNet's augmentation of videos: that of `video_stm` with a crop near all scribbles, and no label outside the picture.

    arXiv 2303.14384, released code.
    """
    return _walking(clip, crop, rotate, generator, outside=VOID)


def still_scribbles(clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator) -> Pictures:
    """For clips of still images with dense masks: a crop, and scribbles drawn on the masks of every frame (ours)."""
    from noisyvos.datasets.scribbles import Hand, scribbles

    clip = random_crop(clip, crop, generator)
    drawn = np.stack([scribbles(mask, Hand(), generator) for mask in clip.masks[0]])
    return replace(clip, masks=(drawn, *clip.masks[1:]))


def still_warped(clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator) -> Pictures:
    """RHMNet's clips of one picture with scribbles: flip, then each frame after the first moved by a homography, and moved further.

    The shorter side becomes 480 first. Corners move by up to a sixth of the sides, then by up to an eighth more in the same direction.
    The crop, alike in all frames, lies near all scribbles and is drawn anew, up to 21 times, while a frame lacks 100 pixels of either
    objects or background. Pixels are those of a crop of 384; three frames at most. Maps to source images would be no affine ones
    and are not recorded. arXiv 2303.14384, released code.
    """
    from noisyvos.synth.geometry import random_homographies, warp

    height, width = clip.frames.shape[1:3]
    out = crop or (height, width)
    reach = min(out) / 384
    if crop is not None:
        scale = 480 * reach / min(height, width)
        size = (max(out[1], int(width * scale)), max(out[0], int(height * scale)))
        bilinear, nearest = Image.Resampling.BILINEAR, Image.Resampling.NEAREST
        steps = [[_enlarged(size, (0, 0, width, height))] for _ in clip.frames]
        clip = _per_image(clip, lambda _, image: image.resize(size, bilinear), lambda _, image: image.resize(size, nearest), steps)
        width, height = size
    clip = _contiguous(flip(clip, 2) if generator.random() < 0.5 else clip)
    whole = (0, 0, width, height)
    maps = [np.eye(3), *random_homographies(generator, height, width, 6, 8)][: len(clip.frames)]
    frames = np.stack([warp(frame, matrix, whole) for frame, matrix in zip(clip.frames, maps, strict=True)])
    masks = tuple(np.stack([warp(each, matrix, whole, VOID) for each, matrix in zip(mask, maps, strict=True)]) for mask in clip.masks)
    drawn = masks[0] != VOID
    for _ in range(21):
        top, left = _window_starts(drawn, out, 0, generator)[0]
        place = (slice(None), slice(top, top + out[0]), slice(left, left + out[1]))
        seen = masks[0][place]
        if min(np.count_nonzero(seen == 0, (1, 2)).min(), np.count_nonzero((seen != 0) & drawn[place], (1, 2)).min()) > 100 * reach**2:
            break
    return Pictures(np.ascontiguousarray(frames[place]), tuple(np.ascontiguousarray(mask[place]) for mask in masks))


def _walking(clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator, outside: int) -> Pictures:
    """See `video_stm`; `outside` is the label of places that lie outside of a moved picture, and of what the crop need not hold."""
    height, width = clip.frames.shape[1:3]
    out = crop or (height, width)
    reach = min(out) / 384
    if generator.random() < 0.5:
        clip = flip(clip, 2)
    clip = _contiguous(clip)
    moves = [_random_moves((width, height), reach, rotate, generator) for _ in clip.frames]
    factor = generator.uniform(0.8, 1.1)
    size = (max(out[1], int(width * factor)), max(out[0], int(height * factor)))

    def frame(t: int, image: np.ndarray) -> np.ndarray:
        for move in moves[t]:
            image = _warped(image, move)
        return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT)

    def mask(t: int, image: Image.Image) -> Image.Image:
        for move in moves[t]:
            image = image.transform(image.size, Image.Transform.AFFINE, move, Image.Resampling.NEAREST, fillcolor=outside)
        return image.resize(size, Image.Resampling.NEAREST)

    resize = _enlarged(size, (0, 0, width, height))
    longest = max(len(each) for each in moves)
    steps = [[*each, *[STILL] * (longest - len(each)), resize] for each in moves]
    clip = _per_image(clip, frame, mask, steps, arrays=True)
    labels = clip.masks[0]
    starts = _window_starts((labels != outside) & (labels != VOID), out, reach, generator)

    def cut(frames: np.ndarray) -> np.ndarray:
        pairs = zip(frames, starts, strict=True)
        return np.stack([frame[top : top + out[0], left : left + out[1]] for frame, (top, left) in pairs])

    windows = [(1, 0, left, 0, 1, top) for top, left in starts]
    return clip.moved(cut(clip.frames), tuple(cut(mask) for mask in clip.masks), windows)


def _own_move(size: tuple[int, int], rotate: bool, generator: np.random.Generator) -> tuple[float, ...]:
    """Return AFB-URR's affine map of one frame of `size` (width, height) as Pillow's backward coefficients."""
    angle, slant, scale = generator.uniform((-15, -10, 0.95), (15, 10, 1.05))
    a, b, c, d, e, f = _affine(size, angle if rotate else 0, slant if rotate else 0, scale)
    x, y = np.rint(generator.uniform(-0.1, 0.1, 2) * size)
    return (a, b, c - a * x - b * y, d, e, f - d * x - e * y)


def _box_with_object(labels: np.ndarray, area: tuple[float, float], generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Return a window of labels (H, W) as AFB-URR draws it, anew up to ten times while it holds no object."""
    for _ in range(10):
        left, top, right, bottom = box = _resized_crop_box(*labels.shape, area, generator, (0.95, 1.05))
        inside = labels[top:bottom, left:right]
        if ((inside != 0) & (inside != VOID)).any():
            break
    return box


def video_afb(
    clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator, *, area: tuple[float, float] = (0.8, 1.0)
) -> Pictures:
    """AFB-URR's augmentation of videos: colour and an affine map for each frame but the first, and for each a crop with an object.

    Jitter 0.1, hue 0.02; rotation +-15 and x-shear +-10 degrees (left out unless `rotate`), translation up to a tenth in whole
    pixels, scale 0.95..1.05, all with nearest pixels and black outside; a crop of share `area` and aspect 0.95..1.05. Where
    such a crop never fits, as in frames of 480x854 at the default share, it is the centre. Liang et al. 2020, released training code.
    """
    height, width = clip.frames.shape[1:3]
    out = crop or (height, width)
    size = (out[1], out[0])
    clip = _contiguous(clip)
    moves = [STILL, *(_own_move((width, height), rotate, generator) for _ in clip.frames[1:])]
    colours = [int(generator.integers(2**63)) for _ in clip.frames]

    def moved(t: int, image: Image.Image) -> Image.Image:
        return image if t == 0 else image.transform(image.size, Image.Transform.AFFINE, moves[t], Image.Resampling.NEAREST)

    def frame(t: int, image: Image.Image) -> Image.Image:
        return image if t == 0 else moved(t, jitter(image, (0.1, 0.1, 0.1, 0.02), np.random.Generator(np.random.Philox(colours[t]))))

    clip = _per_image(clip, frame, moved, [[move] for move in moves])
    boxes = [_box_with_object(labels, area, generator) for labels in clip.masks[0]]
    return _per_image(
        clip,
        lambda t, image: image.resize(size, Image.Resampling.BILINEAR, box=boxes[t]),
        lambda t, image: image.resize(size, Image.Resampling.NEAREST, box=boxes[t]),
        [[_enlarged(size, box)] for box in boxes],
    )


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": none,
    "light": light,
    "video": video,
    "video_bl30k": partial(video, area=(0.25, 1.0), steady=True),
    "video_stm": video_stm,
    "video_scribbles": video_scribbles,
    "video_afb": video_afb,
    "video_afb_near": partial(video_afb, area=(0.3, 0.5)),
    "still": still,
    "still_scribbles": still_scribbles,
    "still_warped": still_warped,
}
# those whose frames may be smaller than the crop
RESIZING = frozenset({"video", "video_bl30k", "video_stm", "still_warped", "video_scribbles", "video_afb", "video_afb_near"})
