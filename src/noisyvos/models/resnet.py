"""ResNet trunks in torchvision's layout and names, with batch-norm statistics that never move.

He et al., Deep Residual Learning (CVPR 2016); the stride sits on the 3x3 convolution of the bottleneck (torchvision's
version 1.5). Fine-tuning video segmentation networks keeps the running statistics of the pretrained trunk, so the
normalisation here is the same in train() and eval().
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FrozenStatisticsNorm(nn.BatchNorm2d):
    """Batch normalisation by the stored statistics, whatever the mode; scale and shift are trained."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


class FrozenNorm(nn.Module):
    """Batch normalisation by stored numbers, none of which is a parameter."""

    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (
            ("weight", 1.0),
            ("bias", 0.0),
            ("running_mean", 0.0),
            ("running_var", 1.0),
        ):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


Norm = Callable[[int], nn.Module]  # number of channels -> normalisation


def _shortcut(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet-18)."""

    expansion = 1

    def __init__(
        self, inputs: int, width: int, stride: int, norm: Norm = FrozenStatisticsNorm
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = norm(width)
        self.downsample = _shortcut(inputs, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, width, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut (ResNet-50)."""

    expansion = 4

    def __init__(
        self, inputs: int, width: int, stride: int, norm: Norm = FrozenStatisticsNorm
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = norm(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 4 * width, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def stage(
    block: type[BasicBlock] | type[Bottleneck],
    inputs: int,
    width: int,
    count: int,
    stride: int,
    norm: Norm = FrozenStatisticsNorm,
) -> nn.Sequential:
    """Return one stage of `count` blocks, the first of which strides."""
    outputs = width * block.expansion
    return nn.Sequential(
        block(inputs, width, stride, norm),
        *(block(outputs, width, 1, norm) for _ in range(count - 1)),
    )


def stem_convolution(channels: int) -> nn.Conv2d:
    """Return the 7x7 stride-2 first convolution for `channels` input planes."""
    return nn.Conv2d(channels, 64, 7, 2, 3, bias=False)


def initialise(trunk: nn.Module) -> None:
    """Draw the convolutions as torchvision does (He normal, fan out)."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
