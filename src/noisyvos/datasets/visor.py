"""VISOR's sparse polygons, converted to the DAVIS-style folders of its VOS benchmark.

The dataset kind `visor` and the command `convert visor` share this module. It reproduces the
published converter, quirks included; `strict` drops what only the quirks produce.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from noisyvos.datasets.coco_format import check_corners
from noisyvos.errors import UserError
from noisyvos.io.files import files_in
from noisyvos.io.images import read_bgr
from noisyvos.io.masks import encode_mask
from noisyvos.io.names import plain_name
from noisyvos.io.text import read_json
from noisyvos.parallel import ordered_map

CANVAS = (1080, 1920)  # height, width in which all polygons are given
LEAST_MASKS = {"train": 3, "val": 2}  # sequences with fewer are left out
UNSEEN_KITCHENS = frozenset(
    [
        "P07_101",
        "P07_103",
        "P07_110",
        "P09_02",
        "P09_07",
        "P09_103",
        "P09_104",
        "P09_106",
        "P21_01",
        "P29_04",
    ]
)


def visor_palette() -> bytes:
    """Return the palette of VISOR masks, 256 RGB triples: 22 colours, then greys."""
    named = """0 0 0 128 0 0 0 128 0 128 128 0 0 0 128 128 0 128 0 128 128 128 128 128
    64 0 0 191 0 0 64 128 0 191 128 0 64 0 128 191 0 128 64 128 128 191 128 128
    0 64 0 128 64 0 0 191 0 128 191 0 0 64 128 128 64 128"""
    return bytes(int(value) for value in named.split()) + bytes(
        value for grey in range(22, 256) for value in (grey,) * 3
    )


_PALETTE = visor_palette()


@dataclass(frozen=True)
class VisorTask:
    """One subsequence: its frames in order, where the images are, where to write, and how."""

    name: str
    frames: tuple[dict[str, Any], ...]
    images: Path
    out: Path
    size: tuple[int, int]  # height, width
    keep_all: bool
    strict: bool
    least: int

    def ids(self) -> dict[str, int]:
        """Return {name: id} of the objects that are kept; empty if the first frame has none."""
        return object_ids(self.frames if self.keep_all else self.frames[:1], self.strict)

    def warning(self) -> str | None:
        """Return what to tell the user of a first frame without objects, None if it has some."""
        if self.keep_all or self.ids():
            return None
        fate = (
            "it is left out"
            if self.strict
            else "all objects of later frames are drawn and their ids may change between frames"
        )
        return f"{self.name} has no object in its first frame; {fate}."


@dataclass(frozen=True)
class VisorSequence:
    """What became of a subsequence: names of its objects by id, and masks written (0: left out)."""

    name: str
    names: dict[int, str]
    masks: int


def set_tasks(
    annotations: Path,
    images: Path,
    subset: str,
    *,
    out: Path,
    size: tuple[int, int],
    keep_all: bool | None = None,
    strict: bool = False,
    unseen: bool = False,
) -> list[VisorTask]:
    """Return a task for each subsequence of the set `subset` (train or val).

    `unseen` takes those of kitchens that train does not show. `keep_all` tells whether objects are
    kept that the first frame lacks; None is the published convention: yes for train, no for val.
    """
    if subset not in LEAST_MASKS:
        raise UserError(f"Unknown set {subset!r}: VISOR has masks for {' and '.join(LEAST_MASKS)}.")
    keep = subset == "train" if keep_all is None else keep_all
    tasks = [
        VisorTask(name, tuple(frames), images, out, size, keep, strict, LEAST_MASKS[subset])
        for name, frames in read_visor(annotations / subset).items()
        if not unseen or is_unseen(name)
    ]
    if not tasks:
        raise UserError(
            f"{annotations / subset}: no subsequence of the unseen kitchens is here "
            f"({', '.join(sorted(UNSEEN_KITCHENS))})."
        )
    return tasks


def is_unseen(sequence: str) -> bool:
    """Whether a subsequence was filmed in a kitchen that train does not show."""
    return "_".join(sequence.split("_")[:2]) in UNSEEN_KITCHENS


def read_visor(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the frames of each subsequence in a set's JSON files, ordered by image path."""
    files = files_in(folder, (".json",))
    if not files:
        raise FileNotFoundError(f"{folder}: no VISOR annotations (*.json) here.")
    sequences: dict[str, list[dict[str, Any]]] = {}
    for file in files:
        try:
            entries = read_json(file)["video_annotations"]
            entries = sorted(entries, key=lambda entry: entry["image"]["image_path"])
            found: dict[str, list[dict[str, Any]]] = {}
            for entry in entries:
                for field in ("name", "subsequence", "video"):
                    plain_name(entry["image"][field], file, f"{field} of an image", folders=False)
                shapes = [
                    {"name": shape["name"], "segments": _segments(shape)}
                    for shape in entry["annotations"] or ()
                ]
                found.setdefault(entry["image"]["subsequence"], []).append(
                    {"image": entry["image"], "annotations": shapes}
                )
        except UserError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UserError(
                f"{file}: this is not a VISOR annotation file ({type(error).__name__}: {error})."
            ) from None
        repeated = sorted(found.keys() & sequences.keys())
        if repeated:
            raise UserError(
                f"{file}: the subsequence {repeated[0]} is also in another file of this set."
            )
        sequences |= found
    return sequences


