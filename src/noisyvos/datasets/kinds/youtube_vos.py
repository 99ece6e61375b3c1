"""Dataset kind `youtube_vos`: <split>/{JPEGImages,Annotations}/<video>/ with <split>/meta.json, at 6 or at 30 frames a second."""

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion
from noisyvos.datasets.holdout import SplitSettings
from noisyvos.datasets.sequences import SequenceTask, convert_sequences
from noisyvos.errors import UserError, unknown_name


class YouTubeSettings(SplitSettings):
    """A split of YouTube-VOS. Its videos are those of meta.json; `size: 480` makes the usual training copy (frames bicubic)."""

    split: str = "train"
    root: str = Field(
        ".",
        description="Folder inside the source that holds the folders of the splits and all_frames/.",
    )
    all_frames: bool = Field(
        False,
        description="Take the frames of all_frames/<split>_all_frames (30 a second), not those of <split> (6 a second).",
    )
    sequences: tuple[str, ...] | None = Field(None, description="Take these videos only.")
    exclude: tuple[str, ...] = Field((), description="Leave these videos out.")


@DATASETS.register("youtube_vos", YouTubeSettings)
def convert_youtube_vos(job: Conversion, settings: YouTubeSettings) -> str:
    """Convert one split, say what was made.

    Objects may appear late: the first frame of each is recorded. In the train split meta.json names categories, which are
    recorded; in all others it names the frames whose results are wanted. Raises as `convert_sequence`.
    """
    split = job.raw / settings.root / settings.split
    frames = (
        job.raw / settings.root / "all_frames" / f"{settings.split}_all_frames"
        if settings.all_frames
        else split
    )
    for folder in (split / "Annotations", frames / "JPEGImages"):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}: no such folder. YouTube-VOS holds {settings.split}/ and, at the full frame rate, "
                f"all_frames/{settings.split}_all_frames/, side by side; set `root` if they lie deeper."
            )
    videos = read_videos(split / "meta.json", settings.sequences, settings.exclude)
    videos = {name: videos[name] for name in settings.taken(videos)}
    training = settings.split == "train"
    tasks = [
        SequenceTask(
            name,
            frames / "JPEGImages" / name,
            split / "Annotations" / name,
            job.out,
            settings.size,
            filter="bicubic",
            required=None if training else required_frames(objects),
            appearances=True,
        )
        for name, objects in videos.items()
    ]
    categories = {
        name: {
            number: entry["category"] for number, entry in objects.items() if "category" in entry
        }
        for name, objects in videos.items()
    }
    extra: dict[str, Any] = {"categories": categories} if any(categories.values()) else {}
    listed = {name: sorted(int(number) for number in objects) for name, objects in videos.items()}
    return convert_sequences(
        job, settings, tasks, split=settings.split, listed_objects=listed, **extra
    )


def required_frames(objects: dict[str, Any]) -> tuple[str, ...]:
    """Return the frames that the objects of a video list, sorted."""
    return tuple(sorted({frame for entry in objects.values() for frame in entry["frames"]}))


def read_videos(
    path: Path, sequences: tuple[str, ...] | None = None, exclude: tuple[str, ...] = ()
) -> dict[str, dict[str, Any]]:
    """Return {video: {object id: {frames, category?}}} of a meta.json, sorted by video; UserError if it is not of that form."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file. It names the objects of every video and belongs to the data set."
        )
    try:
        videos = {
            name: entry["objects"]
            for name, entry in json.loads(path.read_text(encoding="utf-8"))["videos"].items()
        }
        for name, objects in videos.items():
            for number, entry in objects.items():
                if not 0 < int(number) < 255 or not all(
                    isinstance(frame, str) for frame in entry["frames"]
                ):
                    raise ValueError(f"object {number} of video {name}")
    except (
        json.JSONDecodeError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
    ) as error:
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
    return {name: videos[name] for name in chosen}
