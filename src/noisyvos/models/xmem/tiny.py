"""A small XMem for CPU runs: the same matching, memory and decoder around small encoders at stride 8."""

from typing import Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.base import MODELS
from noisyvos.models.small import ResidualBlock, norm
from noisyvos.models.xmem.encoders import Features, ValueEncoder, Widths
from noisyvos.models.xmem.network import XMem, XMemSettings


class XMemTinySettings(XMemSettings):
    """Size of the small network; trained from scratch."""

    key_dim: int = Field(32, ge=1)
    value_dim: int = Field(64, ge=16)
    hidden_dim: int = Field(
        0, ge=0
    )  # a sensory memory costs time and, in clips of three frames, learns nothing that helps
    width: int = Field(
        16, ge=8, multiple_of=8
    )  # channels at half resolution; doubled at each further halving


def _add_trunk(module: nn.Module, inputs: int, width: int) -> None:
    module.conv1 = nn.Conv2d(inputs, width, 5, 2, 2, bias=False)
    module.norm1 = norm(width)
    module.layer1 = ResidualBlock(width, 2 * width, 2)
    module.layer2 = nn.Sequential(
        ResidualBlock(2 * width, 4 * width, 2), ResidualBlock(4 * width, 4 * width, 1)
    )


class TinyKeyEncoder(nn.Module):
    """A stem and three residual blocks to stride 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        _add_trunk(self, 3, width)

    def forward(self, frames: Tensor) -> Features:
        """Map normalised frames (B, 3, H, W) to features at strides 8, 4 and 2."""
        fine = F.relu(self.norm1(self.conv1(frames)))
        middle = self.layer1(fine)
        return Features(self.layer2(middle), middle, fine)


class TinyValueEncoder(ValueEncoder):
    """The same trunk with one or two mask planes after RGB."""

    def __init__(self, width: int, widths: Widths, single_object: bool) -> None:
        super().__init__(single_object)
        _add_trunk(self, 4 if single_object else 5, width)
        self.add_head(widths)

    def object_features(self, planes: Tensor) -> Tensor:
        """Map (B * N, 4 or 5, H, W) to (B * N, 4 * width, H / 8, W / 8)."""
        return self.layer2(self.layer1(F.relu(self.norm1(self.conv1(planes)))))


@MODELS.register("xmem_tiny", XMemTinySettings)
class XMemTiny(XMem):
    """XMem's computation with about 0.8 million parameters."""

    memory_format = torch.channels_last

    def __init__(self, settings: XMemTinySettings) -> None:
        super().__init__(settings)
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def choose_widths(settings: XMemTinySettings) -> Widths:
        """Return the channel counts."""
        width = settings.width
        return Widths(
            key=settings.key_dim,
            value=settings.value_dim,
            hidden=settings.hidden_dim,
            features=(4 * width, 2 * width, width),
            value_features=4 * width,
            decoder=(3 * width, 3 * width // 2, 3 * width // 2),
            hidden_inner=3 * width,
            reduction=8,
            stride=8,
            normalised=True,
        )

    def for_inference(self) -> Self:
        """Return the network itself: nothing in it can be folded, and its convolutions are small."""
        return self

    def make_key_encoder(self) -> nn.Module:
        """Return the small trunk that maps frames to `Features`."""
        return TinyKeyEncoder(self.settings.width)

    def make_value_encoder(self) -> ValueEncoder:
        """Return the small trunk and head that map frames and masks to values."""
        return TinyValueEncoder(self.settings.width, self.widths, self.settings.single_object)
