"""The settings of AOC-Net: its training pass, and which frames it keeps as references at
inference.
"""

from typing import Literal

from pydantic import Field

from noisyvos.registry import Settings


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
