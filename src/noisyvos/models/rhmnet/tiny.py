"""A small RHMNet for CPU runs: same layers and memory, a quarter as wide, small trunk at stride
8.
"""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.base import MODELS
from noisyvos.models.resnet import SmallBlock, small_norm
from noisyvos.models.rhmnet.network import RHMNet
from noisyvos.models.rhmnet.settings import RHMNetSettings, Sizes


class RHMNetTinySettings(RHMNetSettings):
    """The training pass of the small network, on frames much smaller than the published 384
    pixels.
    """

    dropout: float = 0.0  # a short training underfits, so dropout would only hurt
    ignore_band: int = 9


class TinyBackbone(nn.Module):
    """A frame to features at strides 2, 4 and 8."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        fine, middle, deep = channels
        self.conv = nn.Conv2d(3, fine, 5, 2, 2, bias=False)
        self.norm = small_norm(fine)
        self.layer1 = SmallBlock(fine, middle, 2)
        self.layer2 = nn.Sequential(SmallBlock(middle, deep, 2), SmallBlock(deep, deep, 1))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map normalised frames (N, 3, H, W) to fine, middle and deep features."""
        fine = F.relu(self.norm(self.conv(frames)))
        middle = self.layer1(fine)
        return fine, middle, self.layer2(middle)


@MODELS.register("rhmnet_tiny", RHMNetTinySettings)
class RHMNetTiny(RHMNet):
    """RHMNet's computation with well under a million parameters.

    Regions are predicted at half resolution.
    """

    sizes: ClassVar[Sizes] = Sizes(
        features=(16, 32, 64), stride=8, width=64, heads=4, inner=128, side=24
    )

    def make_backbone(self) -> nn.Module:
        """Return the small trunk."""
        return TinyBackbone(self.sizes.features)
