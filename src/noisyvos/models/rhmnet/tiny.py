"""A small RHMNet for CPU runs: same layers and memory, a quarter as wide, small trunk at stride
4.
"""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.base import MODELS
from noisyvos.models.resnet import SmallBlock, small_norm
from noisyvos.models.rhmnet.convolutions import FrameFeatures
from noisyvos.models.rhmnet.network import RHMNet
from noisyvos.models.rhmnet.settings import RHMNetSettings, Sizes


class RHMNetTinySettings(RHMNetSettings):
    """The training pass of the small network, on frames much smaller than the published 384
    pixels.
    """

    dropout: float = Field(
        0.0, description="Dropout of the transformer layers. The small network trains without."
    )
    ignore_band: int = Field(
        9,
        description=(
            "Side of the square around a scribble in which the region loss ignores pixels."
        ),
    )
    # Where tokens come from: `last`, as published, is the trunk's output; `early`, our change, is
    # the output of the last stage's first block (see `xmem_tiny`).
    key_stage: Literal["last", "early"] = Field(
        "last",
        description=(
            "Where tokens come from. `last` is the encoder's output, as published. "
            "`early` is the first block of its last stage, which sees 33 pixels "
            "instead of 49."
        ),
    )
    # Whether queries and keys of memory reads start from the same weights, SHARPNESS times as large
    # as drawn. As published, they are drawn apart: every place then reads the mean of the memory,
    # and a short training from scratch never learns where to look.
    same_start: bool = Field(
        False,
        description=(
            "Start queries and keys of memory reads from the same weights, so that a "
            "place first reads what looks like it."
        ),
    )
    # Size of the initial position embeddings as a share of the published one. On small frames the
    # network otherwise learns where objects were instead of what they look like.
    position_share: float = Field(
        1.0,
        ge=0,
        description="Size of the initial position embeddings as a share of the published one.",
    )


SHARPNESS = 2.0


class TinyBackbone(nn.Module):
    """A frame to features at strides 2, 4 and 4.

    Labels of memory entries are means over deep cells, so an object needs several cells: at stride
    16, as published, one of 384-pixel frames has some 6 x 6, at stride 4 one of small frames 4 x 4.
    """

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        fine, middle, deep = channels
        self.conv = nn.Conv2d(3, fine, 5, 2, 2, bias=False)
        self.norm = small_norm(fine)
        self.layer1 = SmallBlock(fine, middle, 2)
        self.layer2 = nn.Sequential(SmallBlock(middle, deep, 1), SmallBlock(deep, deep, 1))

    def stages(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return fine, middle and deep features, and those of the last stage's first block."""
        fine = F.relu(self.norm(self.conv(frames)))
        middle = self.layer1(fine)
        early = self.layer2[0](middle)
        return fine, middle, self.layer2[1](early), early

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map normalised frames (N, 3, H, W) to fine, middle and deep features."""
        return self.stages(frames)[:3]


@MODELS.register("rhmnet_tiny", RHMNetTinySettings)
class RHMNetTiny(RHMNet):
    """RHMNet's computation with well under a million parameters.

    Regions are predicted at half resolution.
    """

    settings: RHMNetTinySettings
    backbone: TinyBackbone
    sizes: ClassVar[Sizes] = Sizes(
        features=(16, 32, 64), stride=4, cell=2, width=64, heads=4, inner=128, side=24
    )

    def __init__(self, settings: RHMNetTinySettings) -> None:
        super().__init__(settings)
        if settings.same_start:
            for layer in self.transformer.layers:
                query, key, _ = layer.cross_attn.in_proj_weight.detach().chunk(3)
                key.copy_(query.mul_(SHARPNESS))
        for table in (self.position_embedding.row_embed, self.position_embedding.col_embed):
            table.weight.detach().mul_(settings.position_share)

    def make_backbone(self) -> TinyBackbone:
        """Return the small trunk."""
        return TinyBackbone(self.sizes.features)

    def look(self, frames: Tensor) -> FrameFeatures:
        """Return the features of normalised frames, with tokens from `key_stage`."""
        fine, middle, deep, early = self.backbone.stages(frames)
        tokens = self.bottleneck(early if self.settings.key_stage == "early" else deep)
        return FrameFeatures(fine, middle, deep, tokens.flatten(2).mT)
