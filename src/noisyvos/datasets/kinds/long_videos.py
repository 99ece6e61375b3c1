"""Dataset kind `long_videos`: JPEGImages/<video>/, sparse Annotations/<video>/ and val.txt; one object a video."""

from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion, DatasetSettings
from noisyvos.datasets.kinds.folder import FolderSettings, select_sequences
from noisyvos.datasets.sequences import SequenceTask, convert_sequences


class LongVideoSettings(DatasetSettings):
    """Long Videos (AFB-URR). All non-zero values but void are the one object of a video."""

    root: str = "."
    triple: bool = Field(
        False,
        description="The tripled set: every video forth, back and forth again, with new frame names.",
    )


@DATASETS.register("long_videos", LongVideoSettings)
def convert_long_videos(job: Conversion, settings: LongVideoSettings) -> str:
    """Convert the videos of val.txt, or all where there is no such file; say what was made. Raises as `convert_sequence`."""
    root = job.raw / settings.root
    frames, masks = root / "JPEGImages", root / "Annotations"
    for folder in (frames, masks):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}: no such folder. Long Videos holds JPEGImages/ and Annotations/; set `root` if they lie deeper."
            )
    listed = root / "val.txt"
    wanted = tuple(listed.read_text(encoding="utf-8").split()) if listed.is_file() else None
    names = select_sequences(root, frames, FolderSettings(source=settings.source, sequences=wanted))
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
        for name in names
    ]
    return convert_sequences(job, settings, tasks, split="val_x3" if settings.triple else "val")
