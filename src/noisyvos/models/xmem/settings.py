"""The settings of XMem: its size and training pass, and its memory at inference."""

from typing import Literal, Self

from pydantic import Field, model_validator

from noisyvos.registry import Settings


class XMemSettings(Settings):
    """Size of the network and the random choices of its training pass."""

    key_dim: int = Field(64, ge=1)
    value_dim: int = Field(512, ge=16)
    hidden_dim: int = Field(64, ge=0)  # 0: no sensory memory
    # the network of still-image training: no plane for the other objects
    single_object: bool = False
    reference_frames: int = Field(3, ge=1)  # memory frames of a training step
    deep_update_probability: float = Field(0.2, ge=0, le=1)


class XMemMemory(Settings):
    """When frames enter the memory, how it is read and when it is condensed.

    ECCV 2022, sections 3.2, 3.3 and 4.1.
    """

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
        """Return whether the use of long-term elements is counted.

        By default: if the memory may fill up within `length` frames.
        """
        if not self.enable_long_term:
            return False
        if self.enable_long_term_count_usage is not None:
            return self.enable_long_term_count_usage
        if length is None:
            return True
        condensed = self.max_mid_term_frames - self.min_mid_term_frames
        return length / condensed * self.num_prototypes >= self.max_long_term_elements
