"""Which pixel values can be object ids: what the mask reader refuses and advises."""

import numpy as np

from noisyvos.errors import UserError

VOID = 255
LOSSLESS = ("PNG", "BMP", "GIF", "TIFF")  # Pillow's formats that keep ids as they are
_LEAST_GREY = 32
ONE_OBJECT_HINT = (
    "If 255 marks one object here (as in DAVIS 2016), set `one_object: true` for the dataset, or "
    "give `--one-object` to `segment` and `check`, `--binary` to `score`."
)
THRESHOLD_HINT = (
    "If each mask holds one object, `one_object: true` of the dataset, or `--one-object` of "
    "`segment` and `check`, takes grey levels from 128 on as the object."
)


def is_ramp(palette: np.ndarray | None) -> bool:
    """Whether a palette holds the grey levels in order."""
    levels = np.arange(256)[:, None]
    return palette is not None and len(palette) == 256 and bool((palette == levels).all())


def check_palette(mask: np.ndarray, palette: np.ndarray, name: str) -> None:
    """Refuse a palette in which black, the background, has another index than 0."""
    if not len(palette) or not palette[0].any():
        return
    black = np.flatnonzero(~palette.any(axis=1))
    used = np.intersect1d(black, np.unique(mask))
    if len(used):
        raise UserError(
            f"{name}: in the palette of this mask black is index {used[0]}, and index 0 is the "
            f"colour {tuple(palette[0].tolist())}, but 0 is the background. Save the mask again "
            "with a palette that starts with black."
        )


def has_soft_edges(mask: np.ndarray) -> bool:
    """Whether the values of a mask (H, W) uint8 are grey levels of soft edges, not object ids.

    They are if most of at least three values, one of them 32 or more, nowhere fill 3x3 pixels. We
    leave out 0 and 255.
    """
    if mask.size == 0 or mask.max() < _LEAST_GREY:
        return False
    present = np.bincount(mask.ravel(), minlength=256) > 0
    present[[0, VOID]] = False
    if present.sum() < 3 or not present[_LEAST_GREY:].any():
        return False
    inside = mask[1:-1, 1:-1]
    full = np.ones(inside.shape, bool)
    for row in range(3):
        for column in range(3):
            height, width = inside.shape
            full &= mask[row : row + height, column : column + width] == inside
    thick = np.bincount(inside[full], minlength=256) > 0
    thin = int((present & ~thick).sum())
    return thin >= 3 and thin >= 0.6 * present.sum()


def refuse_soft_edges(mask: np.ndarray, name: str) -> None:
    """Raise UserError naming a mask whose values are grey levels of soft edges."""
    if has_soft_edges(mask):
        levels = len(np.setdiff1d(np.unique(mask), (0, VOID)))
        raise UserError(
            f"{name}: the {levels} values between 0 and 255 of this mask are grey levels of soft "
            "edges, not object ids. Threshold the masks and save them as indexed PNG. "
            f"{THRESHOLD_HINT}"
        )
