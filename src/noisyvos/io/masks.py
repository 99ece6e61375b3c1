"""Mask collections: `<sequence>/<frame>.png` in a folder or in one zip, read alike, never unpacked.

The zip is what benchmark servers take as a submission: entries stored without compression (PNG is compressed
already), in sorted order, with a fixed time, so that equal masks give equal bytes.
"""

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from noisyvos.errors import UserError
from noisyvos.io.atomic import atomic_file
from noisyvos.io.images import decode_mask, encode_mask

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip entry can carry


class MaskCollection:
    """Read access to the masks of a folder or a zip with entries `<sequence>/<frame>.png`; stray files are passed over."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._zip: zipfile.ZipFile | None = None
        self._index: dict[str, dict[str, str]] = {}
        if self.path.is_dir():
            names = (file.relative_to(self.path).as_posix() for file in self.path.rglob("*.png"))
        elif self.path.is_file():
            try:
                self._zip = zipfile.ZipFile(self.path)
            except zipfile.BadZipFile:
                raise UserError(
                    f"{self.path}: this file is not a readable zip (truncated?). Make or fetch it again."
                ) from None
            names = (name for name in self._zip.namelist() if name.endswith(".png"))
        else:
            raise FileNotFoundError(f"{self.path}: no such folder or zip of masks.")
        for name in names:
            sequence, _, file = name.rpartition("/")
            if name.startswith("/") or ".." in name.split("/"):
                raise UserError(
                    f"{self.path}: entry {name!r} leads out of its folder. Pack the masks again as <sequence>/<frame>.png."
                )
            if sequence and not file.startswith("."):
                self._index.setdefault(sequence, {})[file.removesuffix(".png")] = name
        self._index = {
            sequence: dict(sorted(frames.items()))
            for sequence, frames in sorted(self._index.items())
        }

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
        """Return the sorted frame names (file stems) of a sequence; empty if it is unknown."""
        return tuple(self._index.get(sequence, ()))

    def read(self, sequence: str, frame: str) -> np.ndarray:
        """Return one mask, (H, W) uint8; FileNotFoundError names what is missing, UserError what is no mask."""
        return decode_mask(self.read_bytes(sequence, frame), f"{self.path}: {sequence}/{frame}.png")

    def read_bytes(self, sequence: str, frame: str) -> bytes:
        """Return the file of one mask as it is stored; FileNotFoundError names what is missing, UserError what is damaged."""
        name = self._index.get(sequence, {}).get(frame)
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
        except (
            NotImplementedError,
            RuntimeError,
        ) as error:  # compressed or encrypted in a way that cannot be read
            raise UserError(
                f"{where} cannot be read from the zip ({error}). Pack the zip again without compression."
            ) from None
        except FileNotFoundError:
            raise FileNotFoundError(f"{where} is missing.") from None
        except OSError as error:
            raise UserError(f"{where} cannot be read ({error.strerror}).") from None


def write_mask_zip(path: str | Path, masks: Iterable[tuple[str, str, np.ndarray | bytes]]) -> None:
    """Write (sequence, frame, mask or PNG bytes) triples as one mask collection, atomically.

    `masks` must come sorted by (sequence, frame), so that the file can be streamed; otherwise ValueError.
    """
    last: tuple[str, str] | None = None
    with (
        atomic_file(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        for sequence, frame, mask in masks:
            if last is not None and (sequence, frame) <= last:
                raise ValueError(
                    f"masks must come in sorted order: {(sequence, frame)} after {last}"
                )
            last = (sequence, frame)
            entry = zipfile.ZipInfo(f"{sequence}/{frame}.png", _TIME)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, mask if isinstance(mask, bytes) else encode_mask(mask))
