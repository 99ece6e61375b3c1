"""Dataset kind `unified`: a set of still images read by the rules of AFB-URR's pretraining.

A mix of the five sets is the union on which AFB-URR trains first (Liang et al. 2020).
"""

from typing import ClassVar, Literal

from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion, DatasetSettings
from noisyvos.datasets.still_layout import Still, convert_stills
from noisyvos.datasets.stills import find_set

Set = Literal["MSRA10K", "ECSSD", "PASCAL-S", "PASCALVOC2012", "COCO"]


class UnifiedSettings(DatasetSettings):
    """One of the five sets, as its archives unpack."""

    makes: ClassVar[str] = "images"

    set: Set = Field(description="Which set it is, which decides layout and rule of the masks.")


@DATASETS.register("unified", UnifiedSettings)
def convert_unified(job: Conversion, settings: UnifiedSettings) -> str:
    """Convert one set and return what was made. Raises as `find_set` and `Pair.read_mask`.

    The masks are those that `noisyvos convert unify` writes. Object k of a mask is instance k.
    """
    name, pairs = find_set(settings.set, job.raw)
    stills = [Still(pair, pair.image.stem, job.out, settings.size) for pair in pairs]
    return convert_stills(job, settings, {name: stills}, "or take it out")
