"""Dataset kind `tao_vos`: <root>/{JPEGImages,Annotations}/<origin>/<video>/, masks at 1 fps."""

from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion, DatasetSettings
from noisyvos.datasets.sequences import SequenceTask, convert_sequences
from noisyvos.datasets.splits import (
    read_videos,
    required_frames,
    shipped_list,
    wanted_sequences,
)
from noisyvos.errors import UserError
from noisyvos.io.files import FRAME_SUFFIXES, files_in, folders_in
from noisyvos.io.text import read_names, same_name

# Lists of videos that this project holds: of SMART (github.com/cekkec/SMART, util/tao_subset.txt),
# 329 videos of train
LISTS = {"smart": "tao_smart.txt"}


class TaoSettings(DatasetSettings):
    """A split of TAO-VOS.

    Sequences are called <origin>/<video>, or <video> in a copy without the folders of origins
    (ArgoVerse, BDD, Charades, ...).
    """

    root: str = Field(
        "train", description="Folder of the split inside the source: train, train_480p or valid."
    )
    sequences_file: str | None = Field(
        None,
        description="A list inside the source, a sequence on each line: take these only. None: "
        "ImageSets/valid_except.txt of the split if it exists, otherwise all.",
    )
    listed: Literal["smart"] | None = Field(
        None, description="Or take the videos of a list that comes with this project: SMART's 329."
    )
    exclude: tuple[str, ...] = Field((), description="Leave these sequences out.")


@DATASETS.register("tao_vos", TaoSettings)
def convert_tao_vos(job: Conversion, settings: TaoSettings) -> str:
    """Convert one split and return what was made. Raises as `convert_sequence`.

    If the split has a meta.json, it lists the frames whose results are wanted. Masks are those of
    Annotations. A copy without them has Annotations_first, which gives each object in the frame
    where it first appears: enough to segment, not to score.
    """
    root = job.raw / settings.root
    frames = root / "JPEGImages"
    if not frames.is_dir():
        raise FileNotFoundError(
            f"{frames}: no such folder. Set `root` of the dataset to the split's folder."
        )
    masks = next(
        (root / name for name in ("Annotations", "Annotations_first") if (root / name).is_dir()),
        None,
    )
    if masks is None:
        raise FileNotFoundError(
            f"{root / 'Annotations'}: no such folder, nor is there Annotations_first."
        )
    listed = root / "meta.json"
    required = (
        {name: required_frames(objects) for name, objects in read_videos(listed).items()}
        if listed.is_file()
        else {}
    )
    names = [
        name for name in _chosen(job.raw, root, frames, settings) if name not in settings.exclude
    ]
    if not names:
        raise UserError(
            f"{frames}: no sequence is left to convert. "
            "Check `sequences_file` and `exclude` of the dataset."
        )
    tasks = [
        SequenceTask(
            name,
            frames / name,
            masks / name,
            job.out,
            settings.size,
            filter="bicubic",
            required=required.get(name, required.get(PurePosixPath(name).name)),
            appearances=True,
        )
        for name in names
    ]
    return convert_sequences(
        job, settings, tasks, split=PurePosixPath(settings.root).name.split("_")[0]
    )


def _chosen(raw: Path, root: Path, frames: Path, settings: TaoSettings) -> list[str]:
    lists = root / "ImageSets" / "valid_except.txt"
    wanted = wanted_sequences(raw, settings.sequences_file)
    if settings.listed is not None:
        wanted = shipped_list(LISTS[settings.listed])
    if wanted is None and lists.is_file():
        wanted = tuple(read_names(lists))
    present = _videos(frames)
    if wanted is None:
        return sorted(present)
    by_video = {PurePosixPath(name).name: name for name in present}
    chosen = {name: same_name(name, present) or by_video.get(name) for name in wanted}
    for name, found in chosen.items():
        if found is None:
            raise UserError(
                f"{frames / name}: the list of sequences names this folder, and it is not there. "
                "Add its frames, or take it off the list."
            )
    return sorted({name for name in chosen.values() if name is not None})


def _videos(frames: Path) -> set[str]:
    """Return the names of all folders that hold frames, one or two levels below `frames`."""
    found = set()
    for folder in folders_in(frames):
        if files_in(folder, FRAME_SUFFIXES):
            found.add(folder.name)
        found.update(f"{folder.name}/{path.name}" for path in folders_in(folder))
    return found
