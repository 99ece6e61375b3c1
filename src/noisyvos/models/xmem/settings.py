"""The settings of XMem's memory at inference and the rules between them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from noisyvos.registry import Settings


class XMemMemory(Settings):
    """When frames enter the memory, how it is read and when it is condensed (ECCV 2022, sections 3.2-3.3 and 4.1)."""

    mem_every: int = Field(5, ge=1)
    deep_update_every: int = Field(-1, ge=-1)  # -1: with every memory frame
    top_k: int = Field(30, ge=1)
    enable_long_term: bool = True
    enable_long_term_count_usage: bool | None = None  # None: by the video's length
    max_mid_term_frames: int = Field(10, ge=2)
    min_mid_term_frames: int = Field(5, ge=1)
    num_prototypes: int = Field(128, ge=1)
    max_long_term_elements: int = Field(10000, ge=1)
    late_groups: Literal["faithful", "fixed"] = "faithful"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.deep_update_every == 0:
            raise ValueError("deep_update_every must be -1 or at least 1")
        if self.enable_long_term:
            if self.min_mid_term_frames >= self.max_mid_term_frames:
                raise ValueError("min_mid_term_frames must be smaller than max_mid_term_frames")
            if self.num_prototypes >= self.max_long_term_elements:
                raise ValueError("num_prototypes must be smaller than max_long_term_elements")
        return self

    def counts_usage(self, length: int | None) -> bool:
        """Return whether use counts of long-term elements are kept: if the memory may fill up within `length` frames."""
        if not self.enable_long_term:
            return False
        if self.enable_long_term_count_usage is not None:
            return self.enable_long_term_count_usage
        if length is None:
            return True
        gained = (
            length / (self.max_mid_term_frames - self.min_mid_term_frames) * self.num_prototypes
        )
        return gained >= self.max_long_term_elements
