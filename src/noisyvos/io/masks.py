"""The reader and writer of masks: single files, and collections in a folder or a zip.

Masks are index images, (H, W) uint8: 0 is background, 1..254 are object ids, 255 is void. Files are
palette PNGs with the colour map that DAVIS and PASCAL VOC share. A mask collection holds
`<sequence>/<frame>.png` in a folder or in one zip, which is read without unpacking. The zip is what
benchmark servers take as a submission: entries are stored in sorted order, without compression and
with a fixed time, so equal masks give equal bytes.
"""

import io
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
from PIL import Image

from noisyvos.errors import UserError
from noisyvos.io.atomic import atomic_file
from noisyvos.io.files import files_below, is_stray, normal, time_order
from noisyvos.io.images import read_bgr
from noisyvos.io.mask_rules import (
    LOSSLESS,
    ONE_OBJECT_HINT,
    THRESHOLD_HINT,
    VOID,
    check_palette,
    has_soft_edges,
    is_ramp,
    refuse_soft_edges,
)

INDEX_MODES = ("P", "L", "1")  # Pillow's modes whose pixel values are indices
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip entry can carry


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


_PALETTE = davis_palette().tobytes()


@dataclass(frozen=True)
class StoredMask:
    """A mask file as it is stored: Pillow's names of its format and mode, and its pixel values."""

    format: str
    mode: str
    values: np.ndarray  # (H, W), or (H, W, channels) where pixels are colours
    palette: np.ndarray | None = None  # (256, 3) uint8 at most, of mode P


def open_mask(data: bytes | Path | str, name: str | None = None) -> StoredMask:
    """Return what a mask file holds, given as bytes or a path, without judging it.

    Grey levels of 2 and 4 bits are as stored, 0..3 and 0..15. FileNotFoundError or UserError names
    a file that is absent or cannot be decoded.
    """
    name = name or ("mask" if isinstance(data, bytes) else str(data))
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
            # Pillow spreads grey levels of few bits over 0..255
            raw = str(image.tile[0][3]) if image.mode == "L" and image.tile else ""
            spread = 85 if "L;2" in raw else 17 if "L;4" in raw else 1
            values = np.array(image) // spread if spread > 1 else np.array(image)
            palette = None
            if image.mode == "P":
                palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
            return StoredMask(image.format or "", image.mode, values, palette)
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such mask file.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{name}: this file cannot be read as a PNG mask ({error}).") from None


def decode_mask(data: bytes | Path | str, name: str | None = None) -> np.ndarray:
    """Return an index mask (H, W) uint8 from the bytes of a file or its path.

    Palette images and grey ones of 1, 2, 4 or 8 bits hold indices, opaque grey with alpha too.
    UserError names any other file, says what is in it and what helps: colours (RGB), 16 bits, JPEG
    data, the grey levels of soft edges, a background of another index than 0.
    """
    name = name or ("mask" if isinstance(data, bytes) else str(data))
    return _indices(open_mask(data, name), name)


def _indices(stored: StoredMask, name: str) -> np.ndarray:
    values, mode = stored.values, stored.mode
    if stored.format not in LOSSLESS:
        raise UserError(
            f"{name}: this file holds {stored.format} data, which changes ids at the edges of "
            f"objects. Export the masks as indexed PNG. {THRESHOLD_HINT}"
        )
    if mode in ("LA", "PA") and (values[..., 1] == 255).all():
        values, mode = values[..., 0], mode[0]
    if mode not in INDEX_MODES:
        raise UserError(
            f"{name}: a mask must be a palette or grey PNG whose values are object ids, "
            f"but this file is {mode}. Save it again as an 8-bit indexed PNG."
        )
    mask = values.astype(np.uint8, copy=False)
    if stored.palette is not None:
        check_palette(mask, stored.palette, name)
    if mode == "L" or is_ramp(stored.palette):
        refuse_soft_edges(mask, name)
    return mask


K = TypeVar("K")


