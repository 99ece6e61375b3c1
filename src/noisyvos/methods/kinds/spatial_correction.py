"""SC: measures the boundary bias on a few clean masks, corrects the labels and retrains."""

from pydantic import Field

from noisyvos.methods.base import METHODS
from noisyvos.methods.cross_entropy import CrossEntropy, WithDice


class SpatialCorrectionSettings(WithDice):
    """Settings of `sc`."""

    # V: number of training masks whose clean labels are read
    clean_masks: int = Field(1, ge=1)
    share: float = Field(0.8, gt=0, le=1)  # gamma: share of the measured bias that is corrected
    # most relabellings, each followed by a training from the start
    rounds: int = Field(2, ge=1)


@METHODS.register("sc", SpatialCorrectionSettings)
class SpatialCorrection(CrossEntropy):
    """E[-log p_y] + dice. After the training the loop corrects the boundary bias and retrains."""

    mining = False

    def __init__(
        self, settings: SpatialCorrectionSettings, total_iterations: int | None = None
    ) -> None:
        super().__init__(settings, total_iterations)
        self.relabelling = settings
