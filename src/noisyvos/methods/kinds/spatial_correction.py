"""SC: boundaries that are off by the same amount everywhere are measured on a few clean masks, moved back, and learned anew."""

from pydantic import Field

from noisyvos.methods.base import METHODS
from noisyvos.methods.cross_entropy import CrossEntropy, WithDice


class SpatialCorrectionSettings(WithDice):
    """Settings of `sc`."""

    clean_masks: int = Field(
        1, ge=1
    )  # V: masks of single training frames whose clean labels are read
    share: float = Field(0.8, gt=0, le=1)  # gamma: of the measured bias that is corrected
    rounds: int = Field(2, ge=1)  # relabellings at most, each followed by a training from the start


@METHODS.register("sc", SpatialCorrectionSettings)
class SpatialCorrection(CrossEntropy):
    """E[-log p_y] + dice; after the training the loop relabels by the boundary bias and trains anew."""

    mining = False

    def __init__(
        self, settings: SpatialCorrectionSettings, total_iterations: int | None = None
    ) -> None:
        super().__init__(settings, total_iterations)
        self.relabelling = settings
