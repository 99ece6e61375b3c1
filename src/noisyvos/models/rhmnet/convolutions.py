"""RHMNet's convolutional parts: the trunk, and the heads that turn an object's tokens into logits.

The trunk is ResNet-50 up to stride 16 with batch normalisation that is neither trained nor updated.
The region predictor and the segmentor are heads of the same form.
"""

import math
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models import resnet
from noisyvos.models.rhmnet.settings import Sizes

GROUPS = 8


@dataclass(frozen=True)
class FrameFeatures:
    """Features of N frames; `tokens` are a projection of the deep ones."""

    fine: Tensor  # (N, C, 4h, 4w)
    middle: Tensor  # (N, C, 2h, 2w)
    deep: Tensor  # (N, C, h, w)
    tokens: Tensor  # (N, h * w, C)

    @property
    def grid(self) -> tuple[int, int]:
        """The height and width of the deep features."""
        return self.deep.shape[-2], self.deep.shape[-1]

    def at(self, time: int, length: int) -> "FrameFeatures":
        """Return the features of frame `time` of every clip: rows are clips of `length` frames."""
        return FrameFeatures(
            *(getattr(self, name)[time::length] for name in ("fine", "middle", "deep", "tokens"))
        )


class Backbone(nn.Module):
    """A frame to features at strides 4, 8 and 16; `layer0` holds the first convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layer0 = nn.Sequential(resnet.stem_convolution(3), resnet.FrozenNorm(64))
        self.layer1 = resnet.stage(resnet.Bottleneck, 64, 64, 3, 1, resnet.FrozenNorm)
        self.layer2 = resnet.stage(resnet.Bottleneck, 256, 128, 4, 2, resnet.FrozenNorm)
        self.layer3 = resnet.stage(resnet.Bottleneck, 512, 256, 6, 2, resnet.FrozenNorm)
        resnet.initialise(self)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map normalised frames (N, 3, H, W) to fine, middle and deep features."""
        fine = self.layer1(F.max_pool2d(F.relu(self.layer0(frames)), 3, 2, 1))
        middle = self.layer2(fine)
        return fine, middle, self.layer3(middle)


class ConvNorm(nn.Module):
    """A convolution, a group normalisation and a ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.norm = nn.GroupNorm(GROUPS, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        return F.relu(self.norm(self.conv(x)))


class Head(nn.Module):
    """Tokens of an object to logits at the size of the fine features, with skips from the frame."""

    def __init__(self, sizes: Sizes, outputs: int) -> None:
        super().__init__()
        fine, middle, deep = sizes.features
        width, half = sizes.width, sizes.width // 2
        self.conv_in = ConvNorm(width, width, 1)
        self.conv_16x = ConvNorm(width, width, 3)
        self.conv_8x = ConvNorm(width, half, 3)
        self.conv_4x = ConvNorm(half, half, 3)
        self.adapter_16x = nn.Conv2d(deep, width, 1)
        self.adapter_8x = nn.Conv2d(middle, width, 1)
        self.adapter_4x = nn.Conv2d(fine, half, 1)
        self.conv_out = nn.Conv2d(half, outputs, 1)

    def start_rare(self) -> None:
        """Make the initial probability 0.01 everywhere."""
        nn.init.constant_(cast(Tensor, self.conv_out.bias), -math.log(99))

    def forward(self, tokens: Tensor, features: FrameFeatures) -> Tensor:
        """Map tokens (B * K, h * w, C) of K objects of each of B frames to logits (B * K,
        outputs, 4h, 4w).
        """
        fine, middle, deep = features.fine, features.middle, features.deep
        x = self.conv_in(tokens.mT.unflatten(2, features.grid))
        x = self.conv_16x(_plus(x, self.adapter_16x(deep)))
        x = self.conv_8x(_plus(_resized(x, middle), self.adapter_8x(middle)))
        return self.conv_out(self.conv_4x(_plus(_resized(x, fine), self.adapter_4x(fine))))


def _plus(x: Tensor, frames: Tensor) -> Tensor:
    """Add features of B frames to those of all K objects of each frame."""
    return (x.unflatten(0, (len(frames), -1)) + frames.unsqueeze(1)).flatten(0, 1)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)
