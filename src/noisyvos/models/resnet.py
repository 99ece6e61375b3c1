"""Residual networks: ResNet trunks in torchvision's layout and names, and small blocks for CPU
runs.

He et al., Deep Residual Learning (CVPR 2016). The stride of a bottleneck is on its 3x3 convolution
(torchvision's version 1.5). Published training of video segmentation networks keeps the batch-norm
statistics of the pretrained trunk, so normalisation is the same in train() and eval().
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FrozenStatisticsNorm(nn.BatchNorm2d):
    """Batch normalisation with the stored statistics in every mode; scale and shift are trained."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


class FrozenNorm(nn.Module):
    """Batch normalisation with stored statistics, scale and shift; it has no parameters."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


Norm = Callable[[int], nn.Module]  # number of channels -> normalisation


def _shortcut(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Sequential | None:
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
        self,
        inputs: int,
        width: int,
        stride: int,
        norm: Norm = FrozenStatisticsNorm,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
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
    """Return one stage of `count` blocks; the first block applies the stride."""
    outputs = width * block.expansion
    return nn.Sequential(
        block(inputs, width, stride, norm),
        *(block(outputs, width, 1, norm) for _ in range(count - 1)),
    )


def stem_convolution(channels: int) -> nn.Conv2d:
    """Return the 7x7 stride-2 first convolution for `channels` input planes."""
    return nn.Conv2d(channels, 64, 7, 2, 3, bias=False)


def initialise(trunk: nn.Module) -> None:
    """Draw all convolutions as torchvision does (He normal, fan out)."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def small_norm(channels: int) -> nn.GroupNorm:
    """Return a normalisation that needs neither a pretrained trunk nor a large batch.

    Groups have 8 channels where the channels divide evenly.
    """
    return nn.GroupNorm(math.gcd(channels, channels // 8), channels)


class SmallBlock(nn.Module):
    """Two 3x3 convolutions with group normalisation, and a shortcut (networks for CPU runs)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = small_norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = small_norm(outputs)
        self.stride = stride
        self.downsample = (
            nn.Conv2d(inputs, outputs, 1) if stride != 1 or inputs != outputs else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.downsample is not None:
            # The same bits as with the convolution's own stride, whose backward pass crashes on
            # some CPUs where the input has 8 channels, stored last.
            x = self.downsample(x[..., :: self.stride, :: self.stride])
        return F.relu(y + x)


def use_channels_last(network: nn.Module) -> None:
    """Store all convolution weights with channels last, which CPUs convolve faster."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # no stub for it
