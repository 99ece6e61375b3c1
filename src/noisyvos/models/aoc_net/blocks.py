"""Blocks of AOC-Net's decoder: gates, residual blocks with channel gating, conditioning blocks.

The batch axis holds the N objects of one video, background first (N, C, H, W). `head` (N, A) holds
four mean embeddings: reference and previous frame, inside and outside the object (published: 400).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-5


def group_norm(channels: int, groups: int = 32) -> nn.GroupNorm:
    """Return the normalisation of all layers that are trained on video.

    Groups have at least two channels, which only matters to small networks.
    """
    return nn.GroupNorm(min(groups, channels // 2), channels, eps=EPSILON)


def others(x: Tensor) -> Tensor:
    """Return per object the sum of the other objects' global means, (N, C): the inter-object
    context.
    """
    pooled = x.mean((2, 3))
    return pooled.sum(0, keepdim=True) - pooled


class GCT(nn.Module):
    """Gated channel transformation (Yang et al., CVPR 2020): channels compete by their energy.

    It starts as the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of (N, C, H, W)."""
        energy = self.alpha * (x.square().sum((2, 3), keepdim=True) + EPSILON).sqrt()
        norm = self.gamma / (energy.square().mean(1, keepdim=True) + EPSILON).sqrt()
        return x * (1 + torch.tanh(energy * norm + self.beta))


class Gate(nn.Module):
    """Instance attention: the head scales an object's channels (CFBI, ECCV 2020, section 3.3)."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.IA = nn.Linear(inputs, channels)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Scale (N, C, H, W) by a code (N, inputs)."""
        return x * (1 + torch.tanh(self.IA(code)))[:, :, None, None]


class GatedBottleneck(nn.Module):
    """A residual block with channel gating in front."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        width = outputs // 4
        self.GCT1 = GCT(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = group_norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = group_norm(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = group_norm(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), group_norm(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(self.GCT1(x))))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ConditioningLayer(nn.Module):
    """The mean, over all positions, of those that a map ranks highest, through a linear layer.

    The ranking is a hard mask, so its map gets no gradient and keeps its initial values, as
    published. We do not train it.
    """

    def __init__(self, channels: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.phi_layer = nn.Conv2d(channels, 1, 1).requires_grad_(False)
        self.mlp_layer = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to codes (N, C)."""
        positions = x.shape[2] * x.shape[3]
        if positions > 1:
            score = self.phi_layer(x.detach()).flatten(1)
            kept = max(1, int(self.share * positions))
            least = score.topk(kept, 1).values[:, -1:]
            x = x * (score >= least).view(len(x), 1, *x.shape[2:])
        return self.mlp_layer(x.mean((2, 3)))


class ConditioningBlock(nn.Module):
    """The discriminative object calibrator.

    Channels are scaled by the object itself, the other objects, and the head.
    """

    def __init__(self, channels: int, head: int) -> None:
        super().__init__()
        self.CL_1 = ConditioningLayer(channels, 0.3)
        self.CL_2 = ConditioningLayer(channels, 0.3)
        self.CL_3 = ConditioningLayer(head, 1.0)
        self.mlp_layer = nn.Linear(2 * channels + head, channels)

    def code(self, x: Tensor, head: Tensor) -> Tensor:
        """Return the code (N, C) before its tanh."""
        own, context = self.CL_1(x), self.CL_2(others(x)[:, :, None, None])
        proxies = self.CL_3(head[:, :, None, None])
        return self.mlp_layer(torch.cat([own, context, proxies], 1))

    def forward(self, x: Tensor, head: Tensor) -> Tensor:
        """Scale the channels of (N, C, H, W)."""
        return x * (1 + torch.tanh(self.code(x, head)))[:, :, None, None]


class PyramidBranch(nn.Module):
    """One dilated branch of the decoder's pyramid."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.GCT = GCT(inputs)
        size, pad = (1, 0) if dilation == 1 else (3, dilation)
        self.atrous_conv = nn.Conv2d(inputs, outputs, size, 1, pad, dilation, bias=False)
        self.bn = group_norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        return F.relu(self.bn(self.atrous_conv(self.GCT(x))))


class Pyramid(nn.Module):
    """The decoder's atrous spatial pyramid: four dilations and the global mean."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.aspp1, self.aspp2, self.aspp3, self.aspp4 = (
            PyramidBranch(inputs, width, dilation) for dilation in (1, 6, 12, 18)
        )
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, width, 1, bias=False), nn.ReLU()
        )
        self.GCT = GCT(5 * width)
        self.conv1 = nn.Conv2d(5 * width, outputs, 1, bias=False)
        self.bn1 = group_norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        pooled = self.global_avg_pool(x).expand(-1, -1, *x.shape[2:])
        branches = [self.aspp1(x), self.aspp2(x), self.aspp3(x), self.aspp4(x), pooled]
        return F.relu(self.bn1(self.conv1(self.GCT(torch.cat(branches, 1)))))
