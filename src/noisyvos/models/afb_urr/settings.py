"""The settings of AFB-URR: the weight of its own loss, and how its bank of features lives at inference."""

from typing import Literal

from pydantic import Field

from noisyvos.registry import Settings


class AFBURRSettings(Settings):
    """What the published network leaves open."""

    uncertainty_weight: float = Field(
        0.5, ge=0
    )  # of the uncertainty in the loss (NeurIPS 2020, section 3.3)


class AFBURRMemory(Settings):
    """The adaptive feature bank (NeurIPS 2020, section 3.2); the published evaluation of long videos updates at 0.05."""

    budget: int = Field(300_000, ge=1)  # features of all channels together, background included
    update_rate: float = Field(0.1, ge=0, le=1)  # share of a new feature in the one that absorbs it
    similarity_threshold: float = Field(
        0.95, ge=-1, le=1
    )  # cosine of keys above which a new feature is absorbed
    late_objects: Literal["replace", "append"] = (
        "replace"  # what a new object does to the memory of the others
    )

    def limit(self, channels: int) -> float:
        """Return the features that each of `channels` may hold; a single object and its background get four fifths, as published."""
        share = self.budget // channels
        return 0.8 * share if channels == 2 else share