def _segments(shape: dict[str, Any]) -> list[list[Any]]:
    """Return the polygons of an entity, none for null; ValueError names a corner that is wrong."""
    polygons = shape["segments"] or []
    if not isinstance(shape["name"], str) or not isinstance(polygons, list):
        raise ValueError("an entity needs a name and a list of polygons")
    for part in polygons:
        corners = np.asarray(part, np.float64)
        if corners.size % 2:
            raise ValueError(f"a polygon of {shape['name']!r} is not a list of [x, y]")
        if not np.isfinite(corners).all():
            raise ValueError(f"a corner of {shape['name']!r} is not a finite number")
        check_corners(corners)
    return polygons


def convert_sequence(task: VisorTask) -> VisorSequence:
    """Write masks and frames of one subsequence, unless too few of its frames have a mask.

    FileNotFoundError names an image that is missing.
    """
    for frame in task.frames:
        path = _image_path(task, frame)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: this image of {task.name} is missing.")
    ids = task.ids()
    empty_first = not ids and not task.keep_all
    masks: dict[str, np.ndarray] = {}
    if not (empty_first and task.strict):
        for frame in task.frames:
            canvas = draw(frame["annotations"], ids, by_position=empty_first, strict=task.strict)
            if canvas.any():
                masks[Path(frame["image"]["name"]).stem] = _reduce(canvas, task.size)
    kept = len(masks) >= task.least
    if kept:
        _write(task, masks)
    names = {number: name for name, number in ids.items()}
    return VisorSequence(task.name, names, len(masks) if kept else 0)


def object_ids(frames: tuple[dict[str, Any], ...], strict: bool = False) -> dict[str, int]:
    """Return {name: id} of the entities with polygons in `frames`: 1, 2, ... by code points."""
    present = {
        shape["name"]
        for frame in frames
        for shape in frame["annotations"]
        if (any(shape["segments"]) if strict else shape["segments"])
    }
    return {name: number for number, name in enumerate(sorted(present), 1)}


