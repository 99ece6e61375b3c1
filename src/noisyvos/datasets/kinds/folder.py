"""Dataset kinds `folder` and `davis`: JPEGImages[/<resolution>]/<sequence>/* with Annotations[/<resolution>]/<sequence>/*.png.

YouTube-VOS training folders and converted VISOR have the same form.
"""

import functools
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion, DatasetSettings
from noisyvos.datasets.files import checked_size, copy_reduced, image_files, link, reduced_size, resize_mask
from noisyvos.datasets.layout import Sequence, write_video_meta
from noisyvos.errors import UserError, unknown_name
from noisyvos.io.images import VOID, decode_mask, encode_mask
from noisyvos.parallel import ordered_map

RESOLUTIONS = ("480p", "Full-Resolution", "1080p")
SPLIT_FOLDERS = ("2017", "2016", "2022", "")


class FolderSettings(DatasetSettings):
    """A DAVIS-style folder; masks may exist for only some frames."""

    root: str = Field(".", description="Folder inside the source that holds the images and annotations folders.")
    images: str = "JPEGImages"
    annotations: str = "Annotations"
    resolution: str | None = Field(
        None, description="Sub-folder of both; None takes the first of 480p, Full-Resolution, 1080p that exists."
    )
    split: str | None = Field(None, description="Sequences of ImageSets/<year>/<split>.txt; write 2016/val to name the year.")
    sequences: tuple[str, ...] | None = Field(None, description="Take these sequences only.")
    exclude: tuple[str, ...] = Field((), description="Leave these sequences out.")
    one_object: bool = Field(False, description="Join all ids into object 1 (DAVIS 2016); masks of 0 and 255 only are read as one object.")


@dataclass(frozen=True)
class _Task:
    name: str
    frames: Path
    masks: Path
    out: Path
    size: int | None
    one_object: bool


@DATASETS.register("folder", FolderSettings)
def convert_folder(job: Conversion, settings: FolderSettings) -> str:
    """Convert a DAVIS-style folder, say what was made; a missing, damaged or wrongly sized file is refused by its name."""
    root = job.raw / settings.root
    frames, masks = _resolution(root, settings)
    names = select_sequences(root, frames, settings)
    tasks = [_Task(name, frames / name, masks / name, job.out, settings.size, settings.one_object) for name in names]
    sequences = list(ordered_map(_convert_sequence, tasks, job.workers, job.name))
    recorded = settings.model_dump(mode="json", exclude_defaults=True)
    write_video_meta(job.out, job.name, sequences, settings=recorded)
    frame_count, mask_count, objects = (sum(map(len, part)) for part in zip(*((s.frames, s.masks, s.objects) for s in sequences)))
    return f"{len(sequences)} sequences, {frame_count} frames, {mask_count} masks, {objects} objects"


class DavisSettings(DatasetSettings):
    """A split of one year's DAVIS; the 2017 package also holds the 2016 split, with the objects kept apart in its masks."""

    year: Literal[2016, 2017] = 2017
    split: str = "train"
    root: str = "."
    resolution: str = "480p"


@DATASETS.register("davis", DavisSettings)
def convert_davis(job: Conversion, settings: DavisSettings) -> str:
    """Convert one split: 2017 as it is, 2016 with all objects of a frame joined into one."""
    return convert_folder(
        job,
        FolderSettings(
            source=settings.source,
            size=settings.size,
            root=settings.root,
            resolution=settings.resolution,
            split=f"{settings.year}/{settings.split}",
            one_object=settings.year == 2016,
        ),
    )


def _resolution(root: Path, settings: FolderSettings) -> tuple[Path, Path]:
    images, annotations = root / settings.images, root / settings.annotations
    for folder in (images, annotations):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}: no such folder. A DAVIS-style folder holds {settings.images}/ and {settings.annotations}/; "
                "set `root`, `images` or `annotations` of the dataset if they lie elsewhere."
            )
    if settings.resolution is not None:
        names: tuple[str, ...] = (settings.resolution,)
    else:
        names = tuple(name for name in RESOLUTIONS if (images / name).is_dir())[:1]
    for name in names:
        images, annotations = images / name, annotations / name
        for folder in (images, annotations):
            if not folder.is_dir():
                raise FileNotFoundError(f"{folder}: no such folder. Set `resolution` to one that both frames and masks have.")
    return images, annotations


