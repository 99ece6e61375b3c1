"""Dataset kind `davis`: DAVIS 2016 (one object) or 2017 (objects apart) as its archives unpack."""

from typing import Literal

from noisyvos.datasets.base import DATASETS, Conversion, DatasetSettings
from noisyvos.datasets.kinds.folder import FolderSettings, convert_folder


class DavisSettings(DatasetSettings):
    """A split of one year's DAVIS; the 2017 package also holds the 2016 split, with the objects kept apart in its masks."""

    year: Literal[2016, 2017] = 2017
    split: str = "train"
    root: str = "."
    resolution: str = "480p"


@DATASETS.register("davis", DavisSettings)
def convert(job: Conversion, settings: DavisSettings) -> str:
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
        ),
    )
