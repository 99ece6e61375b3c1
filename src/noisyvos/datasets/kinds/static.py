"""Dataset kind `static`: still images with one mask picture each, such as saliency sets.

The masks become outlines that `synth` fills to the very same pixels.
"""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion, DatasetSettings
from noisyvos.datasets.still_layout import Still, convert_stills
from noisyvos.datasets.stills import pairs_below
from noisyvos.errors import UserError
from noisyvos.limits import MOST_REPEATS
from noisyvos.registry import Settings


class StaticFolder(Settings):
    """A folder of images, searched with the folders below it. Masks are PNGs of the same names."""

    images: str = Field(description="Folder of the images inside the source.")
    masks: str | None = Field(
        None, description="Folder of the masks, with the same names; None: beside the images."
    )
    repeat: int = Field(
        1, ge=1, le=MOST_REPEATS, description="How often an image counts in sampling."
    )
    partial: bool = Field(
        False, description="Leave out images without a mask (VOC); otherwise they are refused."
    )


class StaticSettings(DatasetSettings):
    """Sets of still images; the default is what XMem, STCN and Cutie pretrain on."""

    makes: ClassVar[str] = "images"

    folders: tuple[StaticFolder, ...] = Field(
        (
            StaticFolder(images="fss"),
            StaticFolder(images="DUTS-TR"),
            StaticFolder(images="DUTS-TE"),
            StaticFolder(images="ecssd"),
            StaticFolder(images="BIG_small", repeat=5),
            StaticFolder(images="HRSOD_small", repeat=5),
        ),
        min_length=1,
        description="Folders of images with their masks.",
    )
    threshold: int | None = Field(
        128,
        ge=1,
        le=255,
        description="Grey level from which a pixel is the object. "
        "None: mask values are instances, 255 void.",
    )


@DATASETS.register("static", StaticSettings)
def convert_static(job: Conversion, settings: StaticSettings) -> str:
    """Convert all folders to images/ and instances.json and return what was made.

    An image without object pixels stays, without an instance. `repeat` is recorded with every
    image. UserError or FileNotFoundError names a file that cannot be used.
    """
    return convert_stills(
        job,
        settings,
        {folder.images: _tasks(job, settings, folder) for folder in settings.folders},
        "or correct `folders` of the dataset, which may name one folder twice",
    )


def _tasks(job: Conversion, settings: StaticSettings, folder: StaticFolder) -> list[Still]:
    images = job.raw / folder.images
    masks = images if folder.masks is None else job.raw / folder.masks
    for path in (images, masks):
        if not path.is_dir():
            known = ", ".join(entry.images for entry in settings.folders)
            raise FileNotFoundError(
                f"{path}: no such folder of still images. "
                f"Set `folders` of the dataset to those you have (now {known})."
            )
    pairs = pairs_below(images, masks, settings.threshold, folder.partial)
    if not pairs:
        raise UserError(f"{images}: no image (.jpg) with a mask in this folder.")
    names = [
        (Path(folder.images) / pair.image.relative_to(images)).with_suffix("").as_posix()
        for pair in pairs
    ]
    return [
        Still(pair, name, job.out, settings.size, folder.repeat)
        for pair, name in zip(pairs, names, strict=True)
    ]
