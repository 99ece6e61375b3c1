"""The settings of AOC-Net: its training pass, and which frames it keeps as references at inference."""

from typing import Literal

from pydantic import Field

from noisyvos.registry import Settings


class AOCNetSettings(Settings):
    """What the published network leaves open."""

    # of the frame before, in training; halves: given up to the middle of the training, predicted from then on, as published
    previous_mask: Literal["given", "predicted", "halves"] = "predicted"
    dropout: float = Field(0.1, ge=0, lt=1)  # of the backbone's features, in training


class AOCNetMemory(Settings):
    """The reference pool. `mem_every` None is the published "Base"; 5 is its multi-frame variant."""

    mem_every: int | None = Field(None, ge=1)  # every so many frames become references
    uncertainty_threshold: float = Field(
        1.0, ge=0
    )  # nats of entropy above which a pixel of a reference belongs to no object
    max_references: int | None = Field(
        None, ge=1
    )  # the first stays, then the oldest goes; published: no limit
    clustering: Literal["fixed", "released"] = (
        "fixed"  # released: proxies of wrong rows, and k that only ever falls
    )
    kmeans_start: Literal["even", "random"] = (
        "even"  # random, seeded by the frame's number, is the published start
    )
