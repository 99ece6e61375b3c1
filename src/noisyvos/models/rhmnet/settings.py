"""The settings of RHMNet: its training pass, and what its memory keeps at inference."""

from typing import Literal

from pydantic import Field, field_validator

from noisyvos.registry import Settings

CHANNELS = 12  # of the published softmax: unlabelled, ten objects, background
MOST_OBJECTS = CHANNELS - 2
CELL = 4  # cells of the fine features in one of the deep ones, along a side
BACKGROUND = 11  # the label of a background scribble


class RHMNetSettings(Settings):
    """The training pass; defaults are the published ones of the video stage. Thresholds compare with probabilities."""

    region_threshold: float = Field(
        0.65, ge=0, le=1
    )  # a predicted region is remembered where it is more probable than this
    mask_threshold: float = Field(0.95, ge=0, le=1)  # likewise for masks, in training only
    dropout: float = Field(0.1, ge=0, lt=1)
    region_weight: float = Field(1.0, ge=0)  # of the loss of reliable regions
    focal_alpha: float = Field(0.5, ge=0, le=1)  # of positives in that loss
    ignore_band: int = Field(
        35, ge=1
    )  # pixels: side of the square around a scribble within which nothing is asked of the region
    consistency: float = Field(
        20.0, ge=0
    )  # weight of the difference to the clip run backwards; published: 0 on still images

    @field_validator("ignore_band")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(
                "a band around a scribble has an odd number of pixels, as many on each side"
            )
        return value


class RHMNetMemory(Settings):
    """The shipped evaluation settings of the video stage."""

    scribble_every: int = Field(6, ge=1)  # frames whose predicted region stays
    mask_every: int = Field(6, ge=1)  # frames whose predicted mask stays
    capacity: int = Field(
        4, ge=1
    )  # entries of each kind; the first always stays, then the oldest goes
    keep_last_scribble: bool = True  # the last frame in between is there too
    keep_last_mask: bool = False
    background_scribble: bool = False  # whether a scribble of the background is taken notice of
    mask_memory_row: Literal[1, 2] = (
        1  # which embedding marks predicted masks: 1 as published, 2 as trained
    )