def read_mask_set(files: Mapping[K, Path], one_object: bool = False) -> dict[K, np.ndarray]:
    """Return the index masks (H, W) uint8 of one video. Convert, check and segment read with this.

    With `one_object` all ids become object 1, and 255 too if the masks hold 0 and 255 only. If a
    file holds JPEG data or soft edges, grey levels from 128 on are the object. UserError names a
    file that cannot be used, and masks without an object.
    """
    stored = {key: open_mask(file) for key, file in files.items()}
    if one_object and any(map(_has_levels, stored.values())):
        return {key: read_grey(file, 128) for key, file in files.items()}
    masks = {key: _indices(kept, str(files[key])) for key, kept in stored.items()}
    values = set().union(*(np.unique(mask).tolist() for mask in masks.values()))
    if values <= {0, VOID}:
        if not one_object:
            first = next(
                (files[key] for key, mask in masks.items() if mask.any()),
                next(iter(files.values())),
            )
            where = first if len(files) == 1 else first.parent
            what, hint = "void (255)", ONE_OBJECT_HINT
            if VOID not in values:
                what, hint = "background (0)", "At least one must; leave such a sequence out."
            raise UserError(
                f"{where}: these masks hold no object, only {what}: "
                f"no mask names an object (ids 1..254). {hint}"
                + ("" if len(files) == 1 else f" The first such file is {first.name}.")
            )
        return {key: (mask > 0).astype(np.uint8) for key, mask in masks.items()}
    if one_object:
        return {
            key: np.where(mask == VOID, mask, mask > 0).astype(np.uint8)
            for key, mask in masks.items()
        }
    return masks


def _has_levels(stored: StoredMask) -> bool:
    if stored.format not in LOSSLESS:
        return True
    grey = stored.mode == "L" or is_ramp(stored.palette)
    return grey and has_soft_edges(stored.values)


def decode_coloured_mask(data: bytes | Path | str, name: str | None = None) -> np.ndarray:
    """Return the indices (H, W) uint8 of an RGB image in the colours of the DAVIS palette.

    UserError names a file with any other colour. An index image is decoded as `decode_mask` does.
    """
    stored = open_mask(data, name)
    if stored.mode != "RGB":
        return decode_mask(data, name)
    colours = stored.values.astype(np.uint32)
    codes = (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]
    palette = davis_palette().astype(np.uint32)
    known = (palette[:, 0] << 16) | (palette[:, 1] << 8) | palette[:, 2]
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], codes), len(known) - 1)
    indices = order[place].astype(np.uint8)
    if (known[indices] != codes).any():
        name = name or ("mask" if isinstance(data, bytes) else str(data))
        raise UserError(
            f"{name} is RGB and holds colours that are not in the DAVIS palette. "
            "Save it again as an indexed PNG."
        )
    return indices


def read_grey(path: Path, threshold: int) -> np.ndarray:
    """Return where the grey level of an image is at least `threshold` (0..255), as uint8 0/1.

    Of 16 bits we take the upper 8. Transparent pixels are background. UserError names a file that
    cannot be read.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):
                grey = np.array(image) >> 8
            elif "A" in image.getbands():
                black = Image.new("RGBA", image.size, (0, 0, 0, 255))
                grey = np.array(Image.alpha_composite(black, image.convert("RGBA")).convert("L"))
            else:
                grey = np.array(image.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: this file cannot be read as a mask ({error}).") from None
    return (grey >= threshold).astype(np.uint8)


def read_colour_codes(path: Path) -> np.ndarray:
    """Return the colours of an image as blue * 65536 + green * 256 + red, (H, W) uint32."""
    return read_bgr(path).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)


def read_bitmap(path: Path) -> np.ndarray:
    """Return a scribble map, an 8-bit image of one channel, (H, W) uint8; else UserError."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P"):
                raise UserError(
                    f"{path}: an image of mode {image.mode}; "
                    "scribbles are 8-bit bitmaps of one channel."
                )
            return np.array(image)
    except OSError as error:
        raise UserError(f"{path}: this scribble map cannot be read ({error}).") from None


