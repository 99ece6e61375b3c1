"""Dataset kind `long_videos`: JPEGImages/<video>/, sparse Annotations/<video>/, and val.txt."""

from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion, DatasetSettings
from noisyvos.datasets.sequences import SequenceTask, convert_sequences
from noisyvos.datasets.splits import select_sequences
from noisyvos.io.text import read_names


class LongVideoSettings(DatasetSettings):
    """Long Videos (AFB-URR). A video has one object: all values of its masks but 0 and void."""

    root: str = Field(
        ".", description="Folder inside the source that holds JPEGImages, Annotations and val.txt."
    )
    triple: bool = Field(
        False,
        description="The tripled set: every video forwards, backwards and forwards again, "
        "with new frame names.",
    )


@DATASETS.register("long_videos", LongVideoSettings)
def convert_long_videos(job: Conversion, settings: LongVideoSettings) -> str:
    """Convert the videos that val.txt lists, or all if there is no such file.

    Returns what was made. Raises as `convert_sequence`.
    """
    root = job.raw / settings.root
    frames, masks = root / "JPEGImages", root / "Annotations"
    for folder in (frames, masks):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}: no such folder. Long Videos holds JPEGImages/ and Annotations/; "
                "set `root` if they are deeper."
            )
    listed = root / "val.txt"
    wanted = tuple(read_names(listed)) if listed.is_file() else None
    tasks = [
        SequenceTask(
            name,
            frames / name,
            masks / name,
            job.out,
            settings.size,
            one_object=True,
            bounce=settings.triple,
        )
        for name in select_sequences(root, frames, sequences=wanted)
    ]
    return convert_sequences(job, settings, tasks, split="val_x3" if settings.triple else "val")
