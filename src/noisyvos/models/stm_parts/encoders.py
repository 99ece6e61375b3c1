"""STM's encoders: a frame, alone or with masks, to features, keys and values (Oh et al., ICCV 2019, section 3.1)."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models import resnet
from noisyvos.models.fast.folding import fold_stage

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Trunk:
    """How the encoders of one network are built, and the sizes that the rest of it depends on."""

    stem: Callable[
        [int], nn.Module
    ]  # number of input planes -> first convolution (of a mask's one plane: an nn.Conv2d)
    first: int  # channels after it
    norm: Callable[[int], nn.Module]  # after it
    pool: bool  # halve the size once more before the first stage
    stages: tuple[Callable[[], nn.Module], ...]  # three
    features: tuple[int, int, int]  # channels of deep, middle, fine
    stride: int  # of the deep features; middle and fine have a half and a quarter of it
    key: int
    value: int
    decoder: int
    rectified: bool = False  # whether the decoder's residual blocks add to the ReLU of their input, not to the input


@dataclass(frozen=True)
class Features:
    """What an encoder says of N inputs, finest last."""

    deep: Tensor  # (N, C, h, w)
    middle: Tensor  # (N, C, 2h, 2w)
    fine: Tensor  # (N, C, 4h, 4w)
    finest: Tensor  # (N, C, H / 2, W / 2), what the first convolution gives after its ReLU


class Encoder(nn.Module):
    """A frame to features; the published names say `res2` to `res4` for the stages and keep the colour statistics."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.add_mask_planes(trunk)
        self.conv1 = trunk.stem(3)
        self.bn1 = trunk.norm(trunk.first)
        self.res2, self.res3, self.res4 = (make() for make in trunk.stages)
        self.pool = trunk.pool
        resnet.initialise(self)

    def add_mask_planes(self, trunk: Trunk) -> None:
        """Create what a subclass needs before the first convolution, in the published order of names."""

    def folded(self) -> Self:
        """Return an encoder for inference that shares these weights but for the stages, whose normalisation is folded in."""
        twin = copy.copy(self)
        twin._modules = self._modules | {
            name: fold_stage(self._modules[name]) for name in ("res2", "res3", "res4")
        }
        return twin

    def stem(self, frames: Tensor) -> Tensor:
        """Apply the first convolution to frames (B, 3, H, W), RGB in [0, 1] and padded."""
        return self.conv1((frames - self.mean) / self.std)

    def features(self, x: Tensor) -> Features:
        """Continue from the first convolution's output (N, C, H / 2, W / 2)."""
        finest = F.relu(self.bn1(x))
        fine = self.res2(F.max_pool2d(finest, 3, 2, 1) if self.pool else finest)
        middle = self.res3(fine)
        return Features(self.res4(middle), middle, fine, finest)


class QueryEncoder(Encoder):
    """A frame to features."""

    def forward(self, frames: Tensor) -> Features:
        """Map frames (B, 3, H, W), RGB in [0, 1] and padded, to their features."""
        return self.features(self.stem(frames))


class MemoryEncoder(Encoder):
    """A frame with the mask of one object and that of all others."""

    def add_mask_planes(self, trunk: Trunk) -> None:
        """Create the first convolutions of both masks."""
        self.conv1_m = trunk.stem(1)
        self.conv1_o = trunk.stem(1)

    def forward(self, frames: Tensor, own: Tensor, others: Tensor, owner: Tensor) -> Tensor:
        """Return the deep features (N, C, h, w) of N objects.

        frames (B, 3, H, W) RGB in [0, 1] and padded; own and others (N, H, W) in [0, 1]; owner (N,) the frame of each object.
        """
        planes = torch.stack([own, others], 1).to(frames.dtype)
        weights = torch.cat([self.conv1_m.weight, self.conv1_o.weight], 1)
        masks = F.conv2d(planes, weights, None, self.conv1_m.stride, self.conv1_m.padding)
        return self.features(pick(self.stem(frames), owner) + masks).deep


class KeyValue(nn.Module):
    """Deep features to key and value."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.Key = nn.Conv2d(trunk.features[0], trunk.key, 3, padding=1)
        self.Value = nn.Conv2d(trunk.features[0], trunk.value, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, C, h, w) to key (N, C_k, h, w) and value (N, C_v, h, w)."""
        return self.Key(x), self.Value(x)


def pick(rows: Tensor, owner: Tensor) -> Tensor:
    """Return row `owner[i]` of (B, ...) for each i, without a copy where every row is taken once in order."""
    if len(rows) == len(owner) == 1:
        return rows
    return rows[owner]