def encode_mask(mask: np.ndarray, palette: bytes = _PALETTE) -> bytes:
    """Return an index mask (H, W) uint8 as palette PNG bytes; equal masks give equal bytes.

    `palette` holds 256 RGB triples; the default is that of DAVIS.
    """
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(f"a mask is (H, W) uint8, not {mask.shape} {mask.dtype}")
    image = Image.fromarray(mask).convert("L")
    image.putpalette(palette)  # turns mode L into P without touching the indices
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an index mask at `size` (height, width): nearest neighbour at pixel centres."""
    rows = ((np.arange(size[0]) + 0.5) * mask.shape[0] / size[0]).astype(np.intp)
    columns = ((np.arange(size[1]) + 0.5) * mask.shape[1] / size[1]).astype(np.intp)
    return np.ascontiguousarray(mask[rows[:, None], columns[None, :]])


class MaskCollection:
    """Read access to the masks of a folder or a zip; stray files are left out."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._zip: zipfile.ZipFile | None = None
        self._index: dict[str, dict[str, str]] = {}
        if self.path.is_dir():
            names = files_below(self.path)
        elif self.path.is_file():
            try:
                self._zip = zipfile.ZipFile(self.path)
            except zipfile.BadZipFile:
                raise UserError(
                    f"{self.path}: this file is not a readable zip (truncated?). "
                    "Make or fetch it again."
                ) from None
            names = self._zip.namelist()
        else:
            raise FileNotFoundError(f"{self.path}: no such folder or zip of masks.")
        found: dict[str, dict[str, str]] = {}
        for name in names:
            self._add(found, name)
        self._index = {
            sequence: {frame: frames[frame] for frame in time_order(frames)}
            for sequence, frames in sorted(found.items())
        }

    def _add(self, found: dict[str, dict[str, str]], name: str) -> None:
        """Add a mask to {sequence: {frame: stored name}}; other files are passed over."""
        # some programs pack zips with backslashes between folders
        path = normal(name if self._zip is None else name.replace("\\", "/"))
        if not path.lower().endswith(".png"):
            return
        parts = path.removeprefix("./").split("/")
        if path.startswith("/") or ".." in parts:
            raise UserError(
                f"{self.path}: entry {name!r} leads out of its folder. "
                "Pack the masks again as <sequence>/<frame>.png."
            )
        if len(parts) == 1 or any(map(is_stray, parts)):
            return
        frames = found.setdefault("/".join(parts[:-1]), {})
        frame = parts[-1][: -len(".png")]
        if frame in frames:
            raise UserError(
                f"{self.path}: the mask {'/'.join(parts)} is there twice "
                f"({frames[frame]!r} and {name!r}). Keep one of them."
            )
        frames[frame] = name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the zip; a folder needs nothing."""
        if self._zip is not None:
            self._zip.close()

    def sequences(self) -> tuple[str, ...]:
        """Return the sequence names, sorted; nested folders keep their slashes."""
        return tuple(self._index)

    def frames(self, sequence: str) -> tuple[str, ...]:
        """Return the frame names (file stems) of a sequence in time order; empty if unknown."""
        return tuple(self._index.get(normal(sequence), ()))

    def read(self, sequence: str, frame: str) -> np.ndarray:
        """Return one mask, (H, W) uint8; FileNotFoundError or UserError names an unusable one."""
        return decode_mask(self.read_bytes(sequence, frame), f"{self.path}: {sequence}/{frame}.png")

    def read_bytes(self, sequence: str, frame: str) -> bytes:
        """Return the bytes of one mask; FileNotFoundError or UserError names an unusable one."""
        name = self._index.get(normal(sequence), {}).get(normal(frame))
        where = f"{self.path}: {sequence}/{frame}.png"
        if name is None:
            raise FileNotFoundError(f"{where} is missing.")
        try:
            if self._zip is None:
                with open(f"{self.path}/{name}", "rb") as file:
                    return file.read()
            return self._zip.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError):
            raise UserError(
                f"{where} is damaged inside the zip. Make or fetch the zip again."
            ) from None
        except (NotImplementedError, RuntimeError) as error:  # unknown compression, encryption
            raise UserError(
                f"{where} cannot be read from the zip ({error}). "
                "Pack the zip again without compression."
            ) from None
        except FileNotFoundError:
            raise FileNotFoundError(f"{where} is missing.") from None
        except OSError as error:
            raise UserError(f"{where} cannot be read ({error.strerror}).") from None


def write_mask_zip(path: str | Path, masks: Iterable[tuple[str, str, np.ndarray | bytes]]) -> None:
    """Write (sequence, frame, mask or PNG bytes) triples as one mask collection, atomically.

    `masks` must be sorted by sequence, because the file is streamed, and name no mask twice; else
    ValueError. The frames of a sequence keep their order.
    """
    last = ""
    frames: set[str] = set()
    with (
        atomic_file(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        for sequence, frame, mask in masks:
            if sequence != last:
                if sequence < last:
                    raise ValueError(f"masks must come in sorted order: {sequence} after {last}")
                last, frames = sequence, set()
            if frame in frames:
                raise ValueError(f"masks must come in sorted order, each once: {sequence}/{frame}")
            frames.add(frame)
            entry = zipfile.ZipInfo(f"{sequence}/{frame}.png", _TIME)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, mask if isinstance(mask, bytes) else encode_mask(mask))
