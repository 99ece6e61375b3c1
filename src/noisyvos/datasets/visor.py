"""VISOR's sparse polygons to the DAVIS-style folders that its VOS benchmark uses (specification of VISOR-VOS's converter).

The published behaviour is kept, quirks included; `strict` drops what the quirks produce.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from noisyvos.errors import UserError
from noisyvos.io.masks import encode_mask

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
    ],
)


def visor_palette() -> bytes:
    """Return the palette of VISOR masks, 256 RGB triples: 22 colours close to those of DAVIS, then greys."""
    named = """0 0 0 128 0 0 0 128 0 128 128 0 0 0 128 128 0 128 0 128 128 128 128 128 64 0 0 191 0 0 64 128 0 191 128 0
    64 0 128 191 0 128 64 128 128 191 128 128 0 64 0 128 64 0 0 191 0 128 191 0 0 64 128 128 64 128"""
    return bytes(int(value) for value in named.split()) + bytes(
        value for grey in range(22, 256) for value in (grey,) * 3
    )


_PALETTE = visor_palette()


@dataclass(frozen=True)
class VisorTask:
    """One subsequence: its frames in order, where the images are, where to write and how."""

    name: str
    frames: tuple[dict[str, Any], ...]
    images: Path
    out: Path
    size: tuple[int, int]  # height, width
    keep_all: bool
    strict: bool
    least: int


@dataclass(frozen=True)
class VisorSequence:
    """What became of a subsequence: object names by id, masks written (0 = left out), whether its first frame was empty."""

    name: str
    names: dict[int, str]
    masks: int
    empty_first_frame: bool


def read_visor(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the entries of all json files of a set by subsequence, ordered by image path within a file."""
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        raise FileNotFoundError(f"{folder}: no VISOR annotations (*.json) here.")
    sequences: dict[str, list[dict[str, Any]]] = {}
    for file in files:
        try:
            entries = json.loads(file.read_text(encoding="utf-8"))["video_annotations"]
            entries = sorted(entries, key=lambda entry: entry["image"]["image_path"])
            found: dict[str, list[dict[str, Any]]] = {}
            for entry in entries:
                for field in ("name", "subsequence", "video"):
                    _plain(entry["image"][field])
                shapes = [
                    {"name": shape["name"], "segments": shape["segments"]}
                    for shape in entry["annotations"]
                ]
                found.setdefault(entry["image"]["subsequence"], []).append(
                    {"image": entry["image"], "annotations": shapes}
                )
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
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


def _plain(name: str) -> None:
    if not name or "/" in name or "\\" in name or name.startswith("."):
        raise ValueError(f"{name!r} is no plain file name")


def convert_sequence(task: VisorTask) -> VisorSequence:
    """Write masks and frames of one subsequence, unless too few of its frames have a mask; FileNotFoundError without an image."""
    for frame in task.frames:
        path = _image_path(task, frame)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: this image of {task.name} is missing.")
    ids = object_ids(task.frames if task.keep_all else task.frames[:1], task.strict)
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
    return VisorSequence(
        task.name,
        {number: name for name, number in ids.items()},
        len(masks) if kept else 0,
        empty_first,
    )


def object_ids(frames: tuple[dict[str, Any], ...], strict: bool = False) -> dict[str, int]:
    """Return name -> id for the entities that have polygons in `frames`: 1, 2, ... in the order of code points."""
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
    """Return the full-size index mask of one frame: entities in file order, later ones over earlier ones.

    All polygons of an entity are filled together (even-odd, boundary pixels included), corners truncated to whole pixels. An empty
    polygon is the point (0, 0), unless `strict`. `by_position` is the published behaviour for a sequence without objects in
    its first frame: every entity is drawn, its id is its position in the list.
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
        image = cv2.imread(str(_image_path(task, frame)))
        if image is None:
            raise UserError(f"{_image_path(task, frame)}: this file cannot be read as an image.")
        reduced = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        (folders[1] / f"{stem}.jpg").write_bytes(cv2.imencode(".jpg", reduced)[1].tobytes())
        (folders[0] / f"{stem}.png").write_bytes(encode_mask(masks[stem], _PALETTE))


def write_lists(out: Path, subset: str, sequences: list[VisorSequence]) -> list[str]:
    """Write ImageSets/2022/<set>.txt (and val_unseen.txt) and the mapping of ids to names; return the sequences that remain."""
    remaining = sorted(sequence.name for sequence in sequences if sequence.masks)
    lists = {subset: remaining}
    if subset == "val":
        lists["val_unseen"] = [
            name for name in remaining if "_".join(name.split("_")[:2]) in UNSEEN_KITCHENS
        ]
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
    return remaining
