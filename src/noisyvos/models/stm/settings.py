"""The settings of STM: its training pass, its size, and which frames its memory keeps at
inference.
"""

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from noisyvos.errors import UserError
from noisyvos.registry import Settings


class STMSettings(Settings):
    """What the published networks leave open."""

    # no gradient through the masks that are memorised; the published still-image training has it
    detach_memory: bool = Field(
        True,
        description=(
            "Stop the gradient at memorised masks. The published training on still "
            "images lets it through."
        ),
    )
    # channels of the softmax at inference, background and unused ones included
    mask_channels: int = Field(
        11,
        ge=2,
        description=(
            "Channels of the softmax at inference, including the background and unused ones."
        ),
    )


class STMMemory(Settings):
    """Which frames stay in memory; the previous frame is always there (ICCV 2019, section 3.6)."""

    every: int | None = Field(
        5, ge=1, description="Frames 0, k, 2k, ... stay in memory. Null keeps frame 0 only."
    )
    number: int | None = Field(
        None,
        ge=0,
        description=(
            "Frame 0 and this many frames spread evenly over the video, whose length "
            "must be known. Replaces `every`."
        ),
    )

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.number is not None and self.every is not None and "every" in self.model_fields_set:
            raise ValueError("give `every` or `number`, not both")
        return self

    def kept_frames(self, length: int | None) -> "KeptFrames":
        """Return which frames of a video of `length` frames stay in memory.

        UserError if `number` is set and the length unknown.
        """
        if self.number is None:
            return KeptFrames(self.every, frozenset({0}))
        if length is None:
            raise UserError(
                "memory: `number` spreads frames over the video, so its length must be known. "
                "Use `every` instead."
            )
        spread = np.round(np.linspace(0, length, self.number + 2))[:-1]
        return KeptFrames(None, frozenset(int(frame) for frame in spread))


class KeptFrames:
    """A set of frame numbers, counted from the first annotated frame."""

    def __init__(self, every: int | None, chosen: frozenset[int]) -> None:
        self.every = every
        self.chosen = chosen

    def __contains__(self, frame: int) -> bool:
        return frame in self.chosen or (self.every is not None and frame % self.every == 0)
