"""Masks in memory and in collections: writing mask files, and reading a folder or a zip of them.

Masks are index images, (H, W) uint8: 0 is background, 1..254 are object ids, 255 is void. Files are
palette PNGs with the colour map that DAVIS and PASCAL VOC share. A mask collection holds
`<sequence>/<frame>.png` in a folder or in one zip, which is read without unpacking. The zip is what
benchmark servers take as a submission: entries are stored in sorted order, without compression and
with a fixed time, so equal masks give equal bytes.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from noisyvos.errors import UserError
from noisyvos.io.atomic import atomic_file
from noisyvos.io.codecs import encode_index_png
from noisyvos.io.files import files_below, is_stray, normal, time_order
from noisyvos.io.mask_reader import decode_mask
from noisyvos.io.mask_rules import VOID, davis_palette
from noisyvos.io.names import problem

__all__ = [
    "VOID",
    "MaskCollection",
    "davis_palette",
    "decode_mask",
    "encode_mask",
    "resize_mask",
    "write_mask_zip",
]

_PALETTE = davis_palette().tobytes()
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip entry can carry


def encode_mask(mask: np.ndarray, palette: bytes = _PALETTE) -> bytes:
    """Return an index mask (H, W) uint8 as palette PNG bytes; equal masks give equal bytes.

    `palette` holds 256 RGB triples; the default is that of DAVIS.
    """
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(f"a mask is (H, W) uint8, not {mask.shape} {mask.dtype}")
    return encode_index_png(mask, palette)


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
        wrong = problem("/".join(parts))
        if wrong is not None:
            raise UserError(
                f"{self.path}: entry {name[:80]!r} {wrong}. "
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

    `masks` must be sorted as `mask_zip` wants them.
    """
    with mask_zip(path) as add:
        for sequence, frame, mask in masks:
            add(sequence, frame, mask)


@contextmanager
def mask_zip(path: str | Path) -> Iterator[Callable[[str, str, np.ndarray | bytes], None]]:
    """Yield a function (sequence, frame, mask or PNG bytes) that adds to a mask collection.

    The zip appears when the block ends without an error. Masks must come sorted by sequence,
    because the file is streamed, and none twice; else ValueError. The frames of a sequence keep
    their order.
    """
    last = ""
    frames: set[str] = set()

    def add(sequence: str, frame: str, mask: np.ndarray | bytes) -> None:
        nonlocal last, frames
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

    with (
        atomic_file(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        yield add
