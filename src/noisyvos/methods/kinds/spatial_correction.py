"""SC: measures the boundary bias on a few clean masks, corrects the labels and retrains."""

from pydantic import Field

from noisyvos.methods.base import METHODS
from noisyvos.methods.cross_entropy import CrossEntropy, WithDice


class SpatialCorrectionSettings(WithDice):
    """Settings of `sc`."""

    clean_masks: int = Field(
        1, ge=1, description="Number of clean masks of single training frames that are read (V)."
    )
    share: float = Field(
        0.8, gt=0, le=1, description="Share of the measured bias that is corrected (gamma)."
    )
    rounds: int = Field(
        2,
        ge=1,
        description=(
            "Largest number of relabellings. Each is followed by a training from the start."
        ),
    )


@METHODS.register("sc", SpatialCorrectionSettings)
class SpatialCorrection(CrossEntropy):
    """E[-log p_y] + dice. After the training the loop corrects the boundary bias and retrains."""

    mining = False

    def __init__(
        self, settings: SpatialCorrectionSettings, total_iterations: int | None = None
    ) -> None:
        super().__init__(settings, total_iterations)
        self.relabelling = settings
