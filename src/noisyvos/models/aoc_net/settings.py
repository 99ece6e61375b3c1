"""The settings of AOC-Net: its training pass, and which frames it keeps as references at
inference.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from noisyvos.registry import Settings


@dataclass(frozen=True)
class Sizes:
    """Channel counts, and half sides of the local windows in the published order of channels."""

    low: int = 256  # low-level features
    features: int = 256  # the backbone's output
    embedding: int = 100
    embedding_groups: int = 25
    prehead: int = 64
    decoder: int = 256  # of its first block; all others are in proportion
    windows: tuple[int, ...] = (12, 2, 4, 6, 8, 10)

    @property
    def head(self) -> int:
        """Channels of the attention head: reference and previous frame, inside and outside."""
        return 4 * self.embedding

    @property
    def maps(self) -> int:
        """Proto-maps of an object."""
        return 6 + 3 * len(self.windows)


class AOCNetSettings(Settings):
    """What the published network leaves open."""

    # mask of the previous frame, in training; halves, as published: given in the first half of the
    # training, predicted in the second
    previous_mask: Literal["given", "predicted", "halves"] = Field(
        "predicted",
        description=(
            "Which mask of the frame before the training shows. `halves` gives it up "
            "to the middle of the training and then uses the prediction, as "
            "published."
        ),
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="Dropout of the backbone's features in training."
    )


class AOCNetMemory(Settings):
    """The reference pool. `mem_every` None is the published "Base".

    5 is its multi-frame variant.
    """

    mem_every: int | None = Field(
        None,
        ge=1,
        description=(
            'Every k-th frame becomes a reference. Null is the published "Base"; 5 is '
            "its multi-frame variant."
        ),
    )
    uncertainty_threshold: float = Field(
        1.0,
        ge=0,
        description="Nats of entropy above which a pixel of a reference belongs to no object.",
    )
    # the first stays, then the oldest is evicted; published: no limit
    max_references: int | None = Field(
        None,
        ge=1,
        description=(
            "Largest number of references. The first stays, then the oldest goes. The "
            "published code has no limit."
        ),
    )
    # released: proxies of wrong rows, and a k that only decreases
    clustering: Literal["fixed", "released"] = Field(
        "fixed",
        description=(
            "`released` repeats two slips of the release: proxies of the wrong rows, "
            "and a number of proxies that only falls."
        ),
    )
    # random, seeded by the frame's number, is the published start
    kmeans_start: Literal["even", "random"] = Field(
        "even",
        description=(
            "`even` starts from rows in equal steps. `random` is the published start, seeded here."
        ),
    )
