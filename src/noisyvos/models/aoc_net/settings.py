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
    previous_mask: Literal["given", "predicted", "halves"] = "predicted"
    dropout: float = Field(0.1, ge=0, lt=1)  # of the backbone's features, in training


class AOCNetMemory(Settings):
    """The reference pool. `mem_every` None is the published "Base".

    5 is its multi-frame variant.
    """

    mem_every: int | None = Field(None, ge=1)  # every so many frames become references
    # nats of entropy above which a pixel of a reference belongs to no object
    uncertainty_threshold: float = Field(1.0, ge=0)
    # the first stays, then the oldest is evicted; published: no limit
    max_references: int | None = Field(None, ge=1)
    # released: proxies of wrong rows, and a k that only decreases
    clustering: Literal["fixed", "released"] = "fixed"
    # random, seeded by the frame's number, is the published start
    kmeans_start: Literal["even", "random"] = "even"
