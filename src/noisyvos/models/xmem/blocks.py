"""Building blocks of XMem's value path and decoder (Cheng and Schwing, ECCV 2022, section 3 and supplement).

A group tensor is (B, N, C, H, W): N objects of B samples. Convolutions see it flattened to (B * N, C, H, W).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.fast.folding import FastConvolution, convolve
from noisyvos.models.small import norm


def flat(group: Tensor) -> Tensor:
    """Return (B, N, ...) as (B * N, ...)."""
    return group.flatten(0, 1)


def spread(image: Tensor, objects: int) -> Tensor:
    """Return image features (B, C, H, W) once per object, (B * objects, C, H, W)."""
    return image if objects == 1 else image.repeat_interleave(objects, 0)


class GroupResidualBlock(nn.Module):
    """conv2(relu(conv1(relu(x)))) + shortcut, published without normalisation; the shortcut convolves the raw input if widths differ.

    With `normalised` (ours) each ReLU is preceded by a group norm, with which a small network that starts from scratch got
    further in as many steps.
    """

    def __init__(self, inputs: int, outputs: int, normalised: bool = False) -> None:
        super().__init__()
        self.downsample = nn.Conv2d(inputs, outputs, 3, padding=1) if inputs != outputs else None
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm1 = norm(inputs) if normalised else nn.Identity()
        self.norm2 = norm(outputs) if normalised else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        if isinstance(self.conv2, FastConvolution):
            shortcut = x if self.downsample is None else convolve(self.downsample, x)
            return convolve(self.conv2, convolve(self.conv1, F.relu(x), relu=True), plus=shortcut)
        y = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))

    def joined(self, image: Tensor, group: Tensor) -> Tensor:
        """Map image features (1, C, H, W) joined with those of each of N objects, given fast convolutions.

        Both convolutions of the input are linear in what lies side by side in it, so the image's share is computed once.
        """
        for_image, for_group = self.conv1.fast.split(image.shape[1])
        y = for_group(F.relu(group), relu=True, plus=for_image(F.relu(image)))
        for_image, for_group = self.downsample.fast.split(image.shape[1])
        return convolve(self.conv2, y, plus=for_group(group, plus=for_image(image)))


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
    """Join image features with object features: a residual block, attention, a second residual block."""

    def __init__(
        self, image: int, group: int, outputs: int, reduction: int, normalised: bool = False
    ) -> None:
        super().__init__()
        self.block1 = GroupResidualBlock(image + group, outputs, normalised)
        self.attention = CBAM(outputs, reduction)
        self.block2 = GroupResidualBlock(outputs, outputs, normalised)

    def forward(self, image: Tensor, group: Tensor) -> Tensor:
        """Map (B, image, H, W) and (B, N, group, H, W) to (B, N, outputs, H, W)."""
        batch, objects = group.shape[:2]
        if (
            batch == 1
            and isinstance(self.block1.conv1, FastConvolution)
            and isinstance(self.block1.downsample, FastConvolution)
        ):
            u = self.block1.joined(image, group[0])
        else:
            u = self.block1(torch.cat([spread(image, objects), flat(group)], 1))
        return self.block2(u + self.attention(u)).unflatten(0, (batch, objects))


class UpsampleBlock(nn.Module):
    """Double the resolution of object features and add the image's skip features."""

    def __init__(self, skip: int, inputs: int, outputs: int, normalised: bool = False) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip, inputs, 3, padding=1)
        self.out_conv = GroupResidualBlock(inputs, outputs, normalised)

    def forward(self, skip: Tensor, group: Tensor) -> Tensor:
        """Map (B, skip, 2H, 2W) and (B, N, inputs, H, W) to (B, N, outputs, 2H, 2W)."""
        batch, objects = group.shape[:2]
        up = F.interpolate(flat(group), scale_factor=2, mode="bilinear", align_corners=False)
        if batch == 1 and isinstance(self.skip_conv, FastConvolution):
            joined = up + self.skip_conv(skip)
        else:
            joined = up + spread(self.skip_conv(skip), objects)
        return self.out_conv(joined).unflatten(0, (batch, objects))


def gated_update(gates: Tensor, hidden: Tensor) -> Tensor:
    """Return the new hidden state from one convolution's output (B, N, 3 C, H, W) split into forget, update, candidate.

    All three come from the same convolution, so the candidate never sees a reset state: not a textbook GRU.
    """
    forget, update, new = gates.chunk(3, 2)
    update = torch.sigmoid(update)
    return torch.sigmoid(forget) * hidden * (1 - update) + update * torch.tanh(new)


class HiddenReinforcer(nn.Module):
    """The deep update: the hidden state from a newly encoded value."""

    def __init__(self, value: int, hidden: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(value + hidden, 3 * hidden, 3, padding=1)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(self, value: Tensor, hidden: Tensor) -> Tensor:
        """Map value (B, N, value, H, W) and hidden (B, N, C, H, W) to the new hidden state."""
        gates = self.transform(flat(torch.cat([value, hidden], 2)))
        return gated_update(gates.unflatten(0, hidden.shape[:2]), hidden)


class HiddenUpdater(nn.Module):
    """The normal update: the hidden state from the decoder's features at three resolutions."""

    def __init__(self, deep: int, middle: int, fine: int, inner: int, hidden: int) -> None:
        super().__init__()
        self.g16_conv = nn.Conv2d(deep, inner, 1)
        self.g8_conv = nn.Conv2d(middle, inner, 1)
        self.g4_conv = nn.Conv2d(fine, inner, 1)
        self.transform = nn.Conv2d(inner + hidden, 3 * hidden, 3, padding=1)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(self, deep: Tensor, middle: Tensor, fine: Tensor, hidden: Tensor) -> Tensor:
        """Map features at stride s, s / 2, s / 4 (the finest with the logit appended) and the hidden state to the new one."""
        joined = (
            self.g16_conv(flat(deep))
            + self.g8_conv(F.avg_pool2d(flat(middle), 2))
            + self.g4_conv(F.avg_pool2d(flat(fine), 4))
        )
        gates = self.transform(torch.cat([joined, flat(hidden)], 1))
        return gated_update(gates.unflatten(0, hidden.shape[:2]), hidden)
