"""The head that turns an object's tokens into logits; region predictor and segmentor share its form."""

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.rhmnet.backbone import Features

GROUPS = 8


@dataclass(frozen=True)
class Sizes:
    """Channel counts that the head, the transformer and the position embedding are built with."""

    features: tuple[int, int, int] = (256, 512, 1024)  # fine, middle, deep
    width: int = 256  # of tokens
    heads: int = 8
    inner: int = 1024  # of the layers between attention
    side: int = 24  # of the grid of learned positions


class ConvNorm(nn.Module):
    """A convolution and a group normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.norm = nn.GroupNorm(GROUPS, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W) and keep what is positive."""
        return F.relu(self.norm(self.conv(x)))


class Head(nn.Module):
    """Tokens of an object to logits at the size of the fine features, with the frame's features as they get finer."""

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
        """Let the head start from a probability of 0.01 everywhere."""
        nn.init.constant_(self.conv_out.bias, -math.log(99))

    def forward(self, tokens: Tensor, features: Features) -> Tensor:
        """Map tokens (B * K, h * w, C) of K objects of each of B frames to logits (B * K, outputs, 4h, 4w)."""
        x = self.conv_in(tokens.mT.unflatten(2, features.grid))
        x = self.conv_8x(
            _plus(
                _resized(self.conv_16x(_plus(x, self.adapter_16x(features.deep))), features.middle),
                self.adapter_8x(features.middle),
            )
        )
        return self.conv_out(
            self.conv_4x(_plus(_resized(x, features.fine), self.adapter_4x(features.fine)))
        )


def _plus(x: Tensor, frames: Tensor) -> Tensor:
    """Add what was made of B frames to all K objects of each."""
    return (x.unflatten(0, (len(frames), -1)) + frames.unsqueeze(1)).flatten(0, 1)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)
