"""STM on ResNeSt-101, with convolutions of several dilations on the memory readout.

Published weights for DAVIS exist. The encoders are ResNeSt-101 up to stride 16 (Zhang et al. 2020,
"ResNeSt: Split-Attention Networks"), with the names of its authors' code: two splits, one group;
three small convolutions as a stem; a block applies its stride by an average pool after its 3x3
convolution, a shortcut by one before its 1x1 convolution. Batch normalisation keeps its stored
statistics.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.base import MODELS, Clip
from noisyvos.models.resnet import FrozenStatisticsNorm
from noisyvos.models.stm.network import STM
from noisyvos.models.stm.settings import STMSettings
from noisyvos.models.stm_parts.decoder import Decoder, Prepared
from noisyvos.models.stm_parts.encoders import Trunk, pick

RADIX = 2
EXPANSION = 4
STEM = 64  # channels within the stem; twice as many come out
DILATIONS = (1, 2, 4, 8)
DROPPED = 0.5  # share of the joined features, in training


class SplitAttention(nn.Module):
    """A 3x3 convolution to `RADIX` splits, joined with weights that depend on their sum's mean
    (section 3.1).
    """

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


class SplitAttentionBlock(nn.Module):
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
        SplitAttentionBlock(inputs, width, stride),
        *(SplitAttentionBlock(EXPANSION * width, width, 1) for _ in range(count - 1)),
    )


def _stem() -> nn.Module:
    """Return the three convolutions of a frame's stem."""
    return nn.Sequential(
        nn.Conv2d(3, STEM, 3, 2, 1, bias=False),
        FrozenStatisticsNorm(STEM),
        nn.ReLU(),
        nn.Conv2d(STEM, STEM, 3, 1, 1, bias=False),
        FrozenStatisticsNorm(STEM),
        nn.ReLU(),
        nn.Conv2d(STEM, 2 * STEM, 3, 1, 1, bias=False),
    )


def _mask_stem() -> nn.Conv2d:
    """Return the single convolution that STM gives a mask."""
    return nn.Conv2d(1, 2 * STEM, 7, 2, 3, bias=False)


def resnest101_trunk(key: int, value: int) -> Trunk:
    """Return the first three stages of ResNeSt-101.

    The published decoder applies its ReLU in place, so its blocks add to rectified inputs.
    """
    return Trunk(
        stem=_stem,
        mask_stem=_mask_stem,
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


class DilatedBranch(nn.Module):
    """One dilation; the first is a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        side, pad = (1, 0) if dilation == 1 else (3, dilation)
        self.atrous_conv = nn.Conv2d(
            inputs, outputs, side, padding=pad, dilation=dilation, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, h, w) to (N, outputs, h, w)."""
        return F.relu(self.atrous_conv(x))


class AtrousPyramid(nn.Module):
    """Four dilations side by side, joined to as many channels as each has."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.aspp1, self.aspp2, self.aspp3, self.aspp4 = (
            DilatedBranch(inputs, outputs, dilation) for dilation in DILATIONS
        )
        self.conv1 = nn.Conv2d(outputs * len(DILATIONS), outputs, 1, bias=False)

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """Map (N, inputs, h, w) to (N, outputs, h, w).

        With a dropout mask `kept`, bool of the result's shape, what is kept is scaled up.
        """
        branches = (self.aspp1, self.aspp2, self.aspp3, self.aspp4)
        x = F.relu(self.conv1(torch.cat([branch(x) for branch in branches], 1)))
        return x if kept is None else x * kept / (1 - DROPPED)


class WholeDecoder(Decoder):
    """STM's decoder for readout and query value that were joined before."""

    def value_share(self, value: Tensor) -> Tensor:
        """Return the query's value (B, C_v, h, w), which the pyramid needs."""
        return value

    def first(self, read: Tensor, value_share: Tensor, owner: Tensor) -> Tensor:
        """Apply the first convolution to what the pyramid made of readout and value, (N, width,
        h, w).
        """
        return self.convFM(read)


@MODELS.register("stm_resnest101", STMSettings)
class STMResNeSt101(STM):
    """STM with ResNeSt-101 encoders and a pyramid of dilations before the decoder."""

    def __init__(self, settings: STMSettings) -> None:
        super().__init__(settings)
        self.aspp = AtrousPyramid(
            2 * self.KV_Q_r4.Value.out_channels, self.Decoder.convFM.in_channels
        )

    def make_trunk(self) -> Trunk:
        """Return how the encoders are built."""
        return resnest101_trunk(128, 512)

    def make_decoder(self, trunk: Trunk) -> Decoder:
        """Return the decoder."""
        return WholeDecoder(trunk, trunk.decoder)

    def segment(
        self, prepared: Prepared, read: Tensor, owner: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """Return two logits per object, (N, 2, H, W), from what was read (N, C_v, h, w)."""
        joined = self.aspp(torch.cat([read, pick(prepared.value, owner)], 1), kept)
        return self.Decoder(prepared, joined, owner)

    def draw_kept(
        self, clip: Clip, owner: Tensor, size: tuple[int, int], generator: torch.Generator
    ) -> list[Tensor | None]:
        """Draw dropout for the objects of each later frame.

        Each sample has its own random stream, whatever else is in its batch.
        """
        later = clip.frames.shape[1] - 1
        if not self.training:
            return [None] * later
        start, whole = clip.place()
        seeds = torch.randint(2**62, (whole,), generator=generator)
        seeds = seeds[start : start + len(clip.frames)]
        counts = owner.bincount(minlength=len(clip.frames))
        shape = (later, self.Decoder.convFM.in_channels, *size)
        draws = []
        for seed, count in zip(seeds.tolist(), counts.tolist(), strict=True):
            stream = torch.Generator().manual_seed(seed)
            draws.append(torch.rand(count, *shape, generator=stream) >= DROPPED)
        return list(torch.cat(draws).to(owner.device).unbind(1))
