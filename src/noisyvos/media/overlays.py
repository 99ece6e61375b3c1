"""Pictures of masks on frames: what was given, what was predicted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from noisyvos.errors import UserError
from noisyvos.io.atomic import result_directory
from noisyvos.io.masks import VOID, davis_palette

_SHORTEST = 144  # pixels; smaller frames are enlarged to this height to be visible


def overlay(frame: np.ndarray, mask: np.ndarray, opacity: float = 0.45) -> np.ndarray:
    """Return an RGB frame (H, W, 3) uint8 with every object tinted and outlined.

    Objects have their palette colours, void is white.
    """
    if frame.shape[:2] != mask.shape:
        raise UserError(
            f"A frame of {frame.shape[1]}x{frame.shape[0]} pixels has a mask of "
            f"{mask.shape[1]}x{mask.shape[0]}. `noisyvos check` names it. Convert it again."
        )
    palette = davis_palette()
    palette[VOID] = 255
    colours = palette[mask]
    inside = mask > 0
    out = frame.astype(np.float32)
    out[inside] = (1 - opacity) * out[inside] + opacity * colours[inside]
    edge = outline(mask)
    out[edge] = 0.25 * out[edge] + 0.75 * np.maximum(colours[edge], 96)
    return out.round().astype(np.uint8)


def outline(mask: np.ndarray) -> np.ndarray:
    """Return (H, W) bool: the object pixels with a 4-neighbour of another id."""
    padded = np.pad(mask, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    differs = np.zeros(mask.shape, bool)
    for neighbour in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        differs |= neighbour != centre
    return differs & (mask > 0)


def enlarge(image: np.ndarray, height: int = _SHORTEST) -> np.ndarray:
    """Return an image scaled up to at least `height` rows by a whole factor.

    Larger images stay as they are.
    """
    factor = max(1, -(-height // image.shape[0]))
    if factor == 1:
        return image
    method = cv2.INTER_NEAREST if image.ndim == 2 else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=method)


def write_overlay(folder: Path, name: str, frame: np.ndarray, mask: np.ndarray) -> None:
    """Write the overlay of a frame to `folder`/`name`.png.

    frame: (H, W, 3) RGB in [0, 255], uint8 or, where it was corrupted, float32.
    """
    if frame.dtype != np.uint8:
        frame = frame.round().clip(0, 255).astype(np.uint8)
    path = folder / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", overlay(frame, mask)[:, :, ::-1])[1].tobytes())


@contextmanager
def overlay_folder(
    path: Path | None,
) -> Iterator[Callable[[str, np.ndarray, np.ndarray], None] | None]:
    """Yield a function (name, frame, mask) that writes overlays to `path`; None if `path` is None.

    The folder is complete when the block ends without an error.
    """
    if path is None:
        yield None
        return
    with result_directory(path, "overlays") as folder:
        yield partial(write_overlay, folder)
