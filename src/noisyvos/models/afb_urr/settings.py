"""The settings of AFB-URR: the weight of its own loss, and its feature bank at inference."""

from typing import Literal

from pydantic import Field

from noisyvos.registry import Settings


class AFBURRSettings(Settings):
    """What the published network leaves open."""

    # of the uncertainty in the loss (NeurIPS 2020, section 3.3)
    uncertainty_weight: float = Field(0.5, ge=0)


class AFBURRMemory(Settings):
    """The adaptive feature bank (NeurIPS 2020, section 3.2).

    The published evaluation of long videos uses an update rate of 0.05.
    """

    budget: int = Field(300_000, ge=1)  # features of all channels together, background included
    update_rate: float = Field(0.1, ge=0, le=1)  # share of a new feature in the one that absorbs it
    # cosine of keys above which a new feature is absorbed
    similarity_threshold: float = Field(0.95, ge=-1, le=1)
    # what a new object does to the memory of the others
    late_objects: Literal["replace", "append"] = "replace"

    def limit(self, channels: int) -> float:
        """Return how many features each of `channels` may hold.

        A single object and its background get four fifths of their share, as published.
        """
        share = self.budget // channels
        return 0.8 * share if channels == 2 else share
