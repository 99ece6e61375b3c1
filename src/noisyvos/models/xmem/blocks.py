"""Blocks that XMem's value encoder and decoder share (ECCV 2022, section 3 and supplement).

A group tensor is (B, N, C, H, W): N objects of B samples. Convolutions see it as (B * N, C, H, W).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.resnet import small_norm


def flat(group: Tensor) -> Tensor:
    """Return (B, N, ...) as (B * N, ...)."""
    return group.flatten(0, 1)


def spread(image: Tensor, objects: int) -> Tensor:
    """Return image features (B, C, H, W) once per object, (B * objects, C, H, W)."""
    return image if objects == 1 else image.repeat_interleave(objects, 0)


class GroupResidualBlock(nn.Module):
    """conv2(relu(conv1(relu(x)))) + shortcut, published without normalisation.

    The shortcut convolves the raw input if widths differ. With `normalised`, which is not
    published, a group norm precedes each ReLU: a small network that starts from scratch then learns
    more in as many steps.
    """

    def __init__(self, inputs: int, outputs: int, normalised: bool = False) -> None:
        super().__init__()
        self.downsample = nn.Conv2d(inputs, outputs, 3, padding=1) if inputs != outputs else None
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm1 = small_norm(inputs) if normalised else nn.Identity()
        self.norm2 = small_norm(outputs) if normalised else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        y = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))


class ChannelGate(nn.Module):
    """Channel attention from average- and max-pooled features (CBAM, Woo et al., ECCV 2018)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = channels // reduction
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of (N, C, H, W)."""
        attention = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))
        return x * attention[:, :, None, None]


class _SpatialConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class SpatialGate(nn.Module):
    """Spatial attention from the maximum and the mean over channels (CBAM)."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = _SpatialConvolution()

    def forward(self, x: Tensor) -> Tensor:
        """Scale the positions of (N, C, H, W)."""
        pooled = torch.stack([x.amax(1), x.mean(1)], 1)
        return x * torch.sigmoid(self.spatial(pooled))


class CBAM(nn.Module):
    """Channel, then spatial attention."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(channels, reduction)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        """Gate (N, C, H, W)."""
        return self.SpatialGate(self.ChannelGate(x))


class FeatureFusion(nn.Module):
    """Joins image features with object features: a residual block, attention, a second block."""

    def __init__(
        self, image: int, group: int, outputs: int, reduction: int, normalised: bool = False
    ) -> None:
        super().__init__()
        self.image = image  # channels of the image's features
        self.block1 = GroupResidualBlock(image + group, outputs, normalised)
        self.attention = CBAM(outputs, reduction)
        self.block2 = GroupResidualBlock(outputs, outputs, normalised)

    def forward(self, image: Tensor, group: Tensor) -> Tensor:
        """Map (B, image, H, W) and (B, N, group, H, W) to (B, N, outputs, H, W)."""
        batch, objects = group.shape[:2]
        u = self.block1(torch.cat([spread(image, objects), flat(group)], 1))
        return self.block2(u + self.attention(u)).unflatten(0, (batch, objects))


def gated_update(gates: Tensor, hidden: Tensor) -> Tensor:
    """Return the new hidden state from one convolution's output (B, N, 3 C, H, W).

    The output splits into forget gate, update gate and candidate. The candidate never sees a reset
    state, unlike in a textbook GRU.
    """
    forget, update, new = gates.chunk(3, 2)
    update = torch.sigmoid(update)
    return torch.sigmoid(forget) * hidden * (1 - update) + update * torch.tanh(new)
