"""The reader of mask files: what a file holds, and which object ids its pixels have.

`convert`, `check`, `segment` and `score` read masks with this module, so they give one answer.
"""

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from noisyvos.errors import UserError
from noisyvos.io.codecs import decode_index_png
from noisyvos.io.files import check_regular
from noisyvos.io.grey_masks import grey_levels
from noisyvos.io.images import DAMAGED, orientation
from noisyvos.io.mask_rules import (
    COLOURS_HINT,
    LEVEL_STEP,
    LOSSLESS,
    ONE_OBJECT_HINT,
    THRESHOLD_HINT,
    VOID,
    check_palette,
    colour_codes,
    davis_ids,
    eight_bits,
    has_soft_edges,
    is_ramp,
    number_colours,
    refuse_soft_edges,
    told_numbers,
)

_LEAST_LEVEL = 128  # of an object, where masks hold levels


@dataclass(frozen=True)
class StoredMask:
    """A mask file as it is stored: Pillow's names of its format and mode, and its pixel values."""

    format: str
    mode: str
    values: np.ndarray  # (H, W), or (H, W, channels) where pixels are colours
    palette: np.ndarray | None = None  # (256, 3) uint8 at most, of mode P
    transparent: tuple[int, ...] = ()  # values that the file declares transparent


def open_mask(data: bytes | Path | str, name: str | None = None) -> StoredMask:
    """Return what a mask file holds, given as bytes or a path, without judging it.

    Grey levels of 2 and 4 bits are as stored, 0..3 and 0..15. FileNotFoundError or UserError names
    a file that is absent, cannot be decoded, or is not one upright picture.
    """
    name = name or _name(data)
    if not isinstance(data, bytes):
        check_regular(data, "mask file")
    try:
        content = data if isinstance(data, bytes) else Path(data).read_bytes()
        quick = decode_index_png(content)
        if quick is not None:
            return _plain(*quick)
        with Image.open(io.BytesIO(content)) as image:
            pictures = getattr(image, "n_frames", 1)
            # Pillow spreads grey levels of few bits over 0..255
            raw = str(image.tile[0][3]) if image.mode == "L" and image.tile else ""
            spread = 85 if "L;2" in raw else 17 if "L;4" in raw else 1
            values = np.array(image) // spread if spread > 1 else np.array(image)
            palette = None
            if image.mode == "P":
                palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
            transparent = _transparent(image, spread)
            turned = orientation(image)
            stored = StoredMask(image.format or "", image.mode, values, palette, transparent)
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such mask file.") from None
    except IsADirectoryError:
        raise UserError(f"{name}: this is a folder, and a mask is a PNG file.") from None
    except DAMAGED as error:
        raise UserError(f"{name}: this file cannot be read as a PNG mask ({error}).") from None
    if pictures > 1:
        raise UserError(f"{name}: this file holds {pictures} pictures. Save one mask in each file.")
    if turned != 1:
        raise UserError(
            f"{name}: this mask has an EXIF orientation ({turned}), copied from a photo, so it is "
            "not clear whether its pixels are upright. Save it again without EXIF."
        )
    return stored


def _plain(values: np.ndarray, palette: bytes) -> StoredMask:
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    return StoredMask("PNG", "P", values, colours) if palette else StoredMask("PNG", "L", values)


