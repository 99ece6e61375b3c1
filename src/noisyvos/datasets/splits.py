"""Which sequences of the raw material belong to a dataset: splits, lists, and held-out videos.

Dataset kinds share these rules: folders as DAVIS has them, `meta.json` as YouTube-VOS has it.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from noisyvos.datasets.base import DatasetSettings
from noisyvos.errors import UserError, unknown_name
from noisyvos.io.files import folders_in
from noisyvos.io.names import plain_name
from noisyvos.io.text import read_json, read_names, same_name

RESOLUTIONS = ("480p", "Full-Resolution", "1080p")
SPLIT_FOLDERS = ("2017", "2016", "2022", "")


class SplitSettings(DatasetSettings):
    """Settings of a split of which some videos can be held out.

    One dataset takes the held-out videos, another takes the rest. A fixed rule chooses them, so
    nobody can choose them by their scores.
    """

    holdout: PositiveInt | None = Field(
        None,
        description=(
            "Number of videos to hold out. They are those whose names have the smallest SHA-256."
        ),
    )
    take: Literal["rest", "holdout"] = Field(
        "rest",
        description=(
            "`rest` takes the videos that are not held out, `holdout` takes exactly those that are."
        ),
    )

    def taken(self, names: Iterable[str]) -> list[str]:
        """Return the videos that belong to this dataset, sorted; UserError if none is left."""
        chosen = sorted(names)
        if self.holdout is None:
            if self.take == "holdout":
                raise UserError(
                    "`take: holdout` needs `holdout`, the number of videos that are held out."
                )
            return chosen
        if self.holdout >= len(chosen):
            raise UserError(
                f"`holdout: {self.holdout}` leaves nothing of {len(chosen)} videos: lower it."
            )
        held = held_out(chosen, self.holdout)
        return [name for name in chosen if (name in held) == (self.take == "holdout")]


def held_out(names: Iterable[str], count: int) -> frozenset[str]:
    """Return the `count` names whose SHA-256 is smallest.

    The choice is the same on any machine and hardly changes if a video is missing.
    """
    return frozenset(
        sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:count]
    )


def resolution_folders(
    root: Path,
    images: str = "JPEGImages",
    annotations: str = "Annotations",
    resolution: str | None = None,
) -> tuple[Path, Path]:
    """Return the folders of frames and of masks of a DAVIS-style folder.

    `resolution` None takes the first of RESOLUTIONS that exists, or no such sub-folder.
    FileNotFoundError names a folder that is missing.
    """
    folders = root / images, root / annotations
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}: no such folder. A DAVIS-style folder holds {images}/ and "
                f"{annotations}/; set `root`, `images` or `annotations` of the dataset if they "
                "are elsewhere."
            )
    if resolution is None:
        present = (name for name in RESOLUTIONS if (folders[0] / name).is_dir())
        resolution = next(present, None)
        if resolution is None:
            return folders
    folders = folders[0] / resolution, folders[1] / resolution
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}: no such folder. "
                "Set `resolution` to one that both frames and masks have."
            )
    return folders


def wanted_sequences(
    raw: Path, listed: str | None, sequences: tuple[str, ...] | None = None
) -> tuple[str, ...] | None:
    """Return the names that `sequences` and the list `raw`/`listed` both allow; None allows all.

    FileNotFoundError or UserError names a list that is missing or cannot be used.
    """
    if listed is None:
        return sequences
    path = raw / listed
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such list of sequences. Put it there, a name on each line, "
            "or correct `sequences_file` of the dataset."
        )
    names = read_names(path)
    return tuple(names if sequences is None else (name for name in names if name in sequences))


def shipped_list(name: str) -> tuple[str, ...]:
    """Return the names in a list of sequences that comes with this project, `lists/name`."""
    return tuple(read_names(Path(__file__).parent / "lists" / name))


def select_sequences(
    root: Path,
    frames: Path,
    split: str | None = None,
    sequences: tuple[str, ...] | None = None,
    exclude: tuple[str, ...] = (),
) -> list[str]:
    """Return the sorted names of the folders in `frames` that are asked for.

    `split` names a list below `root`/ImageSets, `sequences` allows these names only, `exclude`
    leaves names out. UserError names a sequence without a folder, or says that none is left.
    """
    present = [folder.name for folder in folders_in(frames)]
    wanted = list(sequences) if sequences is not None else None
    if split is not None:
        listed = read_split(root, split)
        wanted = listed if wanted is None else [name for name in listed if name in wanted]
    known = {name: same_name(name, present) for name in [*(wanted or ()), *exclude]}
    for name, found in known.items():
        if found is None:
            raise unknown_name(f"sequence (no folder in {frames}):", name, present)
    chosen = set(present) if wanted is None else {known[name] for name in wanted}
    chosen -= {known[name] for name in exclude}
    if not chosen:
        raise UserError(
            f"{frames}: no sequence is left to convert. "
            "Check `split`, `sequences` and `exclude` of the dataset."
        )
    return sorted(name for name in chosen if name is not None)


def read_split(root: Path, split: str) -> list[str]:
    """Return the sequence names of a split file, in order and each once.

    The forms of a list are those of `read_names`.
    """
    candidates = [root / "ImageSets" / folder / f"{split}.txt" for folder in SPLIT_FOLDERS]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"{root / 'ImageSets'}: no split file {split}.txt here or in "
            f"{', '.join(SPLIT_FOLDERS[:-1])}."
        )
    return read_names(path)


def read_videos(
    path: Path, sequences: tuple[str, ...] | None = None, exclude: tuple[str, ...] = ()
) -> dict[str, dict[str, Any]]:
    """Return {video: {object id: {frames, category?}}} of YouTube-VOS's meta.json, sorted.

    UserError names a file of another form, and a video of `sequences` or `exclude` that the file
    does not list.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file. It names the objects of every video and belongs to the dataset."
        )
    try:
        videos = {name: entry["objects"] for name, entry in read_json(path)["videos"].items()}
        for name, objects in videos.items():
            for number, entry in objects.items():
                if not 0 < int(number) < 255 or not all(
                    isinstance(frame, str) for frame in entry["frames"]
                ):
                    raise ValueError(f"object {number} of video {name}")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path}: this is no meta.json of YouTube-VOS ({type(error).__name__}: {error})."
        ) from None
    for name in [*(sequences or ()), *exclude]:
        if name not in videos:
            raise unknown_name(f"video (not in {path}):", name, videos)
    chosen = sorted(set(videos if sequences is None else sequences) - set(exclude))
    if not chosen:
        raise UserError(
            f"{path}: no video is left to convert. Check `sequences` and `exclude` of the dataset."
        )
    for name in chosen:
        plain_name(name, path, "video name")
        for frame in required_frames(videos[name]):
            plain_name(frame, path, f"frame of video {name!r}", folders=False)
    return {name: videos[name] for name in chosen}


def required_frames(objects: dict[str, Any]) -> tuple[str, ...]:
    """Return the frames that the objects of a video list, sorted."""
    return tuple(sorted({frame for entry in objects.values() for frame in entry["frames"]}))
