"""Recipes of synthetic clips: their registry, what all settings share, and those of the published COCO recipe."""

from dataclasses import dataclass

from pydantic import Field

from noisyvos.registry import Registry, Settings

RECIPES = Registry("synth recipe", "noisyvos.synth.kinds")

PUBLISHED_CROP = 384


@dataclass(frozen=True)
class Lengths:
    """The lengths of the recipe in pixels (areas in square pixels) at one crop size."""

    crop: int
    base: int  # shorter side of the background image
    instance_area: float  # an instance of the image itself needs this many pixels
    box_area: float  # an object to paste needs a bounding box of this area
    object_area: float  # an object of the clip needs more pixels than this in frame 1
    motion: tuple[int, int]  # most a pasted object moves from frame to frame, x and y


class SeriesSettings(Settings):
    """What every recipe says of its clips, which have three frames."""

    clips: int = Field(ge=1, description="Clips to write.")
    crop: int = Field(
        PUBLISHED_CROP, ge=16, multiple_of=8, description="Side of the square frames in pixels."
    )
    shard: int = Field(500, ge=1, description="Clips in one zip.")


class ClipSettings(SeriesSettings):
    """Three-frame clips from COCO-format images (Xie et al., STM training; VISOR-VOS stage 1).

    At `crop` 384 every length is the published one; at another crop all scale with crop / 384, areas with its square.
    """

    max_objects: int = Field(
        5, ge=1, le=10, description="Most objects of a clip; more are sampled down."
    )
    max_instances: int = Field(
        19,
        ge=1,
        le=19,
        description="Most instances an image may bring itself; the published code fails at 20.",
    )
    symmetric_motion: bool = Field(
        False,
        description="Let pasted objects move left and up as well; published: right and down only.",
    )

    def lengths(self) -> Lengths:
        """Return the lengths at this crop."""
        scale = self.crop / PUBLISHED_CROP
        area = scale * scale
        motion = (max(1, round(40 * scale)), max(1, round(20 * scale)))
        return Lengths(self.crop, round(480 * scale), 2000 * area, 3000 * area, 350 * area, motion)
