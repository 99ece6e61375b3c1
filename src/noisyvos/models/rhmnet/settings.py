"""The settings of RHMNet: its sizes, its training pass, and what its memory keeps at inference."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator

from noisyvos.registry import Settings

CHANNELS = 12  # of the published softmax: unlabelled, ten objects, background
MOST_OBJECTS = CHANNELS - 2
BACKGROUND = 11  # the label of a background scribble


@dataclass(frozen=True)
class Sizes:
    """Channel counts of heads, transformer and position embedding."""

    features: tuple[int, int, int] = (256, 512, 1024)  # fine, middle, deep
    stride: int = 16  # of the deep features
    cell: int = 4  # fine cells in a deep one, along a side
    width: int = 256  # of tokens
    heads: int = 8
    inner: int = 1024  # of the layers between attention
    side: int = 24  # of the grid of learned positions


class RHMNetSettings(Settings):
    """The training pass; defaults are the published ones of the video stage.

    Thresholds are probabilities.
    """

    # a predicted region is memorised where it is more probable than this
    region_threshold: float = Field(
        0.65,
        ge=0,
        le=1,
        description="A predicted region is stored where its probability is above this value.",
    )
    mask_threshold: float = Field(
        0.95, ge=0, le=1, description="The same for masks, in training only."
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="Dropout of the transformer layers in training."
    )
    region_weight: float = Field(1.0, ge=0, description="Weight of the loss on reliable regions.")
    focal_alpha: float = Field(
        0.5, ge=0, le=1, description="Weight of positive pixels in that loss."
    )
    ignore_band: int = Field(
        35,
        ge=1,
        description=(
            "Side of the square around a scribble in which the region loss ignores pixels."
        ),
    )
    # weight of the difference to the clip run backwards; published: 0 on still images
    consistency: float = Field(
        20.0,
        ge=0,
        description=(
            "Weight of the difference from the clip run backwards. The published "
            "value on still images is 0."
        ),
    )

    @field_validator("ignore_band")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("the band around a scribble needs an odd number of pixels")
        return value


class RHMNetMemory(Settings):
    """The shipped evaluation settings of the video stage."""

    scribble_every: int = Field(
        6, ge=1, description="Frames 0, k, 2k, ... whose predicted regions stay in memory."
    )
    mask_every: int = Field(
        6, ge=1, description="Frames 0, k, 2k, ... whose predicted masks stay in memory."
    )
    # entries of each kind; the first always stays, then the oldest is evicted
    capacity: int = Field(
        4, ge=1, description="Entries of each kind. That of frame 0 stays, then the oldest goes."
    )
    keep_last_scribble: bool = Field(
        True, description="Keep the region of the last frame in between as well."
    )
    keep_last_mask: bool = Field(
        False, description="Keep the mask of the last frame in between as well."
    )
    background_scribble: bool = Field(False, description="Use a scribble on the background.")
    # which embedding labels predicted masks: 1 as published, 2 as trained
    mask_memory_row: Literal[1, 2] = Field(
        1, description=("Label embedding that marks predicted masks. 1 as published, 2 as trained.")
    )