def _transparent(image: Image.Image, spread: int) -> tuple[int, ...]:
    given = image.info.get("transparency")
    if isinstance(given, bytes):
        return tuple(index for index, alpha in enumerate(given) if alpha == 0)
    return (given // spread,) if isinstance(given, int) else ()


def _name(data: bytes | Path | str) -> str:
    return "mask" if isinstance(data, bytes) else str(data)


def decode_mask(
    data: bytes | Path | str, name: str | None = None, *, rgb: bool = True
) -> np.ndarray:
    """Return an index mask (H, W) uint8 from the bytes of a file or its path.

    Palette images and grey ones of any depth hold ids. With `rgb`, RGB files do if they are grey or
    have the colours of the DAVIS palette. Fully transparent pixels are background. UserError names
    any other file, says what is in it and what helps: other colours, ids above 255, JPEG data, the
    grey levels of soft edges, a background of another index than 0.
    """
    name = name or _name(data)
    stored = open_mask(data, name)
    if stored.mode.startswith("RGB") and stored.format in LOSSLESS and not rgb:
        raise UserError(
            f"{name}: a mask holds ids, but this file is {stored.mode}. If its colours are those "
            "of the DAVIS palette, or its grey values are ids, give `--rgb` to `score`. Otherwise "
            "save it as an 8-bit indexed PNG."
        )
    return decode_stored(stored, name)


def decode_stored(stored: StoredMask, name: str) -> np.ndarray:
    """Return what `decode_mask` does, of a file that is open already."""
    mask, codes = _levels(stored, name)
    if codes is not None:
        found = davis_ids(codes)
        if found is None:
            raise UserError(
                f"{name} is RGB and holds colours that are not in the DAVIS palette, so it is not "
                "clear which ids they are. Save the masks as 8-bit indexed PNGs. " + COLOURS_HINT
            )
        mask = found
    return mask


def decode_binary(data: bytes | Path | str, name: str | None = None) -> np.ndarray:
    """Return where a mask holds anything, (H, W) uint8 0/1; 255 counts as object.

    In JPEG data and masks with soft edges, levels from 128 on count. UserError names a file that
    cannot be used.
    """
    name = name or _name(data)
    stored = open_mask(data, name)
    if has_levels(stored):
        return grey_levels(data, name, _LEAST_LEVEL)
    mask, codes = _levels(stored, name)
    if codes is not None:
        (mask,), _ = number_colours([codes], name)
    return (mask > 0).astype(np.uint8)


def _levels(
    stored: StoredMask, name: str, *, video: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the ids (H, W) uint8 and None, or nothing and the codes of the colours.

    Many thin ids in a palette are refused in a `video` only: the published rules for still images
    make such masks.
    """
    values, mode = stored.values, stored.mode
    if stored.format not in LOSSLESS:
        raise UserError(
            f"{name}: this file holds {stored.format} data, which changes ids at the edges of "
            f"objects. Export the masks as indexed PNG. {THRESHOLD_HINT}"
        )
    if mode in ("LA", "PA", "RGBA"):
        values, mode = _opaque(values, name), mode[:-1]
    codes = None
    if mode == "RGB":
        if (values == values[..., :1]).all():  # grey in three channels
            values, mode = values[..., 0], "L"
        else:
            codes = colour_codes(values)
            return np.zeros((0, 0), np.uint8), codes
    elif mode.startswith("I"):
        values = eight_bits(values, name)
    elif mode not in ("P", "L", "1"):
        raise UserError(
            f"{name}: a mask must be a palette or grey PNG whose values are object ids, "
            f"but this file is {mode}. Save it again as an 8-bit indexed PNG."
        )
    mask = values.astype(np.uint8, copy=False)
    if stored.palette is not None or stored.transparent:
        palette = np.zeros((0, 3), np.uint8) if stored.palette is None else stored.palette
        check_palette(mask, palette, stored.transparent, name)
    if video or mode != "P" or is_ramp(stored.palette):
        refuse_soft_edges(mask, name)
    return mask, None


def _opaque(values: np.ndarray, name: str) -> np.ndarray:
    """Return pixels without their alpha channel; fully transparent ones become black."""
    alpha, colours = values[..., -1], values[..., :-1]
    if not np.isin(alpha, (0, 255)).all():
        raise UserError(
            f"{name}: this mask has half transparent pixels, as soft edges have. Save it again as "
            f"an 8-bit indexed PNG. {THRESHOLD_HINT}"
        )
    if not alpha.any() and colours.any():
        raise UserError(
            f"{name}: every pixel of this mask is transparent, but some have a colour. "
            "Save it again without an alpha channel."
        )
    shown = np.where(alpha[..., None] > 0, colours, 0).astype(np.uint8)
    return shown[..., 0] if shown.shape[-1] == 1 else shown


def has_levels(stored: StoredMask) -> bool:
    """Whether the pixels of a mask are levels of one object, lossy or with soft edges, not ids."""
    if stored.format not in LOSSLESS:
        return True
    values, mode = stored.values, stored.mode
    if mode in ("LA", "PA", "RGBA"):
        if not np.isin(values[..., -1], (0, 255)).all():
            return True
        values = values[..., :-1]
    if mode.startswith("I"):
        wide = not (values % LEVEL_STEP).any() and values.max(initial=0) <= VOID * LEVEL_STEP
        return bool(wide) and has_soft_edges((values // LEVEL_STEP).astype(np.uint8))
    channels = [values] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    return values.dtype == np.uint8 and any(map(has_soft_edges, channels))


K = TypeVar("K")


def read_mask_set(files: Mapping[K, Path], one_object: bool = False) -> dict[K, np.ndarray]:
    """Return the index masks (H, W) uint8 of one video. Convert, check and segment read with this.

    Colours other than those of the DAVIS palette are numbered over the whole video, with a message.
    With `one_object` all ids become object 1, and 255 too if the masks hold 0 and 255 only. If a
    file holds JPEG data or soft edges, levels from 128 on are the object. UserError names a file
    that cannot be used, and masks without an object.
    """
    stored = {key: open_mask(file) for key, file in files.items()}
    return mask_set(stored, files, one_object)


def mask_set(
    stored: Mapping[K, StoredMask], files: Mapping[K, Path], one_object: bool = False
) -> dict[K, np.ndarray]:
    """Return what `read_mask_set` does, of files that are open already."""
    if one_object and any(map(has_levels, stored.values())):
        return {key: _grey_or_ids(stored[key], file) for key, file in files.items()}
    levels = {key: _levels(kept, str(files[key]), video=True) for key, kept in stored.items()}
    masks = {key: mask for key, (mask, codes) in levels.items() if codes is None}
    indexed = next((files[key] for key, mask in masks.items() if mask.any()), None)
    coloured = {key: codes for key, (_, codes) in levels.items() if codes is not None}
    masks |= _numbered(coloured, files, indexed, quiet=one_object)
    if not one_object:
        _check_palettes(stored, masks, files)
    _refuse_black_and_white(stored, masks, files)
    values = set().union(*(np.unique(mask).tolist() for mask in masks.values()))
    if values <= {0, VOID}:
        if not one_object or VOID not in values:
            raise _no_object(masks, files, VOID in values)
        return {key: (masks[key] > 0).astype(np.uint8) for key in files}
    if one_object:
        return {
            key: np.where(masks[key] == VOID, VOID, masks[key] > 0).astype(np.uint8)
            for key in files
        }
    return {key: masks[key] for key in files}


def _refuse_black_and_white(
    stored: Mapping[K, StoredMask], masks: Mapping[K, np.ndarray], files: Mapping[K, Path]
) -> None:
    """Raise UserError for a grey mask of 0 and 255 in a video whose palette masks hold ids.

    Another program wrote it, and its 255 is an object. Read with the others, it would be void.
    """
    grey = [key for key, kept in stored.items() if kept.mode == "L"]
    wrong = next((key for key in grey if set(np.unique(masks[key]).tolist()) == {0, VOID}), None)
    if wrong is None:
        return
    for key, kept in stored.items():
        if kept.mode == "P" and ((masks[key] > 0) & (masks[key] < VOID)).any():
            raise UserError(
                f"{files[wrong]}: this grey mask holds 0 and 255 only, and {files[key].name} of "
                "the same video is a palette PNG with object ids. Its 255 would be void. Save it "
                "with the ids of the others, or leave it out."
            )


def _no_object(masks: Mapping[K, np.ndarray], files: Mapping[K, Path], void: bool) -> UserError:
    first = next((files[key] for key in files if masks[key].any()), next(iter(files.values())))
    where = first if len(files) == 1 else first.parent
    what, hint = "void (255)", ONE_OBJECT_HINT
    if not void:
        what, hint = "background (0)", "At least one must; leave such a sequence out."
    return UserError(
        f"{where}: these masks hold no object, only {what}: "
        f"no mask names an object (ids 1..254). {hint}"
        + ("" if len(files) == 1 else f" The first such file is {first.name}.")
    )


def _grey_or_ids(stored: StoredMask, file: Path) -> np.ndarray:
    """Return one object (H, W) uint8 0/1 of a mask in a video where some hold levels."""
    lossless = stored.format in LOSSLESS and stored.mode in ("P", "L", "1")
    if lossless and not has_levels(stored) and stored.values.max() < _LEAST_LEVEL:
        return (stored.values > 0).astype(np.uint8)
    return grey_levels(file, str(file), _LEAST_LEVEL)


def _numbered(
    codes: Mapping[K, np.ndarray], files: Mapping[K, Path], indexed: Path | None, quiet: bool
) -> dict[K, np.ndarray]:
    """Return the masks of coloured files: ids of the DAVIS palette, else those of the video.

    `indexed` is a file of the same video that holds ids.
    """
    if not codes:
        return {}
    davis = {key: davis_ids(each) for key, each in codes.items()}
    if all(mask is not None for mask in davis.values()):
        return {key: mask for key, mask in davis.items() if mask is not None}
    first = files[next(iter(codes))]
    where = str(first if len(codes) == 1 else first.parent)
    if indexed is not None:
        raise UserError(
            f"{first}: this mask holds colours that are not in the DAVIS palette, but other masks "
            f"of the video hold ids ({indexed.name}). Save all as 8-bit indexed PNGs."
        )
    masks, ids = number_colours(list(codes.values()), where)
    if not quiet:
        print(
            f"noisyvos: warning: {where}: these masks hold colours, which are numbered over the "
            f"whole video: {told_numbers(ids)}.",
            file=sys.stderr,
        )
    return dict(zip(codes, masks, strict=True))


def _check_palettes(
    stored: Mapping[K, StoredMask], masks: Mapping[K, np.ndarray], files: Mapping[K, Path]
) -> None:
    """Refuse a video in which one colour has two ids, as if each palette was made for one frame."""
    palettes = {key: kept.palette for key, kept in stored.items() if kept.palette is not None}
    if len({palette.tobytes() for palette in palettes.values()}) < 2:
        return
    ids: dict[tuple[int, ...], tuple[int, K]] = {}
    colours: dict[int, tuple[int, ...]] = {}
    clash: tuple[tuple[int, ...], int, K] | None = None
    changed = False
    for key, palette in palettes.items():
        for number in np.unique(masks[key]).tolist():
            if number in (0, VOID) or number >= len(palette):
                continue
            colour = tuple(palette[number].tolist())
            changed = changed or colours.setdefault(number, colour) != colour
            other, first = ids.setdefault(colour, (number, key))
            if any(colour) and other != number and first != key:
                clash = clash or (colour, number, key)
    if clash is not None and changed:
        colour, number, key = clash
        other, first = ids[colour]
        raise UserError(
            f"{files[key]}: the colour {colour} is id {number} in the palette of this mask, but "
            f"id {other} in {files[first].name}. Save all masks of a video with one palette."
        )
