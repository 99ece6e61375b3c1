"""STM's encoders: frames, alone or with masks, to features, keys and values.

Oh et al., ICCV 2019, section 3.1. The trunk is the first three stages of a ResNet, or a few small
blocks for CPU runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models import resnet

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Trunk:
    """How the encoders of one network are built, and the sizes that the rest of it depends on."""

    stem: Callable[[], nn.Module]  # the first convolution of a frame
    mask_stem: Callable[[], nn.Conv2d]  # the first convolution of a mask
    first: int  # channels after it
    norm: Callable[[int], nn.Module]  # after it
    pool: bool  # halve the size once more before the first stage
    stages: tuple[Callable[[], nn.Module], ...]  # three
    features: tuple[int, int, int]  # channels of deep, middle, fine
    stride: int  # of the deep features; middle and fine have a half and a quarter of it
    key: int
    value: int
    decoder: int
    # whether the decoder's residual blocks add to the ReLU of their input, not to the input
    rectified: bool = False
    # whether `deep` is two outputs joined, the last stage's and that of its first block, of which
    # the key is made from the second by a 1x1 convolution (networks for CPU runs)
    early_key: bool = False


def resnet_trunk(
    block: type[resnet.BasicBlock] | type[resnet.Bottleneck],
    counts: tuple[int, int, int],
    key: int,
    value: int,
) -> Trunk:
    """Return the first three stages of a ResNet with `counts` blocks."""
    fine, middle, deep = (width * block.expansion for width in (64, 128, 256))
    return Trunk(
        stem=partial(resnet.stem_convolution, 3),
        mask_stem=partial(resnet.stem_convolution, 1),
        first=64,
        norm=resnet.FrozenStatisticsNorm,
        pool=True,
        stages=(
            partial(resnet.stage, block, 64, 64, counts[0], 1),
            partial(resnet.stage, block, fine, 128, counts[1], 2),
            partial(resnet.stage, block, middle, 256, counts[2], 2),
        ),
        features=(deep, middle, fine),
        stride=16,
        key=key,
        value=value,
        decoder=256,
    )


class _LastAndEarly(nn.Module):
    """The last stage of a small trunk: its output, joined with that of its first block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = resnet.SmallBlock(2 * width, 4 * width, 2)
        self.second = resnet.SmallBlock(4 * width, 4 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 2 * width, H, W) to (N, 8 * width, H / 2, W / 2)."""
        early = self.first(x)
        return torch.cat([self.second(early), early], 1)


def small_trunk(width: int, key: int, value: int, decoder: int, early_key: bool) -> Trunk:
    """Return small encoders at stride 8.

    The stem's output, with `width` channels at half resolution, is the finest skip.
    """
    return Trunk(
        stem=lambda: nn.Conv2d(3, width, 5, 2, 2, bias=False),
        mask_stem=lambda: nn.Conv2d(1, width, 5, 2, 2, bias=False),
        first=width,
        norm=resnet.small_norm,
        pool=False,
        stages=(
            nn.Identity,
            partial(resnet.SmallBlock, width, 2 * width, 2),
            lambda: (
                _LastAndEarly(width)
                if early_key
                else nn.Sequential(
                    resnet.SmallBlock(2 * width, 4 * width, 2),
                    resnet.SmallBlock(4 * width, 4 * width, 1),
                )
            ),
        ),
        features=(4 * width, 2 * width, width),
        stride=8,
        key=key,
        value=value,
        decoder=decoder,
        early_key=early_key,
    )


@dataclass(frozen=True)
class EncoderFeatures:
    """What an encoder computes from N inputs, finest last."""

    deep: Tensor  # (N, C, h, w)
    middle: Tensor  # (N, C, 2h, 2w)
    fine: Tensor  # (N, C, 4h, 4w)
    finest: Tensor  # (N, C, H / 2, W / 2), the first convolution's output after its ReLU


class Encoder(nn.Module):
    """Frames to features; published names call the stages `res2` to `res4`."""

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.add_mask_stems(trunk)
        self.conv1 = trunk.stem()
        self.bn1 = trunk.norm(trunk.first)
        self.res2, self.res3, self.res4 = (make() for make in trunk.stages)
        self.pool = trunk.pool
        resnet.initialise(self)

    def add_mask_stems(self, trunk: Trunk) -> None:
        """Create what published names list before the first convolution of a frame."""

    def stem(self, frames: Tensor) -> Tensor:
        """Apply the first convolution to frames (B, 3, H, W), RGB in [0, 1] and padded."""
        return self.conv1((frames - self.mean) / self.std)

    def features(self, x: Tensor) -> EncoderFeatures:
        """Continue from the first convolution's output (N, C, H / 2, W / 2)."""
        finest = F.relu(self.bn1(x))
        fine = self.res2(F.max_pool2d(finest, 3, 2, 1) if self.pool else finest)
        middle = self.res3(fine)
        return EncoderFeatures(self.res4(middle), middle, fine, finest)


class QueryEncoder(Encoder):
    """Frames to features."""

    def forward(self, frames: Tensor) -> EncoderFeatures:
        """Map frames (B, 3, H, W), RGB in [0, 1] and padded, to their features."""
        return self.features(self.stem(frames))


class MemoryEncoder(Encoder):
    """Frames to deep features, each frame with the mask of one object and that of all others."""

    conv1_m: nn.Conv2d
    conv1_o: nn.Conv2d

    def add_mask_stems(self, trunk: Trunk) -> None:
        """Create the first convolutions of both masks."""
        self.conv1_m = trunk.mask_stem()
        self.conv1_o = trunk.mask_stem()

    def forward(self, frames: Tensor, own: Tensor, others: Tensor, owner: Tensor) -> Tensor:
        """Return the deep features (N, C, h, w) of N objects.

        frames (B, 3, H, W) RGB in [0, 1] and padded; own and others (N, H, W) in [0, 1]; owner (N,)
        is the frame of each object.
        """
        planes = torch.stack([own, others], 1).to(frames.dtype)
        weights = torch.cat([self.conv1_m.weight, self.conv1_o.weight], 1)
        masks = F.conv2d(planes, weights, None, self.conv1_m.stride, self.conv1_m.padding)
        return self.features(pick(self.stem(frames), owner) + masks).deep


class KeyValue(nn.Module):
    """Deep features to key and value."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.early_key = trunk.early_key
        kernel = 1 if trunk.early_key else 3
        self.Key = nn.Conv2d(trunk.features[0], trunk.key, kernel, padding=kernel // 2)
        self.Value = nn.Conv2d(trunk.features[0], trunk.value, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, C, h, w) to key (N, C_k, h, w) and value (N, C_v, h, w)."""
        last, early = x.chunk(2, 1) if self.early_key else (x, x)
        return self.Key(early), self.Value(last)


def pick(rows: Tensor, owner: Tensor) -> Tensor:
    """Return row `owner[i]` of (B, ...) for each i, without a copy where one row is taken once."""
    if len(rows) == len(owner) == 1:
        return rows
    return rows[owner]
