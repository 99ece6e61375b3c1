"""The one on-disk form that every stage after `convert` reads.

A video dataset:            An image dataset:
    frames/<seq>/<frame>.jpg    images/<name>.jpg
    masks/<seq>/<frame>.png     instances.json      (COCO format)
    meta.json                   meta.json

`meta.json` is written last: a folder without it is unfinished. Frames may be links. Only some
frames of a video may have a mask, and an object may first appear in a later mask. A sequence name
may contain a slash.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from noisyvos.errors import UserError
from noisyvos.io.atomic import write_json
from noisyvos.io.forms import FORMS, check_form, damaged
from noisyvos.io.images import read_frame
from noisyvos.io.masks import MaskCollection
from noisyvos.io.text import read_json


@dataclass(frozen=True)
class Sequence:
    """One video: frame names in time order, which of them have a mask, size and object ids."""

    name: str
    frames: tuple[str, ...]
    masks: tuple[str, ...]
    size: tuple[int, int]  # height, width
    objects: tuple[int, ...]  # every id that occurs in a mask, ascending, without void
    suffix: str = ".jpg"  # of the frame files
    required: tuple[str, ...] | None = None  # frames whose results a benchmark asks for; None: all
    # first frame of each object, recorded if a benchmark gives objects one by one
    appears: dict[int, str] | None = None
    origin: tuple[str, str] | None = None  # in a mix: the dataset it is part of and its name there
    repeat: int = 1  # how often it counts in an epoch of training
    jump_divisor: int = 1  # what the largest frame gap of a schedule is divided by


class VideoDataset:
    """Read access to a converted video dataset.

    `masks` may name another mask collection, such as one of noisy labels.
    """

    def __init__(self, root: str | Path, masks: str | Path | None = None) -> None:
        self.root = Path(root)
        self.meta = read_meta(self.root, kind="video")
        self.masks_path = Path(masks) if masks is not None else self.root / "masks"

    @cached_property
    def masks(self) -> MaskCollection:
        """The mask collection in use, opened on first need."""
        return MaskCollection(self.masks_path)

    @cached_property
    def sequences(self) -> dict[str, Sequence]:
        """Sequences by name, sorted; UserError if meta.json is damaged."""
        with damaged(self.root / "meta.json", "Convert the dataset again."):
            return self._read_sequences()

    def _read_sequences(self) -> dict[str, Sequence]:
        return {
            name: Sequence(
                name,
                tuple(entry["frames"]),
                tuple(entry["masks"]),
                (entry["size"][0], entry["size"][1]),
                tuple(entry["objects"]),
                entry.get("suffix", ".jpg"),
                tuple(entry["required"]) if "required" in entry else None,
                {int(number): frame for number, frame in entry["appears"].items()}
                if "appears" in entry
                else None,
                (entry["origin"][0], entry["origin"][1]) if "origin" in entry else None,
                entry.get("repeat", 1),
                entry.get("jump_divisor", 1),
            )
            for name, entry in sorted(self.meta["sequences"].items())
        }

    def origin(self, sequence: str) -> tuple[str, str]:
        """Return the dataset and the name that a sequence had before it became part of a mix."""
        return self.sequences[sequence].origin or (
            str(self.meta.get("name", self.root.name)),
            sequence,
        )

    def frame_path(self, sequence: str, frame: str) -> Path:
        """Return the file of one frame."""
        return self.root / "frames" / sequence / f"{frame}{self.sequences[sequence].suffix}"

    def read_frame(self, sequence: str, frame: str) -> np.ndarray:
        """Return one frame, (H, W, 3) uint8 RGB."""
        return read_frame(self.frame_path(sequence, frame))

    def read_mask(self, sequence: str, frame: str) -> np.ndarray:
        """Return one index mask, (H, W) uint8; UserError if its size is not that of the frames."""
        mask = self.masks.read(sequence, frame)
        size = self.sequences[sequence].size
        if mask.shape != size:
            raise UserError(
                f"{self.masks_path}: {sequence}/{frame}.png is {mask.shape}, "
                f"its frames are {size} (height, width)."
            )
        return mask


def write_video_meta(root: str | Path, name: str, sequences: list[Sequence], **extra: Any) -> None:
    """Complete a video dataset by writing its meta.json.

    `extra` holds facts on how it was made, without times and paths.
    """
    entries = {s.name: _entry(s) for s in sequences}
    write_json(
        Path(root) / "meta.json", {"kind": "video", "name": name, "sequences": entries, **extra}
    )


def _entry(s: Sequence) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "frames": list(s.frames),
        "masks": list(s.masks),
        "size": list(s.size),
        "objects": list(s.objects),
    }
    entry["suffix"] = s.suffix
    if s.required is not None:
        entry["required"] = list(s.required)
    if s.appears is not None:
        entry["appears"] = {str(number): frame for number, frame in s.appears.items()}
    if s.origin is not None:
        entry |= {"origin": list(s.origin), "repeat": s.repeat, "jump_divisor": s.jump_divisor}
    return entry


def read_meta(root: str | Path, kind: str | None, made_by: str = "convert") -> dict[str, Any]:
    """Return meta.json of what stage `made_by` wrote.

    UserError if it is unfinished, damaged or of another kind than `kind` (None: any kind).
    """
    path = Path(root) / "meta.json"
    again = f"Run `noisyvos {made_by}` for this folder again."
    if not path.is_file():
        raise UserError(
            f"{root}: no meta.json here, so `noisyvos {made_by}` did not write this folder "
            "or did not end. Run it for this folder."
        )
    meta = read_json(path, again)
    if not isinstance(meta, dict) or not isinstance(meta.get("kind"), str):
        raise UserError(f"{path}: this is not what `noisyvos {made_by}` writes. {again}")
    if kind is not None and meta["kind"] != kind:
        raise UserError(
            f"{root}: this dataset is of kind {meta['kind']!r}, but {kind!r} is needed here."
        )
    if meta["kind"] in FORMS:
        check_form(meta, FORMS[meta["kind"]], path, again)
    return meta
