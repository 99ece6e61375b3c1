"""Convolutions for inference: batch normalisation folded into them, ReLU and sums done where they arise.

Equal to the plain layers but for rounding. On a CPU, oneDNN applies ReLU and the sum of a shortcut while it writes a
convolution's output, which plain calls cannot ask for; where that is not there, plain calls follow. Large 3x3
convolutions on a CPU take Winograd's way.
"""

import copy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from noisyvos.models.fast.winograd import Winograd
from noisyvos.models.resnet import BasicBlock, Bottleneck, FrozenStatisticsNorm

_FUSED = (
    getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    if torch.backends.mkldnn.is_available()
    else None
)


@dataclass(frozen=True)
class Convolution:
    """A convolution that may end with a sum and a ReLU; no gradient flows through it."""

    weight: Tensor
    bias: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> Self:
        """Return a convolution without normalisation in this form."""
        return cls(convolution.weight, convolution.bias, convolution.stride, convolution.padding)

    def __call__(self, x: Tensor, *, relu: bool = False, plus: Tensor | None = None) -> Tensor:
        """Map (N, C, H, W); add `plus` of the output's shape, then apply ReLU if asked to."""
        settings = (list(self.padding), list(self.stride), [1, 1], 1)
        if _FUSED is not None and x.device.type == "cpu" and x.dtype == torch.float32:
            after = "relu" if relu else "none"
            if plus is None:
                return _FUSED(x, self.weight, self.bias, *settings, after, [], "")
            return _FUSED.binary(
                x,
                plus,
                self.weight,
                self.bias,
                *settings,
                "add",
                1.0,
                "relu" if relu else None,
                [],
                "",
            )
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        if plus is not None:
            y = y + plus
        return F.relu(y) if relu else y


def fold(convolution: nn.Conv2d, norm: FrozenStatisticsNorm) -> Convolution | Winograd:
    """Return convolution and normalisation as one convolution."""
    weight, bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    if Winograd.pays(weight, convolution.stride, convolution.padding):
        return Winograd.of(weight, bias)
    weight = weight.detach().contiguous(memory_format=torch.channels_last)
    return Convolution(weight, bias.detach(), convolution.stride, convolution.padding)


class FastConvolution(nn.Module):
    """A convolution in Winograd's form in the place of the layer that it was made from, whose weight and bias it shows."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.fast = Winograd.of(convolution.weight, convolution.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) as the layer does."""
        return self.fast(x)


def convolve(
    layer: nn.Conv2d | FastConvolution, x: Tensor, *, relu: bool = False, plus: Tensor | None = None
) -> Tensor:
    """Return layer(x), with `plus` added and ReLU applied where asked to; no gradient flows through it."""
    return (layer.fast if isinstance(layer, FastConvolution) else Convolution.of(layer))(
        x, relu=relu, plus=plus
    )


def with_fast_convolutions(module: nn.Module) -> nn.Module:
    """Return a twin of a module that shares all but its large convolutions, which are made fast for inference."""
    if isinstance(module, nn.Conv2d):
        plain = module.groups == 1 and module.dilation == (1, 1) and module.bias is not None
        return (
            FastConvolution(module)
            if plain and Winograd.pays(module.weight, module.stride, module.padding)
            else module
        )
    if not module._modules:
        return module
    twin = copy.copy(module)
    twin._modules = {
        name: None if child is None else with_fast_convolutions(child)
        for name, child in module._modules.items()
    }
    return twin


class FoldedBlock(nn.Module):
    """A residual block made of folded convolutions; it holds no parameters and is never trained or saved."""

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        pairs = [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")][
            : 2 if isinstance(block, BasicBlock) else 3
        ]
        self.convolutions = [
            fold(getattr(block, convolution), getattr(block, norm)) for convolution, norm in pairs
        ]
        self.shortcut = None if block.downsample is None else fold(*block.downsample)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) as the block does that it was made from."""
        y = x
        for convolution in self.convolutions[:-1]:
            y = convolution(y, relu=True)
        return self.convolutions[-1](
            y, relu=True, plus=x if self.shortcut is None else self.shortcut(x)
        )


@torch.no_grad()
def fold_stage(stage: nn.Module) -> nn.Module:
    """Return a stage of residual blocks with folded normalisation; any other module as it is."""
    if not isinstance(stage, nn.Sequential) or not all(
        isinstance(block, BasicBlock | Bottleneck) for block in stage
    ):
        return stage
    return nn.Sequential(*(FoldedBlock(block) for block in stage))
