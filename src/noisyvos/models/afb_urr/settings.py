"""The settings of AFB-URR: the weight of its own loss, and its feature bank at inference."""

from typing import Literal

from pydantic import Field

from noisyvos.registry import Settings


class AFBURRSettings(Settings):
    """What the published network leaves open."""

    uncertainty_weight: float = Field(
        0.5,
        ge=0,
        description=(
            "Weight of the uncertainty term in the loss (NeurIPS 2020 paper, section 3.3)."
        ),
    )


class AFBURRMemory(Settings):
    """The adaptive feature bank (NeurIPS 2020, section 3.2).

    The published evaluation of long videos uses an update rate of 0.05.
    """

    budget: int = Field(
        300_000,
        ge=1,
        description=(
            "Features that the banks of all channels hold together, including the "
            "background. With one object four fifths of it."
        ),
    )
    update_rate: float = Field(
        0.1, ge=0, le=1, description="Share of a new feature in the one that absorbs it."
    )
    similarity_threshold: float = Field(
        0.95,
        ge=-1,
        le=1,
        description=("Cosine of keys above which a new feature is absorbed instead of inserted."),
    )
    late_objects: Literal["replace", "append"] = Field(
        "replace",
        description=(
            "`replace` starts all banks anew from the frame of a new object. `append` "
            "starts only the bank of that object."
        ),
    )

    def limit(self, channels: int) -> float:
        """Return how many features each of `channels` may hold.

        A single object and its background get four fifths of their share, as published.
        """
        share = self.budget // channels
        return 0.8 * share if channels == 2 else share
