"""What the pixel values of a mask file mean: which are object ids, what is refused, what helps."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from noisyvos.errors import UserError

VOID = 255
LOSSLESS = ("PNG", "BMP", "GIF", "TIFF")  # Pillow's formats that keep ids as they are
_LEAST_GREY = 32
_FEW = 12  # ids; so many are counted one by one in a fraction of the time of a histogram
_LEAST_SPREAD = 64  # between the channels of a pixel: a colour, not a grey that JPEG disturbed
LEVEL_STEP = 257  # 8-bit levels times this are what programs write in 16 bits: 255 becomes 65535
ONE_OBJECT_HINT = (
    "If 255 marks one object here (as in DAVIS 2016), set `one_object: true` for the dataset, or "
    "give `--one-object` to `segment` and `check`, `--binary` to `score`."
)
THRESHOLD_HINT = (
    "If each mask holds one object, `one_object: true` of the dataset, `--one-object` of "
    "`segment` and `check`, or `--binary` of `score` takes levels from 128 on as the object."
)
COLOURS_HINT = (
    "`convert` (kinds `folder` and `davis`) and `segment` number the colours of a whole video."
)


def davis_palette() -> np.ndarray:
    """Return the DAVIS and PASCAL VOC colour map, (256, 3) uint8.

    Bit 7 - k of each channel comes from bits 3k..3k+2 of the index.
    """
    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return palette


def is_ramp(palette: np.ndarray | None) -> bool:
    """Whether a palette holds the grey levels in order."""
    levels = np.arange(256)[:, None]
    return palette is not None and len(palette) == 256 and bool((palette == levels).all())


def check_palette(
    mask: np.ndarray, palette: np.ndarray, transparent: Sequence[int], name: str
) -> None:
    """Refuse a palette in which black or a transparent index is the background, not index 0."""
    coloured = len(palette) > 0 and palette[0].any()
    if not coloured and not transparent:
        return
    used = np.flatnonzero(histogram(mask))
    if coloured:
        black = np.intersect1d(np.flatnonzero(~palette.any(axis=1)), used)
        if len(black):
            raise UserError(
                f"{name}: in the palette of this mask black is index {black[0]}, and index 0 is "
                f"the colour {tuple(palette[0].tolist())}, but 0 is the background. Save the mask "
                "again with a palette that starts with black."
            )
    hidden = np.intersect1d(used[used > 0], transparent)
    if len(hidden):
        raise UserError(
            f"{name}: the value {hidden[0]} of this mask is transparent, so it seems to be the "
            "background, but 0 is. Save the mask again without transparency, with 0 as background."
        )


def histogram(mask: np.ndarray) -> np.ndarray:
    """Return how often each value 0..255 occurs in a mask (H, W) uint8, (256,) int64."""
    if not mask.size:
        return np.zeros(256, np.int64)
    most = int((mask + np.uint8(1)).max()) - 1  # void wraps to 0
    if most > _FEW:
        if mask.size >= 1 << 24:  # OpenCV counts in 32-bit floats, which are exact up to 2^24
            return np.bincount(mask.ravel(), minlength=256)
        return cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    counts = np.zeros(256, np.int64)
    for value in (*range(1, most + 1), VOID):
        counts[value] = cv2.countNonZero((mask == value).view(np.uint8))
    counts[0] = mask.size - counts.sum()
    return counts


def has_soft_edges(mask: np.ndarray) -> bool:
    """Whether the values of a mask (H, W) uint8 are grey levels of soft edges, not object ids.

    They are if most of at least three values, one of them 32 or more, nowhere fill 3x3 pixels. We
    leave out 0 and 255.
    """
    # void wraps to 0, so nearly all masks end here
    if mask.size == 0 or (mask + np.uint8(1)).max() <= _LEAST_GREY:
        return False
    present = histogram(mask) > 0
    present[[0, VOID]] = False
    if present.sum() < 3 or not present[_LEAST_GREY:].any():
        return False
    thin = int((present & ~thick_values(mask)).sum())
    return thin >= 3 and thin >= 0.6 * present.sum()


def thick_values(mask: np.ndarray) -> np.ndarray:
    """Return which values 0..255 fill 3x3 pixels somewhere in a mask (H, W) uint8, (256,) bool."""
    inside = mask[1:-1, 1:-1]
    full = np.ones(inside.shape, bool)
    for row in range(3):
        for column in range(3):
            height, width = inside.shape
            full &= mask[row : row + height, column : column + width] == inside
    return np.bincount(inside[full], minlength=256) > 0


def refuse_soft_edges(mask: np.ndarray, name: str) -> None:
    """Raise UserError naming a mask whose values are grey levels of soft edges."""
    if has_soft_edges(mask):
        levels = len(np.setdiff1d(np.unique(mask), (0, VOID)))
        raise UserError(
            f"{name}: the {levels} values between 0 and 255 of this mask are grey levels of soft "
            "edges, not object ids. Threshold the masks and save them as indexed PNG. "
            f"{THRESHOLD_HINT}"
        )


def eight_bits(values: np.ndarray, name: str) -> np.ndarray:
    """Return ids of 16 or 32 bits (H, W) as uint8.

    Ids up to 255 stay, and levels that a program spread over 16 bits (255 is 65535) are as before.
    UserError names a mask with other values.
    """
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if 0 <= low and high <= VOID:
        return values.astype(np.uint8)
    if 0 <= low and high <= VOID * LEVEL_STEP and not (values % LEVEL_STEP).any():
        return (values // LEVEL_STEP).astype(np.uint8)
    raise UserError(
        f"{name}: this mask of 16 bits holds values from {low} to {high}, but ids are 0 to 254, "
        "and 255 is void. Number the objects of the video 1, 2, ... and save 8-bit indexed PNGs."
    )


def colour_codes(colours: np.ndarray) -> np.ndarray:
    """Return colours (..., 3) uint8 RGB as red * 65536 + green * 256 + blue, (...) uint32."""
    wide = colours.astype(np.uint32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


_DAVIS = {int(code): index for index, code in enumerate(colour_codes(davis_palette()))}


def davis_ids(codes: np.ndarray) -> np.ndarray | None:
    """Return the ids (H, W) uint8 of colours of the DAVIS palette; None if another is there."""
    present, place = np.unique(codes, return_inverse=True)
    ids = [_DAVIS.get(code) for code in present.tolist()]
    if None in ids:
        return None
    return np.array(ids, np.uint8)[place.reshape(codes.shape)]


def has_colour(pixels: np.ndarray) -> bool:
    """Whether pixels (..., 3) uint8 hold a colour, beyond what JPEG does to grey ones."""
    spread = pixels.max(axis=-1).astype(np.int16) - pixels.min(axis=-1)
    return bool((spread >= _LEAST_SPREAD).any())


def number_colours(
    codes: Sequence[np.ndarray], where: str
) -> tuple[list[np.ndarray], dict[int, int]]:
    """Return the masks (H, W) uint8 of the colours of one video, and {colour: id}.

    Black is 0, the other colours are 1, 2, ... in ascending order. `codes` are those of
    `colour_codes`. UserError if black is nowhere, there are too many colours, or one nowhere fills
    3x3 pixels, as the mixed colours of soft edges do.
    """
    colours = sorted(set().union(*(np.unique(each).tolist() for each in codes)))
    if colours[0] != 0:
        raise UserError(
            f"{where}: these masks hold colours, but no black pixel, and black is the background. "
            f"The colours are {_named(colours)}. Save them as indexed PNGs with 0 as background."
        )
    soft = (
        "are mixed colours, as soft edges and photographs have them. Save the masks without "
        f"smoothing, as indexed PNGs. {THRESHOLD_HINT}"
    )
    if len(colours) > VOID:
        raise UserError(f"{where}: the {len(colours)} colours of these masks {soft}")
    ids = {colour: number for number, colour in enumerate(colours)}
    masks = [np.searchsorted(colours, each).astype(np.uint8) for each in codes]
    thick = np.any([thick_values(mask) for mask in masks], axis=0)
    thin = [colour for colour, number in ids.items() if number and not thick[number]]
    if thin:
        raise UserError(f"{where}: the colours {_named(thin)} of these masks {soft}")
    return masks, ids


def _named(colours: Iterable[int]) -> str:
    """Return the first colours as (red, green, blue)."""
    listed = list(colours)
    shown = ", ".join(str((code >> 16, code >> 8 & 255, code & 255)) for code in listed[:5])
    return shown + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def told_numbers(ids: dict[int, int]) -> str:
    """Return {colour: id} as text, without the background."""
    return ", ".join(f"{_named([colour])} is {number}" for colour, number in ids.items() if number)
