"""Videos held out of a training split, for evaluation or tuning: chosen by a rule, so that nobody chooses them by their scores."""

import hashlib
from collections.abc import Iterable
from typing import Literal

from pydantic import PositiveInt

from noisyvos.datasets.base import DatasetSettings
from noisyvos.errors import UserError


class SplitSettings(DatasetSettings):
    """A split of which some videos can be held out: one dataset takes those, another takes the rest."""

    holdout: PositiveInt | None = None  # number of videos
    take: Literal["rest", "holdout"] = "rest"

    def taken(self, names: Iterable[str]) -> list[str]:
        """Return the videos that belong to this dataset, sorted; UserError if the holdout leaves nothing."""
        chosen = sorted(names)
        if self.holdout is None:
            if self.take == "holdout":
                raise UserError(
                    "`take: holdout` needs `holdout`, the number of videos that are held out."
                )
            return chosen
        if self.holdout >= len(chosen):
            raise UserError(
                f"`holdout: {self.holdout}` leaves nothing of {len(chosen)} videos: lower it."
            )
        held = held_out(chosen, self.holdout)
        return [name for name in chosen if (name in held) == (self.take == "holdout")]


def held_out(names: Iterable[str], count: int) -> frozenset[str]:
    """Return the `count` names whose SHA-256 is smallest: the same on any machine, and hardly changed if a video is missing."""
    return frozenset(
        sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:count]
    )
