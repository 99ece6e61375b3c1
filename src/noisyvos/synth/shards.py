"""Clips on disk: uncompressed zips of several hundred clips, read at random by number.

A clip is two entries, `<number>.jpg|png` and `<number>.masks.png`: its three frames and its three
index masks, each stacked from top to bottom. Any image viewer shows a clip as a strip.
"""

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from noisyvos.datasets.layout import read_meta
from noisyvos.errors import UserError
from noisyvos.io.files import check_regular
from noisyvos.io.forms import damaged
from noisyvos.io.mask_reader import decode_mask
from noisyvos.synth.clip import decode_frames, frame_suffix

_TIME = (1980, 1, 1, 0, 0, 0)


def shard_name(number: int) -> str:
    """Return the file name of shard `number`."""
    return f"clips-{number:05d}.zip"


def write_shard(path: Path, first: int, clips: Iterable[tuple[bytes, bytes]], suffix: str) -> None:
    """Write encoded clips `first`, `first` + 1, ... to one zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number, (frames, masks) in enumerate(clips, first):
            for name, data in (
                (f"{number:07d}{suffix}", frames),
                (f"{number:07d}.masks.png", masks),
            ):
                entry = zipfile.ZipInfo(name, _TIME)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, data)


class ClipShards:
    """Random access to the clips in a folder written by stage `synth`.

    It is safe in forked and spawned loader processes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.meta: dict[str, Any] = read_meta(self.path, kind="clips", made_by="synth")
        self.crop: int = self.meta["crop"]
        self._archives: dict[int, zipfile.ZipFile] = {}
        self._process = os.getpid()

    def __len__(self) -> int:
        return int(self.meta["clips"])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_archives": {}}

    def _archive(self, shard: int) -> zipfile.ZipFile:
        if self._process != os.getpid():  # forked processes would share file positions
            self._archives, self._process = {}, os.getpid()
        if shard not in self._archives:
            path = self.path / shard_name(shard)
            try:
                check_regular(path)
                self._archives[shard] = zipfile.ZipFile(path)
            except FileNotFoundError:
                raise FileNotFoundError(
                    f"{path}: this shard of clips is missing. Run `noisyvos synth` again."
                ) from None
            except zipfile.BadZipFile:
                raise UserError(
                    f"{path}: this shard is not a readable zip, perhaps truncated. "
                    "Run `noisyvos synth` again."
                ) from None
        return self._archives[shard]

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return frames (3, H, W, 3) uint8 RGB and masks (3, H, W) uint8 of clip `index`.

        Raises IndexError outside 0..len - 1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        number = index // self.meta["shard"]
        archive = self._archive(number)
        with damaged(self.path / shard_name(number), "Run `noisyvos synth` again."):
            frames = decode_frames(archive.read(f"{index:07d}{frame_suffix(self.crop)}"), self.crop)
            masks = decode_mask(archive.read(f"{index:07d}.masks.png"))
            return frames, masks.reshape(3, self.crop, self.crop)
