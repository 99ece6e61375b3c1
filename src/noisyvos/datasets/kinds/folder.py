"""Dataset kinds `folder` and `davis`: frames and masks of each sequence in folders of its name.

The form is JPEGImages[/<resolution>]/<sequence>/* with Annotations[/<resolution>]/<sequence>/*.png.
BL30K and VISOR as `noisyvos convert visor` writes it have this form too.
"""

from typing import Literal

from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion
from noisyvos.datasets.sequences import SequenceTask, convert_sequences
from noisyvos.datasets.splits import (
    SplitSettings,
    resolution_folders,
    select_sequences,
    wanted_sequences,
)
from noisyvos.io.files import normal, same_place


class FolderSettings(SplitSettings):
    """A DAVIS-style folder. Only some frames may have masks."""

    root: str = Field(
        ".", description="Folder inside the source that holds the images and annotations folders."
    )
    images: str = Field("JPEGImages", description="Name of the folder of frames.")
    annotations: str = Field("Annotations", description="Name of the folder of masks.")
    resolution: str | None = Field(
        None,
        description="Sub-folder of both; None takes the first of 480p, Full-Resolution, 1080p "
        "that exists.",
    )
    split: str | None = Field(
        None,
        description="Sequences of ImageSets/<year>/<split>.txt; write 2016/val to name the year.",
    )
    sequences: tuple[str, ...] | None = Field(None, description="Take these sequences only.")
    sequences_file: str | None = Field(
        None, description="A list inside the source, a sequence on each line: take these only."
    )
    exclude: tuple[str, ...] = Field((), description="Leave these sequences out.")
    one_object: bool = Field(
        False,
        description="Join all ids into object 1 (DAVIS 2016); masks of 0 and 255 only are read "
        "as one object.",
    )


@DATASETS.register("folder", FolderSettings)
def convert_folder(job: Conversion, settings: FolderSettings) -> str:
    """Convert a DAVIS-style folder and return what was made. Raises as `convert_sequence`."""
    root = job.raw / settings.root
    frames, masks = resolution_folders(
        root, settings.images, settings.annotations, settings.resolution
    )
    wanted = wanted_sequences(job.raw, settings.sequences_file, settings.sequences)
    names = settings.taken(select_sequences(root, frames, settings.split, wanted, settings.exclude))
    tasks = [
        SequenceTask(
            normal(name),
            frames / name,
            same_place(masks, name),
            job.out,
            settings.size,
            settings.one_object,
        )
        for name in names
    ]
    return convert_sequences(job, settings, tasks)


class DavisSettings(SplitSettings):
    """A split of one year's DAVIS.

    The 2017 package also holds the 2016 split, with the objects kept apart in its masks.
    """

    year: Literal[2016, 2017] = Field(
        2017, description="2016 joins all objects of a frame into one. 2017 keeps them apart."
    )
    split: str = Field("train", description="Split of ImageSets/<year>.")
    root: str = Field(
        ".", description="Folder inside the source that holds JPEGImages and Annotations."
    )
    resolution: str = Field(
        "480p",
        description=(
            "Sub-folder of both. Null takes the first of 480p, Full-Resolution and "
            "1080p that exists."
        ),
    )


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
