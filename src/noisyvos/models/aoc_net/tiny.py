"""A small AOC-Net for CPU runs: the same matching and decoder, an eighth as wide, on a small
backbone.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.aoc_net.deeplab import Backbone
from noisyvos.models.aoc_net.network import AOCNet
from noisyvos.models.aoc_net.settings import AOCNetSettings, Sizes
from noisyvos.models.base import MODELS
from noisyvos.models.resnet import SmallBlock, small_norm

LOW, WIDTH = 32, 64  # channels at strides 4 and 8


class AOCNetTinySettings(AOCNetSettings):
    """The training pass of the small network; it is trained from scratch."""

    # from scratch, the first predicted masks are useless as a previous frame's
    previous_mask: Literal["given", "predicted", "halves"] = Field(
        "halves",
        description="Mask of the previous frame in training (see AOC-Net's `previous_mask`).",
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout. The small network trains without."
    )
    # Initial scale of the embedding's last normalisation; published: 1. Squared distances of random
    # embeddings are far above 1, where the maps, which end at 1, have no slope.
    embedding_scale: float = Field(
        1.0, gt=0, description="Initial scale of the embedding's last normalisation. Published: 1."
    )


class TinyDeepLab(Backbone):
    """A stem and two residual blocks to stride 8, and DeepLab's way back to stride 4.

    An embedding sees 49 pixels. One more block, or wider convolutions on the way back, would show
    it most of a frame of 48 pixels (see `key_stage` of `xmem_tiny`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 5, 2, 2, bias=False)
        self.norm1 = small_norm(16)
        self.layer1 = SmallBlock(16, LOW, 2)
        self.layer2 = SmallBlock(LOW, WIDTH, 2)
        self.join = nn.Conv2d(LOW + WIDTH, WIDTH, 1, bias=False)
        self.norm2 = small_norm(WIDTH)

    def forward(self, frames: Tensor, drop: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map normalised frames (B, 3, H, W) to features and low-level features at stride 4.

        drop: factors on the deepest features, dropout in training.
        """
        low = self.layer1(F.relu(self.norm1(self.conv1(frames))))
        deep = self.layer2(low)
        deep = deep if drop is None else deep * drop
        deep = F.interpolate(deep, low.shape[2:], mode="bilinear", align_corners=True)
        return F.relu(self.norm2(self.join(torch.cat([deep, low], 1)))), low

    def context_shape(self, frames: Tensor) -> tuple[int, int, int, int]:
        """Return the shape of the deepest features for frames (B, 3, H, W)."""
        sides = [-(-side // 8) for side in frames.shape[2:]]
        return len(frames), WIDTH, sides[0], sides[1]


@MODELS.register("aoc_net_tiny", AOCNetTinySettings)
class AOCNetTiny(AOCNet):
    """AOC-Net's computation with about 0.4 million parameters and two local windows."""

    sizes: ClassVar[Sizes] = Sizes(
        low=LOW,
        features=WIDTH,
        embedding=32,
        embedding_groups=4,
        prehead=16,
        decoder=32,
        windows=(4, 2),
    )

    def __init__(self, settings: AOCNetTinySettings) -> None:
        super().__init__(settings)
        nn.init.constant_(self.bn2.weight, settings.embedding_scale)

    def make_backbone(self) -> TinyDeepLab:
        """Return the small backbone."""
        return TinyDeepLab()
