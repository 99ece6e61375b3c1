"""Binary masks as bits, 64 pixels per word: exact boundaries, disk dilation and counts.

Each operation handles a whole row of words at once. A stack of masks is (H, M, N) uint64: H rows,
M masks side by side, N words per row and mask. Bit b of word n is pixel 64n + b. Every row of every
mask ends in at least as many zero bits as the widest shift, so that a shift of the whole array
never carries a pixel of one row into another row.
"""

import math
from functools import lru_cache

import numpy as np

_WORD = 64


def pack(masks: tuple[np.ndarray, ...], margin: int) -> np.ndarray:
    """Return bool or 0/1 masks (H, W) of one size as a stack (H, M, N) uint64.

    Each row ends in at least `margin` zero bits.
    """
    height, width = masks[0].shape
    words = -(-(width + margin) // _WORD)
    stack = np.zeros((height, len(masks), words * 8), np.uint8)
    for index, mask in enumerate(masks):
        packed = np.packbits(mask, axis=1, bitorder="little")
        stack[:, index, : packed.shape[1]] = packed
    # words hold pixel 0 in their lowest bit, on machines of either byte order
    return stack.view("<u8").astype(np.uint64, copy=False)


def count(stack: np.ndarray) -> int:
    """Return the number of set pixels."""
    return int.from_bytes(stack.tobytes(), "little").bit_count()


def boundary(stack: np.ndarray, width: int, at_right: bool, at_bottom: bool) -> np.ndarray:
    """Return the boundary maps of a stack with a margin.

    A boundary pixel differs from its right, lower or lower-right neighbour. Pixels beyond the crop
    are background. Where the crop ends with the frame (`at_right`, `at_bottom`), a pixel lacks
    those neighbours and is compared with the others alone, as if the frame's last row or column
    were repeated.
    """
    right = np.empty_like(stack)
    flat, out = stack.reshape(-1), right.reshape(-1)
    np.right_shift(flat, np.uint64(1), out=out)
    out[:-1] |= flat[1:] << np.uint64(_WORD - 1)
    # the bit shifted in from the start of the next row is not a neighbour
    right[:, :, -1] &= np.uint64((1 << _WORD - 1) - 1)
    if at_right:
        word, bit = divmod(width - 1, _WORD)
        right[:, :, word] |= stack[:, :, word] & np.uint64(1 << bit)
    edges = stack ^ right
    edges[:-1] |= stack[:-1] ^ stack[1:]
    edges[:-1] |= stack[:-1] ^ right[1:]
    if not at_bottom:
        edges[-1] |= stack[-1]
    return edges


def dilate(stack: np.ndarray, radius: int) -> np.ndarray:
    """Return a stack dilated with the disk dx^2 + dy^2 <= radius^2.

    It needs `radius` zero bits after each row. The disk is the union of its rows. For |dy| =
    radius, radius - 1, ..., 0, rows are dilated further to the half-width of the disk there, and
    merged into the result dy rows up and down.
    """
    height = len(stack)
    rows = stack.copy()
    result = np.zeros_like(stack)
    reached = 0
    for dy, half_width in _half_widths(radius):
        while reached < half_width:
            step = min(half_width - reached, 2 * reached + 1, _WORD - 1)
            _widen(rows.reshape(-1), step)
            reached += step
        if dy == 0:
            result |= rows
        elif dy < height:
            result[dy:] |= rows[:-dy]
            result[:-dy] |= rows[dy:]
    return result


@lru_cache
def _half_widths(radius: int) -> tuple[tuple[int, int], ...]:
    return tuple((dy, math.isqrt(radius * radius - dy * dy)) for dy in range(radius, -1, -1))


def _widen(flat: np.ndarray, step: int) -> None:
    """Set, in place, every pixel that has a set one exactly `step` pixels to its left or right."""
    near, far = np.uint64(step), np.uint64(_WORD - step)
    spread = flat << near
    carry = flat >> far
    spread[1:] |= carry[:-1]
    np.right_shift(flat, near, out=carry)
    spread |= carry
    np.left_shift(flat, far, out=carry)
    spread[:-1] |= carry[1:]
    flat |= spread
