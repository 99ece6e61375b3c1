"""ResNeSt-101 up to stride 16 (Zhang et al. 2020, "ResNeSt: Split-Attention Networks"), with the names of its authors' code.

Two splits, one group; three small convolutions as a stem; blocks stride by an average pool after their 3x3 convolution, and
shortcuts by one before theirs. Batch normalisation keeps its stored statistics, as everywhere here.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.resnet import FrozenStatisticsNorm
from noisyvos.models.stm_parts.encoders import Trunk

RADIX = 2
EXPANSION = 4
STEM = 64  # channels within the stem; twice as many come out


class SplitAttention(nn.Module):
    """A 3x3 convolution to `RADIX` splits, joined with weights that depend on their sum's mean (section 3.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(32, width * RADIX // 4)
        self.conv = nn.Conv2d(width, width * RADIX, 3, padding=1, groups=RADIX, bias=False)
        self.bn0 = FrozenStatisticsNorm(width * RADIX)
        self.fc1 = nn.Conv2d(width, inner, 1)
        self.bn1 = FrozenStatisticsNorm(inner)
        self.fc2 = nn.Conv2d(inner, width * RADIX, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, H, W) to the same shape."""
        splits = F.relu(self.bn0(self.conv(x))).unflatten(1, (RADIX, -1))  # (N, RADIX, width, H, W)
        mean = splits.sum(1).mean((2, 3), keepdim=True)
        weights = self.fc2(F.relu(self.bn1(self.fc1(mean)))).unflatten(1, (RADIX, -1))
        return (splits * torch.softmax(weights, 1)).sum(1)


class Block(nn.Module):
    """1x1 convolution, split attention, 1x1 convolution and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = FrozenStatisticsNorm(width)
        self.conv2 = SplitAttention(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = FrozenStatisticsNorm(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
            self.downsample = nn.Sequential(
                pool, nn.Conv2d(inputs, outputs, 1, bias=False), FrozenStatisticsNorm(outputs)
            )
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, 4 * width, H / stride, W / stride)."""
        y = self.conv2(F.relu(self.bn1(self.conv1(x))))
        if self.stride > 1:
            y = F.avg_pool2d(y, 3, self.stride, 1)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def _stage(inputs: int, width: int, count: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        Block(inputs, width, stride),
        *(Block(EXPANSION * width, width, 1) for _ in range(count - 1)),
    )


def _stem(planes: int) -> nn.Module:
    """Return the deep stem of a picture, or the single convolution that STM gives a mask."""
    if planes == 1:
        return nn.Conv2d(1, 2 * STEM, 7, 2, 3, bias=False)
    return nn.Sequential(
        nn.Conv2d(planes, STEM, 3, 2, 1, bias=False),
        FrozenStatisticsNorm(STEM),
        nn.ReLU(),
        nn.Conv2d(STEM, STEM, 3, 1, 1, bias=False),
        FrozenStatisticsNorm(STEM),
        nn.ReLU(),
        nn.Conv2d(STEM, 2 * STEM, 3, 1, 1, bias=False),
    )


def resnest101_trunk(key: int, value: int) -> Trunk:
    """Return the first three stages of ResNeSt-101, whose decoder adds to rectified inputs (its ReLU was in place)."""
    return Trunk(
        stem=_stem,
        first=2 * STEM,
        norm=FrozenStatisticsNorm,
        pool=True,
        stages=(
            partial(_stage, 2 * STEM, 64, 3, 1),
            partial(_stage, 256, 128, 4, 2),
            partial(_stage, 512, 256, 23, 2),
        ),
        features=(1024, 512, 256),
        stride=16,
        key=key,
        value=value,
        decoder=256,
        rectified=True,
    )
