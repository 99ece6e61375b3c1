"""Dataset kinds `folder` and `davis`: JPEGImages[/<resolution>]/<sequence>/* with Annotations[/<resolution>]/<sequence>/*.png.

BL30K and converted VISOR have the same form.
"""

from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion
from noisyvos.datasets.holdout import SplitSettings
from noisyvos.datasets.sequences import SequenceTask, convert_sequences
from noisyvos.errors import UserError, unknown_name

RESOLUTIONS = ("480p", "Full-Resolution", "1080p")
SPLIT_FOLDERS = ("2017", "2016", "2022", "")


class FolderSettings(SplitSettings):
    """A DAVIS-style folder; masks may exist for only some frames."""

    root: str = Field(
        ".", description="Folder inside the source that holds the images and annotations folders."
    )
    images: str = "JPEGImages"
    annotations: str = "Annotations"
    resolution: str | None = Field(
        None,
        description="Sub-folder of both; None takes the first of 480p, Full-Resolution, 1080p that exists.",
    )
    split: str | None = Field(
        None,
        description="Sequences of ImageSets/<year>/<split>.txt; write 2016/val to name the year.",
    )
    sequences: tuple[str, ...] | None = Field(None, description="Take these sequences only.")
    exclude: tuple[str, ...] = Field((), description="Leave these sequences out.")
    one_object: bool = Field(
        False,
        description="Join all ids into object 1 (DAVIS 2016); masks of 0 and 255 only are read as one object.",
    )


@DATASETS.register("folder", FolderSettings)
def convert_folder(job: Conversion, settings: FolderSettings) -> str:
    """Convert a DAVIS-style folder, say what was made; a missing, damaged or wrongly sized file is refused by its name."""
    root = job.raw / settings.root
    frames, masks = resolution_folders(root, settings)
    names = select_sequences(root, frames, settings)
    tasks = [
        SequenceTask(name, frames / name, masks / name, job.out, settings.size, settings.one_object)
        for name in names
    ]
    return convert_sequences(job, settings, tasks)


class DavisSettings(SplitSettings):
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
            holdout=settings.holdout,
            take=settings.take,
        ),
    )


def resolution_folders(root: Path, settings: FolderSettings) -> tuple[Path, Path]:
    """Return the folders of frames and of masks; FileNotFoundError says which of them is not there."""
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
                raise FileNotFoundError(
                    f"{folder}: no such folder. Set `resolution` to one that both frames and masks have."
                )
    return images, annotations


def select_sequences(root: Path, frames: Path, settings: FolderSettings) -> list[str]:
    """Return the sorted names of the sequences that `settings` asks for; UserError if one does not exist or none is left."""
    present = sorted(
        folder.name
        for folder in frames.iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
    )
    wanted = list(settings.sequences) if settings.sequences is not None else None
    if settings.split is not None:
        listed = read_split(root, settings.split)
        wanted = listed if wanted is None else [name for name in listed if name in wanted]
    for name in [*(wanted or ()), *settings.exclude]:
        if name not in present:
            raise unknown_name(f"sequence (no folder in {frames}):", name, present)
    chosen = set(present if wanted is None else wanted) - set(settings.exclude)
    if not chosen:
        raise UserError(
            f"{frames}: no sequence is left to convert. Check `split`, `sequences` and `exclude` of the dataset."
        )
    return settings.taken(chosen)


def read_split(root: Path, split: str) -> list[str]:
    """Return the sequence names of a split file, first occurrence first.

    Lines of the DAVIS 2016 package name an image and a mask instead of a sequence; their folder is the sequence.
    """
    candidates = [root / "ImageSets" / folder / f"{split}.txt" for folder in SPLIT_FOLDERS]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"{root / 'ImageSets'}: no split file {split}.txt here or in {', '.join(SPLIT_FOLDERS[:-1])}."
        )
    lines = [
        line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()
    ]
    names = [PurePosixPath(line).parent.name if "/" in line else line for line in lines]
    if not names:
        raise UserError(f"{path}: this split names no sequence.")
    return list(dict.fromkeys(names))
