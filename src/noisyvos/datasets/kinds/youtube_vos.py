"""Dataset kind `youtube_vos`: <split>/{JPEGImages,Annotations}/<video>/ and <split>/meta.json."""

from typing import Any, Literal

from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion
from noisyvos.datasets.sequences import SequenceTask, convert_sequences
from noisyvos.datasets.splits import (
    SplitSettings,
    read_videos,
    required_frames,
    shipped_list,
    wanted_sequences,
)

# Lists of videos that this project holds: of XMem (github.com/hkchengrex/XMem, util/yv_subset.txt),
# 3,464 of the 3,471 videos of 2019's train; SMART has the same list
LISTS = {"xmem": "youtube_xmem.txt"}


class YouTubeSettings(SplitSettings):
    """A split of YouTube-VOS, whose videos are those of meta.json.

    `size: 480` makes the usual training copy, with bicubic frames.
    """

    split: str = Field("train", description="train, valid or test.")
    root: str = Field(
        ".",
        description="Folder inside the source that holds the folders of the splits "
        "and all_frames/.",
    )
    all_frames: bool = Field(
        False,
        description="Take the frames of all_frames/<split>_all_frames (30 a second), "
        "not those of <split> (6 a second).",
    )
    sequences: tuple[str, ...] | None = Field(None, description="Take these videos only.")
    sequences_file: str | None = Field(
        None, description="A list inside the source, a video on each line: take these only."
    )
    listed: Literal["xmem"] | None = Field(
        None,
        description="Or take the videos of a list that comes with this project: the 3,464 of "
        "2019's train on which XMem and SMART train.",
    )
    exclude: tuple[str, ...] = Field((), description="Leave these videos out.")


@DATASETS.register("youtube_vos", YouTubeSettings)
def convert_youtube_vos(job: Conversion, settings: YouTubeSettings) -> str:
    """Convert one split and return what was made. Raises as `convert_sequence`.

    Objects may appear late, so the first frame of each is recorded. In the train split meta.json
    names categories, which are recorded. In all others it names the frames whose results the
    benchmark wants.
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
                f"{folder}: no such folder. YouTube-VOS holds {settings.split}/ and, at the full "
                f"frame rate, all_frames/{settings.split}_all_frames/, side by side; "
                "set `root` if they are deeper."
            )
    wanted = wanted_sequences(job.raw, settings.sequences_file, settings.sequences)
    if settings.listed is not None:
        names = shipped_list(LISTS[settings.listed])
        wanted = names if wanted is None else tuple(name for name in names if name in wanted)
    videos = read_videos(split / "meta.json", wanted, settings.exclude)
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
