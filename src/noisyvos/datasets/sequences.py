"""Converting videos: what all kinds of video datasets share once they know where the files are."""

import shutil
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from noisyvos.datasets.base import Conversion
from noisyvos.datasets.layout import Sequence, write_video_meta
from noisyvos.errors import UserError
from noisyvos.io.files import image_files, mask_files, place
from noisyvos.io.images import checked_size, copy_reduced, reduced_size
from noisyvos.io.mask_reader import read_mask_set
from noisyvos.io.masks import VOID, encode_mask, resize_mask
from noisyvos.parallel import ordered_map
from noisyvos.registry import Settings


@dataclass(frozen=True)
class SequenceTask:
    """One video to convert: its folders, the dataset folder to write into, and how."""

    name: str
    frames: Path
    masks: Path
    out: Path
    size: int | None = None
    one_object: bool = False
    filter: Literal["area", "bicubic"] = "area"
    required: tuple[str, ...] | None = None
    appearances: bool = False  # record the first frame of each object
    move: bool = False  # frames of full size are moved instead of linked
    bounce: bool = False  # forwards, backwards and forwards again, with new frame names


def convert_sequences(
    job: Conversion,
    settings: Settings,
    tasks: Items[Any],
    convert: Callable[[Any], Sequence | None] | None = None,
    **extra: Any,
) -> str:
    """Convert all videos in parallel, write meta.json with `extra`, and return what was made.

    `convert` turns a task into a sequence, or into None if nothing of it is left; by default it is
    `convert_sequence`.
    """
    made = ordered_map(convert or convert_sequence, tasks, job.workers, job.name)
    sequences = [sequence for sequence in made if sequence is not None]
    if not sequences:
        raise UserError(
            f"{job.raw}: no sequence is left of the {len(tasks)} that were to be converted."
        )
    write_video_meta(
        job.out,
        job.name,
        sequences,
        settings=settings.model_dump(mode="json", exclude_defaults=True),
        **extra,
    )
    frames, masks, objects = (
        sum(map(len, part)) for part in zip(*((s.frames, s.masks, s.objects) for s in sequences))
    )
    return f"{len(sequences)} sequences, {frames} frames, {masks} masks, {objects} objects"


def convert_sequence(task: SequenceTask) -> Sequence:
    """Write the frames and masks of one video into `task.out`.

    UserError or FileNotFoundError names a file that is missing, damaged or of a wrong size.
    """
    frames, masks = _files(task)
    full = _common_size(frames)
    size = reduced_size(*full, task.size)
    names = _bounced(list(frames)) if task.bounce else [(stem, stem) for stem in frames]
    appears = _convert_masks(task, masks, names, full, size)
    suffix = ".jpg" if size != full else next(iter(frames.values())).suffix
    for name, stem in names:
        destination = task.out / "frames" / task.name / f"{name}{suffix}"
        if size != full:
            copy_reduced(frames[stem], destination, size, task.filter)
        elif task.move:
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(frames[stem], destination)
        else:
            place(frames[stem], destination, as_file=task.size is not None)
    return Sequence(
        task.name,
        tuple(name for name, _ in names),
        tuple(name for name, stem in names if stem in masks),
        size,
        tuple(sorted(appears)),
        suffix,
        task.required,
        dict(sorted(appears.items())) if task.appearances else None,
    )


def _files(task: SequenceTask) -> tuple[dict[str, Path], dict[str, Path]]:
    frames = image_files(task.frames) if task.frames.is_dir() else {}
    if not frames:
        raise UserError(f"{task.frames}: this sequence has no frames (.jpg, .jpeg or .png).")
    masks = mask_files(task.masks)
    if not masks:
        raise UserError(
            f"{task.masks}: no masks for this sequence. "
            "Add at least one PNG mask, or put the sequence under `exclude`."
        )
    for stem in masks:
        if stem not in frames:
            raise UserError(
                f"{masks[stem]}: there is no frame {stem} in {task.frames} for this mask."
            )
    for stem in task.required or ():
        if stem not in frames:
            raise UserError(
                f"{task.frames}: the frame {stem}, for which the benchmark wants a result, "
                "is not there."
            )
    return frames, masks


def _bounced(stems: list[str]) -> list[tuple[str, str]]:
    """Return (new name, stem) of a video played forwards, backwards and forwards again.

    A turning frame is not shown twice in a row.
    """
    order = stems + stems[-2::-1] + stems[1:]
    return [(f"{number:07d}", stem) for number, stem in enumerate(order)]


def _common_size(frames: dict[str, Path]) -> tuple[int, int]:
    first = next(iter(frames.values()))
    size = checked_size(first)
    for file in frames.values():
        other = checked_size(file)
        if other != size:
            raise UserError(
                f"{file}: this frame is {other[1]}x{other[0]}, "
                f"but {first.name} of the same sequence is {size[1]}x{size[0]}."
            )
    return size


def _convert_masks(
    task: SequenceTask,
    files: dict[str, Path],
    names: list[tuple[str, str]],
    full: tuple[int, int],
    size: tuple[int, int],
) -> dict[int, str]:
    """Write all masks of a video and return {object id: first frame} after reduction."""
    masks = read_mask_set(files, task.one_object)
    for stem, mask in masks.items():
        if mask.shape != full:
            raise UserError(
                f"{files[stem]}: this mask is {mask.shape[1]}x{mask.shape[0]}, "
                f"but its frame is {full[1]}x{full[0]} (width x height)."
            )
    folder = task.out / "masks" / task.name
    folder.mkdir(parents=True)
    appears: dict[int, str] = {}
    for name, stem in names:
        if stem in masks:
            reduced = masks[stem] if size == full else resize_mask(masks[stem], size)
            for number in np.unique(reduced).tolist():
                appears.setdefault(number, name)
            (folder / f"{name}.png").write_bytes(encode_mask(reduced))
    appears = {number: name for number, name in appears.items() if number not in (0, VOID)}
    if not appears:
        raise UserError(
            f"{task.masks}: no object is left in these masks at {size[1]}x{size[0]}. "
            "Raise `size` of the dataset."
        )
    return appears