def select_sequences(root: Path, frames: Path, settings: FolderSettings) -> list[str]:
    """Return the sorted names of the sequences that `settings` asks for; UserError if one does not exist or none is left."""
    present = sorted(folder.name for folder in frames.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    wanted = list(settings.sequences) if settings.sequences is not None else None
    if settings.split is not None:
        listed = read_split(root, settings.split)
        wanted = listed if wanted is None else [name for name in listed if name in wanted]
    for name in [*(wanted or ()), *settings.exclude]:
        if name not in present:
            raise unknown_name(f"sequence (no folder in {frames}):", name, present)
    chosen = sorted(set(present if wanted is None else wanted) - set(settings.exclude))
    if not chosen:
        raise UserError(f"{frames}: no sequence is left to convert. Check `split`, `sequences` and `exclude` of the dataset.")
    return chosen


def read_split(root: Path, split: str) -> list[str]:
    """Return the sequence names of a split file, first occurrence first.

    Lines of the DAVIS 2016 package name an image and a mask instead of a sequence; their folder is the sequence.
    """
    candidates = [root / "ImageSets" / folder / f"{split}.txt" for folder in SPLIT_FOLDERS]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{root / 'ImageSets'}: no split file {split}.txt here or in {', '.join(SPLIT_FOLDERS[:-1])}.")
    lines = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    names = [PurePosixPath(line).parent.name if "/" in line else line for line in lines]
    if not names:
        raise UserError(f"{path}: this split names no sequence.")
    return list(dict.fromkeys(names))


def _convert_sequence(task: _Task) -> Sequence:
    frames = image_files(task.frames)
    if not frames:
        raise UserError(f"{task.frames}: this sequence has no frames (.jpg, .jpeg or .png).")
    masks = {} if not task.masks.is_dir() else {f.stem: f for f in sorted(task.masks.glob("*.png")) if not f.name.startswith(".")}
    if not masks:
        raise UserError(f"{task.masks}: no masks for this sequence. Add at least one PNG mask, or put the sequence under `exclude`.")
    for stem in masks:
        if stem not in frames:
            raise UserError(f"{masks[stem]}: there is no frame {stem} in {task.frames} for this mask.")
    full = _common_size(frames)
    size = reduced_size(*full, task.size)
    objects = _convert_masks(task, masks, full, size)
    suffix = ".jpg" if size != full else next(iter(frames.values())).suffix
    for stem, file in frames.items():
        destination = task.out / "frames" / task.name / f"{stem}{suffix}"
        if size == full:
            link(file, destination)
        else:
            copy_reduced(file, destination, size)
    return Sequence(task.name, tuple(frames), tuple(masks), size, objects, suffix)


def _common_size(frames: dict[str, Path]) -> tuple[int, int]:
    first = next(iter(frames.values()))
    size = checked_size(first)
    for file in frames.values():
        other = checked_size(file)
        if other != size:
            raise UserError(f"{file}: this frame is {other[1]}x{other[0]}, but {first.name} of the same sequence is {size[1]}x{size[0]}.")
    return size


def _convert_masks(task: _Task, files: dict[str, Path], full: tuple[int, int], size: tuple[int, int]) -> tuple[int, ...]:
    """Write all masks of a sequence and return the object ids that occur after reduction."""
    masks = {stem: decode_mask(file) for stem, file in files.items()}
    for stem, mask in masks.items():
        if mask.shape != full:
            raise UserError(
                f"{files[stem]}: this mask is {mask.shape[1]}x{mask.shape[0]}, but its frame is {full[1]}x{full[0]} (width x height)."
            )
    values = functools.reduce(np.union1d, (np.unique(mask) for mask in masks.values()))
    if set(values.tolist()) <= {0, VOID}:
        if not task.one_object:
            what = "void (255)" if VOID in values else "background (0)"
            raise UserError(
                f"{task.masks}: these masks hold no object, only {what}. "
                "If 255 marks one object here (as in DAVIS 2016), set `one_object: true` for the dataset."
            )
        masks = {stem: (mask > 0).astype(np.uint8) for stem, mask in masks.items()}
    elif task.one_object:
        masks = {stem: np.where(mask == VOID, mask, mask > 0).astype(np.uint8) for stem, mask in masks.items()}
    folder = task.out / "masks" / task.name
    folder.mkdir(parents=True)
    seen: set[int] = set()
    for stem, mask in masks.items():
        reduced = mask if size == full else resize_mask(mask, size)
        seen.update(np.unique(reduced).tolist())
        (folder / f"{stem}.png").write_bytes(encode_mask(reduced))
    objects = tuple(sorted(seen - {0, VOID}))
    if not objects:
        raise UserError(f"{task.masks}: no object is left in these masks at {size[1]}x{size[0]}. Raise `size` of the dataset.")
    return objects