def draw(
    shapes: list[dict[str, Any]], ids: dict[str, int], by_position: bool, strict: bool = False
) -> np.ndarray:
    """Return the full-size index mask of one frame; later entities cover earlier ones.

    All polygons of an entity are filled together (even-odd, boundary pixels included), with
    corners truncated to whole pixels. An empty polygon is the point (0, 0), unless `strict`.
    `by_position` is the published behaviour for a sequence without objects in its first frame:
    every entity is drawn, and its id is its position in the list.
    """
    canvas = np.zeros(CANVAS, np.uint8)
    for position, shape in enumerate(shapes, 1):
        number = position if by_position else ids.get(shape["name"])
        polygons = [
            np.asarray(part, np.float64).reshape(-1, 2).astype(np.int32)
            for part in shape["segments"]
            if part or not strict
        ]
        polygons = [part if len(part) else np.zeros((1, 2), np.int32) for part in polygons]
        if number is not None and polygons:
            cv2.fillPoly(canvas, polygons, number)
    return canvas


def _reduce(canvas: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, CANVAS))
    return np.ascontiguousarray(canvas[rows[:, None], columns[None, :]])


def _image_path(task: VisorTask, frame: dict[str, Any]) -> Path:
    return task.images / frame["image"]["video"] / frame["image"]["name"]


def _write(task: VisorTask, masks: dict[str, np.ndarray]) -> None:
    height, width = task.size
    folders = [task.out / kind / f"{height}p" / task.name for kind in ("Annotations", "JPEGImages")]
    for folder in folders:
        folder.mkdir(parents=True)
    for frame in task.frames:
        stem = Path(frame["image"]["name"]).stem
        if stem not in masks:
            continue
        image = read_bgr(_image_path(task, frame))
        reduced = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        (folders[1] / f"{stem}.jpg").write_bytes(cv2.imencode(".jpg", reduced)[1].tobytes())
        (folders[0] / f"{stem}.png").write_bytes(encode_mask(masks[stem], _PALETTE))


def convert_set(
    tasks: list[VisorTask], subset: str, out: Path, workers: int = 1
) -> list[VisorSequence]:
    """Convert all subsequences into `out`, with the lists and the mapping of the benchmark."""
    sequences = list(ordered_map(convert_sequence, tasks, workers, f"visor {subset}"))
    remaining = sorted(sequence.name for sequence in sequences if sequence.masks)
    lists = {subset: remaining}
    if subset == "val":
        lists["val_unseen"] = [name for name in remaining if is_unseen(name)]
    folder = out / "ImageSets" / "2022"
    folder.mkdir(parents=True, exist_ok=True)
    for name, members in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(members), encoding="utf-8", newline="\n")
    mapping = {
        sequence.name: {str(number): name for number, name in sequence.names.items()}
        for sequence in sequences
    }
    text = json.dumps(mapping, indent=1, sort_keys=True, ensure_ascii=False)
    (out / f"{subset}_data_mapping.json").write_text(text, encoding="utf-8", newline="\n")
    return sequences


def carry_over(old: Path, new: Path, subset: str, sequences: set[str]) -> None:
    """Hard-link everything of an existing output into the new one, except what is of `subset`.

    `sequences` are those that `subset` has now. UserError names one that belongs to the other set.
    """
    if not old.is_dir():
        return
    for other in sorted(LEAST_MASKS.keys() - {subset}):
        shared = sorted(_mapped(old, other) & sequences)
        if shared:
            raise UserError(
                f"{old}: the sequence {shared[0]} is already there as part of {other}. "
                f"Give {subset} another --out."
            )
    replaced = _mapped(old, subset) | sequences
    lists = {f"{subset}.txt", f"{subset}_data_mapping.json"}
    lists |= {"val_unseen.txt"} if subset == "val" else set()
    for file in sorted(path for path in old.rglob("*") if path.is_file()):
        relative = file.relative_to(old)
        of_sequence = (
            relative.parts[0] in ("Annotations", "JPEGImages")
            and len(relative.parts) == 4
            and relative.parts[2] in replaced
        )
        if of_sequence or file.name in lists:
            continue
        target = new / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, target)
        except OSError:
            shutil.copy2(file, target)


def _mapped(root: Path, subset: str) -> set[str]:
    path = root / f"{subset}_data_mapping.json"
    if not path.is_file():
        return set()
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path}: this is not what `noisyvos convert visor` writes. Remove it.")
    return set(found)
