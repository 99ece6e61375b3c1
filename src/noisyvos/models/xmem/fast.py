"""Faster twins of XMem's blocks for one video at inference.

They apply ReLU and add shortcuts while a convolution writes, and do the image's share of a
convolution once for all objects.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.fast import Replacements
from noisyvos.models.fast.convolutions import fuse, winograd_pays
from noisyvos.models.fast.winograd import Winograd
from noisyvos.models.xmem.blocks import FeatureFusion, GroupResidualBlock, flat, spread
from noisyvos.models.xmem.decoder import UpsampleBlock


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
