"""The trunks that encoders are built on: the first three stages of a ResNet, or a few blocks for CPU runs."""

from functools import partial

from torch import nn

from noisyvos.models import resnet
from noisyvos.models.small import ResidualBlock, norm
from noisyvos.models.stm_parts.encoders import Trunk


def resnet_trunk(
    block: type[resnet.BasicBlock] | type[resnet.Bottleneck],
    counts: tuple[int, int, int],
    key: int,
    value: int,
) -> Trunk:
    """Return the first three stages of a ResNet with `counts` blocks."""
    fine, middle, deep = (width * block.expansion for width in (64, 128, 256))
    return Trunk(
        stem=resnet.stem_convolution,
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


def small_trunk(width: int, key: int, value: int, decoder: int) -> Trunk:
    """Return small encoders at stride 8: the stem's own output, with `width` channels, is the finest skip, at half resolution."""
    return Trunk(
        stem=lambda planes: nn.Conv2d(planes, width, 5, 2, 2, bias=False),
        first=width,
        norm=norm,
        pool=False,
        stages=(
            nn.Identity,
            partial(ResidualBlock, width, 2 * width, 2),
            lambda: nn.Sequential(
                ResidualBlock(2 * width, 4 * width, 2), ResidualBlock(4 * width, 4 * width, 1)
            ),
        ),
        features=(4 * width, 2 * width, width),
        stride=8,
        key=key,
        value=value,
        decoder=decoder,
    )
