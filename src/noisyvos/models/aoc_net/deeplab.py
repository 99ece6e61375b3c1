"""AOC-Net's backbone: DeepLabV3+ on ResNet-101 at output stride 16 (Chen et al., ECCV 2018).

Its normalisation is frozen.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models import resnet
from noisyvos.models.resnet import FrozenNorm

BLOCKS = (3, 4, 23)  # of the first three stages
MULTI_GRID = (2, 4, 8)  # dilations of the last stage's blocks


def multi_grid_stage() -> nn.Sequential:
    """Return the last stage, whose blocks have the dilations of the multi-grid instead of a
    stride.
    """
    inputs = (1024, 2048, 2048)
    return nn.Sequential(
        *(
            resnet.Bottleneck(channels, 512, 1, FrozenNorm, dilation)
            for channels, dilation in zip(inputs, MULTI_GRID, strict=True)
        )
    )


class ResNet101(nn.Module):
    """A frame to features at strides 4 and 16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = resnet.stem_convolution(3)
        self.bn1 = FrozenNorm(64)
        self.layer1 = resnet.stage(resnet.Bottleneck, 64, 64, BLOCKS[0], 1, FrozenNorm)
        self.layer2 = resnet.stage(resnet.Bottleneck, 256, 128, BLOCKS[1], 2, FrozenNorm)
        self.layer3 = resnet.stage(resnet.Bottleneck, 512, 256, BLOCKS[2], 2, FrozenNorm)
        self.layer4 = multi_grid_stage()
        resnet.initialise(self)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised frames (B, 3, H, W) to low-level and deep features.

        (B, 256, H / 4, W / 4) and (B, 2048, H / 16, W / 16).
        """
        low = self.layer1(F.max_pool2d(F.relu(self.bn1(self.conv1(frames))), 3, 2, 1))
        return low, self.layer4(self.layer3(self.layer2(low)))


class _DilatedBranch(nn.Module):
    def __init__(self, dilation: int) -> None:
        super().__init__()
        size, pad = (1, 0) if dilation == 1 else (3, dilation)
        self.atrous_conv = nn.Conv2d(2048, 256, size, 1, pad, dilation, bias=False)
        self.bn = FrozenNorm(256)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.atrous_conv(x)))


class _Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.aspp1, self.aspp2, self.aspp3, self.aspp4 = map(_DilatedBranch, (1, 6, 12, 18))
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(2048, 256, 1, bias=False), FrozenNorm(256), nn.ReLU()
        )
        self.conv1 = nn.Conv2d(1280, 256, 1, bias=False)
        self.bn1 = FrozenNorm(256)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.global_avg_pool(x).expand(-1, -1, *x.shape[2:])
        branches = [self.aspp1(x), self.aspp2(x), self.aspp3(x), self.aspp4(x), pooled]
        return F.relu(self.bn1(self.conv1(torch.cat(branches, 1))))


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(256, 48, 1, bias=False)
        self.bn1 = FrozenNorm(48)
        inner = [
            nn.Conv2d(304, 256, 3, 1, 1, bias=False),
            FrozenNorm(256),
            nn.ReLU(),
            nn.Identity(),
        ]
        self.last_conv = nn.Sequential(
            *inner, nn.Conv2d(256, 256, 3, 1, 1, bias=False), FrozenNorm(256), nn.ReLU()
        )

    def forward(self, low: Tensor, deep: Tensor) -> Tensor:
        deep = F.interpolate(deep, low.shape[2:], mode="bilinear", align_corners=True)
        return self.last_conv(torch.cat([deep, F.relu(self.bn1(self.conv1(low)))], 1))


class Backbone(nn.Module, ABC):
    """What maps frames to features and low-level features at stride 4."""

    @abstractmethod
    def forward(self, frames: Tensor, drop: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map normalised frames (B, 3, H, W) to features and low-level features, (B, C, h, w) each.

        drop: factors on the deepest features, dropout in training.
        """

    @abstractmethod
    def context_shape(self, frames: Tensor) -> tuple[int, int, int, int]:
        """Return the shape of the deepest features for frames (B, 3, H, W)."""


class DeepLab(Backbone):
    """Features of a frame at stride 4, and the low-level features that the video decoder takes as
    well.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResNet101()
        self.aspp = _Pyramid()
        self.decoder = _Decoder()
        for part in (self.aspp, self.decoder):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight)

    def forward(self, frames: Tensor, drop: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map normalised frames (B, 3, H, W) to features and low-level features, both (B, 256, h,
        w) at stride 4.

        drop: factors (B, 256, h', w') on the pyramid's output, dropout in training.
        """
        low, deep = self.backbone(frames)
        context = self.aspp(deep)
        return self.decoder(low, context if drop is None else context * drop), low

    def context_shape(self, frames: Tensor) -> tuple[int, int, int, int]:
        """Return the shape of the pyramid's output for frames (B, 3, H, W)."""
        sides = [-(-side // 16) for side in frames.shape[2:]]
        return len(frames), 256, sides[0], sides[1]
