"""Label noise: turns clean index masks into noisy ones, reproducibly from a seed and a key.

docs/explanation/noise.md describes each kind and its source. A new kind is one file in `kinds/`
that registers itself.
"""

from typing import Any

import numpy as np

import noisyvos.noise.kinds  # noqa: F401  (loaded first: `kinds` below must stay a function)
from noisyvos.errors import UserError
from noisyvos.noise.base import NOISE, NoisyVideo, Video

__all__ = ["NOISE", "corrupt", "corrupt_video", "kinds"]

FROM_FILES = ("drawn",)  # labels that people made: no process


def kinds() -> tuple[str, ...]:
    """Return the names of all noise kinds that make noisy masks from clean ones."""
    return tuple(name for name in NOISE.names() if name not in FROM_FILES)


def corrupt(
    mask: np.ndarray,
    kind: str,
    *,
    seed: int = 0,
    key: tuple[str | int, ...] = ("mask", 0),
    **settings: Any,
) -> np.ndarray:
    """Return a noisy copy of an index mask, (H, W) uint8: 0 background, 1..254 objects, 255 void.

    `key` identifies the mask. Its last part is the frame, e.g. ("davis", "bear", "00000"). Equal
    masks, settings, seeds and keys give equal results on any machine. Raises ValueError for an
    unknown kind or setting and lists the known ones.
    """
    *where, frame = key or ("mask", 0)
    return corrupt_video(
        [mask], kind, seed=seed, key=tuple(where), frames=[frame], **settings
    ).masks[0]


def corrupt_video(
    masks: list[np.ndarray],
    kind: str,
    *,
    seed: int = 0,
    key: tuple[str | int, ...] = ("video",),
    frames: list[str | int] | None = None,
    **settings: Any,
) -> NoisyVideo:
    """Return noisy copies of a video's index masks, each (H, W) uint8, in time order.

    `frames` names the frames (default 0, 1, ...). A kind gets the whole video, because noise may be
    correlated in time or act on blocks of frames.
    """
    item = NOISE.get(kind)
    values = item.validate(settings, f"Noise kind {kind!r}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise UserError(
            f"Noise kind {kind!r}: the seed must be a non-negative integer, not {seed!r}."
        )
    for mask in masks:
        if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype != np.uint8:
            got = (
                f"{mask.shape} {mask.dtype}"
                if isinstance(mask, np.ndarray)
                else type(mask).__name__
            )
            raise UserError(
                f"Noise kind {kind!r}: a mask is an array (H, W) of uint8 object ids, not {got}."
            )
    names = tuple(frames) if frames is not None else tuple(range(len(masks)))
    if len(names) != len(masks):
        raise UserError(f"Noise kind {kind!r}: {len(masks)} masks but {len(names)} frame names.")
    return item.build(Video(kind, int(seed), tuple(key), names, tuple(masks)), values)
