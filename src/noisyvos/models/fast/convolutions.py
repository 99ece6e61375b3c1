"""Convolutions for inference: batch normalisation folded in, ReLU and sums fused.

Results equal those of the plain layers up to rounding. On a CPU, oneDNN applies ReLU and adds a
shortcut while it writes a convolution's output. Without oneDNN, plain calls do the same work. Large
3x3 convolutions on a CPU in float32 use Winograd's algorithm. `half` is the type of half precision
that weights are converted to, once; None keeps float32.
"""

from dataclasses import dataclass, replace
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from noisyvos.models.fast.winograd import Winograd
from noisyvos.models.resnet import BasicBlock, Bottleneck, FrozenNorm, FrozenStatisticsNorm

_FUSED = (
    getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    if torch.backends.mkldnn.is_available()
    else None
)


@dataclass(frozen=True)
class FusedConvolution:
    """A convolution that can end with a sum and a ReLU; no gradient flows through it."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    @classmethod
    def of(
        cls,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        half: torch.dtype | None,
    ) -> Self:
        """Return the convolution with its weights in `half`, where that is given.

        A GPU and half precision take weights with channels last.
        """
        if half is not None or weight.device.type != "cpu":
            weight = weight.detach().to(half, memory_format=torch.channels_last)
            bias = None if bias is None else bias.detach().to(half)
        return cls(weight, bias, stride, padding)

    def split(self, inputs: int) -> tuple[Self, Self]:
        """Return the shares of the first `inputs` channels and of the others.

        The sum of both results is the whole result.
        """
        first, rest = self.weight[:, :inputs], self.weight[:, inputs:]
        first, rest = (x.contiguous(memory_format=torch.channels_last) for x in (first, rest))
        return replace(self, weight=first), replace(self, weight=rest, bias=None)

    def __call__(self, x: Tensor, *, relu: bool = False, plus: Tensor | None = None) -> Tensor:
        """Map (N, C, H, W); add `plus` (N or 1 maps), then apply ReLU, if asked to."""
        where = x.device.type
        if _FUSED is not None and where == "cpu" and self.weight.dtype == torch.bfloat16:
            x = x.to(torch.bfloat16)
            plus = None if plus is None else plus.to(torch.bfloat16)
        same = plus is None or len(plus) == len(x)
        if _FUSED is None or where != "cpu" or x.dtype != self.weight.dtype or not same:
            return self._plain(x, relu, plus)
        settings = (list(self.padding), list(self.stride), [1, 1], 1)
        if plus is None:
            after = "relu" if relu else "none"
            return _FUSED(x, self.weight, self.bias, *settings, after, [], "")
        last = "relu" if relu else None
        return _FUSED.binary(x, plus, self.weight, self.bias, *settings, "add", 1.0, last, [], "")

    def _plain(self, x: Tensor, relu: bool, plus: Tensor | None) -> Tensor:
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        if plus is not None:
            y = y + plus
        return F.relu(y) if relu else y


def supported(layer: nn.Conv2d) -> bool:
    """Return whether a convolution has the form that the fused calls take."""
    return layer.groups == 1 and layer.dilation == (1, 1) and isinstance(layer.padding, tuple)


def winograd_pays(layer: nn.Conv2d) -> bool:
    """Return whether Winograd's algorithm can and should do a layer's work in float32."""
    fits = supported(layer) and layer.bias is not None
    return fits and Winograd.pays(layer.weight, layer.stride, cast(tuple, layer.padding))


def fuse(layer: nn.Conv2d, half: torch.dtype | None = None) -> FusedConvolution | Winograd:
    """Return a `supported` layer in the form that takes ReLU and sums."""
    if half is None and layer.bias is not None and winograd_pays(layer):
        return Winograd.of(layer.weight, layer.bias)
    padding = cast(tuple[int, ...], layer.padding)
    return FusedConvolution.of(layer.weight, layer.bias, layer.stride, padding, half)


@torch.no_grad()
def fold(
    layer: nn.Conv2d, norm: FrozenStatisticsNorm | FrozenNorm, half: torch.dtype | None = None
) -> FusedConvolution | Winograd:
    """Return a convolution and the normalisation after it as one convolution."""
    weight, bias = cast(
        tuple[Tensor, Tensor],
        fuse_conv_bn_weights(
            layer.weight,
            layer.bias,
            cast(Tensor, norm.running_mean),
            cast(Tensor, norm.running_var),
            norm.eps,
            cast(nn.Parameter, norm.weight),
            cast(nn.Parameter, norm.bias),
        ),
    )
    padding = cast(tuple[int, ...], layer.padding)
    if half is None and Winograd.pays(weight, layer.stride, padding):
        return Winograd.of(weight, bias)
    weight = weight.detach().contiguous(memory_format=torch.channels_last)
    return FusedConvolution.of(weight, bias.detach(), layer.stride, padding, half)


class WinogradConvolution(nn.Module):
    """Winograd's algorithm in place of a layer; it shows the layer's weight and bias."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, cast(nn.Parameter, layer.bias)
        self.fast = Winograd.of(self.weight, self.bias)

    @classmethod
    def of(cls, layer: nn.Conv2d, half: torch.dtype | None = None) -> Self | None:
        """Return the twin of a layer; None if it does not pay."""
        return cls(layer) if half is None and winograd_pays(layer) else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) as the layer does."""
        return self.fast(x)


class FoldedBlock(nn.Module):
    """A residual block of a ResNet made of folded convolutions; it holds no parameters."""

    def __init__(self, block: BasicBlock | Bottleneck, half: torch.dtype | None = None) -> None:
        super().__init__()
        pairs = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        if isinstance(block, Bottleneck):
            pairs.append((block.conv3, block.bn3))
        self.convolutions = [fold(layer, cast(FrozenNorm, norm), half) for layer, norm in pairs]
        self.shortcut = None
        if block.downsample is not None:
            layer, norm = block.downsample
            self.shortcut = fold(cast(nn.Conv2d, layer), cast(FrozenNorm, norm), half)

    @classmethod
    def of(cls, block: BasicBlock | Bottleneck, half: torch.dtype | None = None) -> Self | None:
        """Return the twin of a block; None if it is dilated, which fused calls do not take."""
        return cls(block, half) if supported(block.conv2) else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) as the block does."""
        y = x
        for convolution in self.convolutions[:-1]:
            y = convolution(y, relu=True)
        plus = x if self.shortcut is None else self.shortcut(x)
        return self.convolutions[-1](y, relu=True, plus=plus)
