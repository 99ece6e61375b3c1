"""The settings of XMem: its size and training pass, and its memory at inference."""

from typing import Literal, Self

from pydantic import Field, model_validator

from noisyvos.registry import Settings


class XMemSettings(Settings):
    """Size of the network and the random choices of its training pass."""

    key_dim: int = Field(64, ge=1, description="Channels of the keys.")
    value_dim: int = Field(512, ge=16, description="Channels of the values.")
    hidden_dim: int = Field(
        64, ge=0, description="Channels of the sensory memory. 0 leaves it out."
    )
    # the network of still-image training: no plane for the other objects
    single_object: bool = Field(
        False,
        description=(
            "The network of still-image training, whose value encoder has no plane "
            "for the other objects."
        ),
    )
    reference_frames: int = Field(3, ge=1, description="Memory frames of a training step.")
    deep_update_probability: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Probability of a deep update of the sensory memory in training.",
    )


class XMemMemory(Settings):
    """When frames enter the memory, how it is read and when it is condensed.

    ECCV 2022, sections 3.2, 3.3 and 4.1.
    """

    mem_every: int = Field(
        5,
        ge=1,
        description=(
            "Every k-th frame enters the working memory. Annotated frames always do, "
            "the last frame never does."
        ),
    )
    deep_update_every: int = Field(
        -1,
        ge=-1,
        description=(
            "Frames between deep updates of the sensory memory. -1 updates with every memory frame."
        ),
    )
    top_k: int = Field(30, ge=1, description="Memory elements that a position reads from.")
    enable_long_term: bool = Field(
        True,
        description=("Condense old frames into prototypes. Without it every memory frame stays."),
    )
    enable_long_term_count_usage: bool | None = Field(
        None,
        description=(
            "Evict the least-used prototypes. Null decides by the length of the "
            "video, and evicts if the length is unknown."
        ),
    )
    max_mid_term_frames: int = Field(
        10, ge=2, description="Frames in the working memory that start a consolidation."
    )
    min_mid_term_frames: int = Field(
        5, ge=1, description="Frames that stay in the working memory after a consolidation."
    )
    num_prototypes: int = Field(128, ge=1, description="Elements that a consolidation keeps.")
    max_long_term_elements: int = Field(10000, ge=1, description="Limit of the long-term memory.")
    late_groups: Literal["faithful", "fixed"] = Field(
        "faithful",
        description=(
            "`faithful` pairs the values of late objects with the last keys, as "
            "published. `fixed` pairs them with their own keys."
        ),
    )

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
