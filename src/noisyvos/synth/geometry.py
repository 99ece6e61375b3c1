"""Random geometry of clips: homographies, affine maps of pasted objects, the crop window."""

import cv2
import numpy as np


def random_homographies(
    generator: np.random.Generator, height: int, width: int, first: int = 10, further: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Return the (3, 3) maps of frame 1 to frames 2 and 3.

    Each image corner moves by up to 1 / `first` of the sides. The second map moves it by up to 1 /
    `further` more in the same direction.
    """
    corners = np.array(
        [[0, 0], [0, height - 1], [width - 1, height - 1], [width - 1, 0]], np.float64
    )
    low, high = ((-width) // first, (-height) // first), (width // first, height // first)
    shift = generator.integers(low, high, (4, 2), endpoint=True).astype(np.float64)
    more = generator.integers((0, 0), (width // further, height // further), (4, 2), endpoint=True)
    second = shift + more * (shift / (np.abs(shift) + 1e-5))
    maps = [
        cv2.getPerspectiveTransform((corners + move).astype(np.float32), corners.astype(np.float32))
        for move in (shift, second)
    ]
    return maps[0], maps[1]


def warp(
    image: np.ndarray,
    matrix: np.ndarray,
    window: tuple[int, int, int, int],
    outside: int = 0,
    into: np.ndarray | None = None,
) -> np.ndarray:
    """Return the part `window` (left, top, right, bottom) of an image warped by a homography.

    Images (H, W, 3 or 4) are interpolated linearly, label maps (H, W) by nearest neighbour. Pixels
    from outside the image get `outside`. Only the window is warped, which equals warping the whole
    image and cropping, up to the last bit of the interpolation. `into` is an array for the result.
    """
    left, top, right, bottom = window
    moved = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], np.float64) @ matrix
    flags = cv2.INTER_LINEAR if image.ndim == 3 else cv2.INTER_NEAREST
    return cv2.warpPerspective(
        image,
        moved,
        (right - left, bottom - top),
        dst=into,
        flags=flags,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=outside,
    )


def random_affine(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a (2, 3) affine map about the centre of a canvas.

    It scales x and y by independent factors in [0.8, 1.2], shears along x by up to 20 degrees and
    rotates by up to 30.
    """
    scale_x, scale_y = generator.uniform(0.8, 1.2, 2)
    shear, angle = np.deg2rad(generator.uniform((-20, -30), (20, 30)))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.array([[1, np.tan(shear)], [0, 1]]) @ np.diag([scale_x, scale_y])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.concatenate([linear, (centre - linear @ centre)[:, None]], axis=1)


def apply_affine(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return a patch (S, S, 3 or 4) warped linearly, or a mask (S, S) by nearest neighbour.

    The canvas keeps its size; pixels from outside are 0.
    """
    flags = cv2.INTER_LINEAR if image.ndim == 3 else cv2.INTER_NEAREST
    return cv2.warpAffine(
        image,
        matrix,
        image.shape[1::-1],
        flags=flags,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )


def random_window(
    generator: np.random.Generator, labels: tuple[np.ndarray, ...], crop: int
) -> tuple[int, int, int, int]:
    """Return a crop window (left, top, right, bottom) for all frames.

    It contains all labels of the (H, W) maps if they fit.
    """
    union = labels[0].copy()
    for other in labels[1:]:
        union |= other
    # all zero without a label, so the window is the top-left corner
    left, top, width, height = cv2.boundingRect(union)
    limits = zip((left, top), (left + width, top + height), union.shape[::-1])
    x, y = (_random_start(generator, low, high, crop, size) for low, high, size in limits)
    return x, y, x + crop, y + crop


def _random_start(generator: np.random.Generator, low: int, high: int, crop: int, size: int) -> int:
    if high - low > crop:
        return int(generator.integers(low, high - crop, endpoint=True))
    return int(generator.integers(max(0, high - crop), min(low, size - crop), endpoint=True))
