"""Faster twins of XMem's blocks for one video at inference.

They apply ReLU and add shortcuts while a convolution writes, and do the image's share of a
convolution once for all objects.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.fast import Replacements, prepare
from noisyvos.models.fast.convolutions import fold, fuse, winograd_pays
from noisyvos.models.fast.winograd import Winograd
from noisyvos.models.xmem.blocks import FeatureFusion, GroupResidualBlock, flat, spread
from noisyvos.models.xmem.decoder import UpsampleBlock
from noisyvos.models.xmem.encoders import (
    KeyFeatures,
    ResNetKeyEncoder,
    ResNetValueEncoder,
    ValueEncoder,
)


class FastGroupResidualBlock(nn.Module):
    """The twin of a residual block without normalisation."""

    def __init__(self, block: GroupResidualBlock, half: torch.dtype | None = None) -> None:
        super().__init__()
        self.conv1, self.conv2 = fuse(block.conv1, half), fuse(block.conv2, half)
        self.downsample = None if block.downsample is None else fuse(block.downsample, half)

    @classmethod
    def of(cls, block: GroupResidualBlock, half: torch.dtype | None = None) -> Self | None:
        """Return the twin of a block; None if it is normalised or too small for a twin to pay."""
        normalised = not isinstance(block.norm1, nn.Identity)
        return None if normalised or not pays(block.conv2, half) else cls(block, half)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.conv2(self.conv1(F.relu(x), relu=True), plus=shortcut)


def pays(layer: nn.Conv2d, half: torch.dtype | None) -> bool:
    """Return whether the twin of a block with this layer is faster; on a CPU in float32, by
    Winograd's algorithm.
    """
    plain_cpu = half is None and layer.weight.device.type == "cpu"
    return winograd_pays(layer) if plain_cpu else True


class FastFeatureFusion(nn.Module):
    """The twin of a fusion whose first convolutions split into shares of the image and of objects.

    Both are linear in their joined inputs.
    """

    def __init__(
        self, fusion: FeatureFusion, first: FastGroupResidualBlock, second: FastGroupResidualBlock
    ) -> None:
        super().__init__()
        self.block1, self.block2, self.attention = first, second, fusion.attention
        assert first.downsample is not None
        self.shares = tuple(each.split(fusion.image) for each in (first.conv1, first.downsample))

    @classmethod
    def of(cls, fusion: FeatureFusion, half: torch.dtype | None = None) -> Self | None:
        """Return the twin of a fusion; None if it does not pay."""
        blocks = [FastGroupResidualBlock.of(each, half) for each in (fusion.block1, fusion.block2)]
        first, second = blocks
        if first is None or second is None or first.downsample is None:
            return None
        return cls(fusion, first, second)

    def forward(self, image: Tensor, group: Tensor) -> Tensor:
        """Map (B, image, H, W) and (B, N, group, H, W) to (B, N, outputs, H, W)."""
        batch, objects = group.shape[:2]
        # Winograd's algorithm gains from the split even for one object: it joins no inputs.
        if batch == 1 and (objects > 1 or isinstance(self.block1.conv1, Winograd)):
            u = self._joined(image, group[0])
        else:
            u = self.block1(torch.cat([spread(image, objects), flat(group)], 1))
        return self.block2(u + self.attention(u)).unflatten(0, (batch, objects))

    def _joined(self, image: Tensor, group: Tensor) -> Tensor:
        """Map image features (1, C, H, W), joined with those of each of N objects, to (N, ...)."""
        (conv_image, conv_group), (short_image, short_group) = self.shares
        y = conv_group(F.relu(group), relu=True, plus=conv_image(F.relu(image)))
        return self.block1.conv2(y, plus=short_group(group, plus=short_image(image)))


def say_channels_last(x: Tensor) -> Tensor:
    """Return (1, C, H, W) in channels last with the strides by which PyTorch recognises that.

    Views of one object have any stride in the first axis. Interpolation then takes the other
    layout, in which it and the sum after it take five times as long.
    """
    if len(x) > 1 or x.stride(1) != 1:
        return x
    return x.as_strided(x.shape, (x.shape[2] * x.stride(2), *x.stride()[1:]))


class FastUpsampleBlock(nn.Module):
    """The twin of an upsampling block, which adds the image's skip features by broadcasting."""

    def __init__(
        self,
        block: UpsampleBlock,
        out_conv: FastGroupResidualBlock,
        half: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.skip_conv, self.out_conv = fuse(block.skip_conv, half), out_conv

    @classmethod
    def of(cls, block: UpsampleBlock, half: torch.dtype | None = None) -> Self | None:
        """Return the twin of a block; None if it does not pay."""
        out_conv = FastGroupResidualBlock.of(block.out_conv, half)
        if out_conv is None or not pays(block.skip_conv, half):
            return None
        return cls(block, out_conv, half)

    def forward(self, skip: Tensor, group: Tensor) -> Tensor:
        """Map (B, skip, 2H, 2W) and (B, N, inputs, H, W) to (B, N, outputs, 2H, 2W)."""
        batch, objects = group.shape[:2]
        coarse = say_channels_last(flat(group))
        up = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        added = self.skip_conv(skip)
        joined = up + (added if batch == 1 else spread(added, objects))
        return self.out_conv(joined).unflatten(0, (batch, objects))


BLOCKS: Replacements = {
    GroupResidualBlock: FastGroupResidualBlock.of,
    FeatureFusion: FastFeatureFusion.of,
    UpsampleBlock: FastUpsampleBlock.of,
}


class FastKeyEncoder(nn.Module):
    """The twin of the key encoder, whose first convolution normalises and rectifies."""

    def __init__(self, encoder: ResNetKeyEncoder, half: torch.dtype | None = None) -> None:
        super().__init__()
        self.stem = fold(encoder.conv1, encoder.bn1, half)
        self.stages = nn.ModuleList(
            prepare(stage, BLOCKS, half) for stage in (encoder.res2, encoder.layer2, encoder.layer3)
        )

    def forward(self, frames: Tensor) -> KeyFeatures:
        """Map normalised frames (B, 3, H, W) to features at strides 16, 8 and 4."""
        res2, layer2, layer3 = self.stages
        fine = res2(F.max_pool2d(self.stem(frames, relu=True), 3, 2, 1))
        middle = layer2(fine)
        return KeyFeatures(layer3(middle), middle, fine)


class FastValueEncoder(ValueEncoder):
    """The twin of the value encoder: a first convolution like that, and channels last."""

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module

    def __init__(self, encoder: ResNetValueEncoder, half: torch.dtype | None = None) -> None:
        super().__init__(encoder.single_object)
        self.stem = fold(encoder.conv1, encoder.bn1, half)
        for name in ("layer1", "layer2", "layer3", "fuser", "hidden_reinforce"):
            if hasattr(encoder, name):
                setattr(self, name, prepare(getattr(encoder, name), BLOCKS, half))

    def object_features(self, planes: Tensor) -> Tensor:
        """Map (B * N, 4 or 5, H, W) to (B * N, 256, H / 16, W / 16)."""
        planes = planes.contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(self.stem(planes, relu=True), 3, 2, 1)
        return self.layer3(self.layer2(self.layer1(x)))


NETWORK: Replacements = {
    **BLOCKS,
    ResNetKeyEncoder: FastKeyEncoder,
    ResNetValueEncoder: FastValueEncoder,
}
