"""XMem's encoders: frames to keys and skip features, frames with masks to values.

ECCV 2022, section 3.1.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models import resnet
from noisyvos.models.xmem.blocks import FeatureFusion, flat, gated_update, spread


@dataclass(frozen=True)
class Widths:
    """Channel counts and the stride of one network.

    Deep, middle and fine features have stride, stride / 2 and stride / 4.
    """

    key: int
    value: int
    hidden: int  # 0: no sensory memory
    features: tuple[int, int, int]  # of the key encoder: deep, middle, fine
    value_features: int  # of the value encoder before the fusion
    decoder: tuple[int, int, int]  # deep, middle, fine
    hidden_inner: int  # inside the normal update of the hidden state
    reduction: int  # of the channel attention
    stride: int
    normalised: bool = False  # whether the blocks between encoders and logits are normalised


@dataclass(frozen=True)
class KeyFeatures:
    """What the key encoder computes from B frames, finest last."""

    deep: Tensor  # (B, C, h, w)
    middle: Tensor  # (B, C, 2h, 2w)
    fine: Tensor  # (B, C, 4h, 4w)

    def of_frames(self, clips: int) -> list["KeyFeatures"]:
        """Return the features of frame 0, 1, ... of each of `clips` clips, given all their frames.

        `unbind` splits them at once: the gradient of a single slice would be as large as the whole.
        """
        apart = (x.unflatten(0, (clips, -1)).unbind(1) for x in (self.deep, self.middle, self.fine))
        return [KeyFeatures(*each) for each in zip(*apart, strict=True)]


class ResNetKeyEncoder(nn.Module):
    """ResNet-50 up to its third stage."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = resnet.stem_convolution(3)
        self.bn1 = resnet.FrozenStatisticsNorm(64)
        self.res2 = resnet.stage(resnet.Bottleneck, 64, 64, 3, 1)
        self.layer2 = resnet.stage(resnet.Bottleneck, 256, 128, 4, 2)
        self.layer3 = resnet.stage(resnet.Bottleneck, 512, 256, 6, 2)
        resnet.initialise(self)

    def forward(self, frames: Tensor) -> KeyFeatures:
        """Map normalised frames (B, 3, H, W) to features at strides 16, 8 and 4."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(frames))), 3, 2, 1)
        fine = self.res2(x)
        middle = self.layer2(fine)
        return KeyFeatures(self.layer3(middle), middle, fine)


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


class ValueEncoder(nn.Module):
    """Frames, own masks and the other objects' masks to values.

    A subclass supplies the trunk `object_features`.
    """

    def __init__(self, single_object: bool) -> None:
        super().__init__()
        self.single_object = single_object

    def add_head(self, widths: Widths) -> None:
        """Create the fusion with the image's deep features and the deep update.

        Called last, to keep the published order of names.
        """
        self.fuser = FeatureFusion(
            widths.features[0],
            widths.value_features,
            widths.value,
            widths.reduction,
            widths.normalised,
        )
        if widths.hidden:
            self.hidden_reinforce = HiddenReinforcer(widths.value, widths.hidden)

    def object_features(self, planes: Tensor) -> Tensor:
        """Map (B * N, 4 or 5, H, W) to (B * N, value_features, h, w)."""
        raise NotImplementedError

    def forward(
        self,
        frames: Tensor,
        deep: Tensor,
        hidden: Tensor | None,
        masks: Tensor,
        *,
        deep_update: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return values (B, N, C_v, h, w) and the hidden state, renewed only if `deep_update`.

        frames (B, 3, H, W) normalised, deep (B, C, h, w), masks (B, N, H, W) in [0, 1]. The value
        does not depend on `hidden`.
        """
        batch, objects = masks.shape[:2]
        planes = [spread(frames, objects), flat(masks).unsqueeze(1)]
        if not self.single_object:
            planes.append(flat(masks.sum(1, keepdim=True) - masks).unsqueeze(1))
        features = self.object_features(torch.cat(planes, 1))
        value = self.fuser(deep, features.unflatten(0, (batch, objects)))
        if deep_update and hidden is not None:
            hidden = self.hidden_reinforce(value, hidden)
        return value, hidden


class ResNetValueEncoder(ValueEncoder):
    """ResNet-18 up to its third stage, with one or two mask planes after RGB."""

    def __init__(self, widths: Widths, single_object: bool) -> None:
        super().__init__(single_object)
        self.conv1 = resnet.stem_convolution(4 if single_object else 5)
        self.bn1 = resnet.FrozenStatisticsNorm(64)
        self.layer1 = resnet.stage(resnet.BasicBlock, 64, 64, 2, 1)
        self.layer2 = resnet.stage(resnet.BasicBlock, 64, 128, 2, 2)
        self.layer3 = resnet.stage(resnet.BasicBlock, 128, 256, 2, 2)
        resnet.initialise(self)
        self.add_head(widths)

    def object_features(self, planes: Tensor) -> Tensor:
        """Map (B * N, 4 or 5, H, W) to (B * N, 256, H / 16, W / 16)."""
        x = F.relu(F.max_pool2d(self.bn1(self.conv1(planes)), 3, 2, 1))
        return self.layer3(self.layer2(self.layer1(x)))


class KeyProjection(nn.Module):
    """Deep image features to key, shrinkage (>= 1) and selection (0..1)."""

    def __init__(self, inputs: int, key: int, kernel: int = 3) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(inputs, key, kernel, padding=kernel // 2)
        self.d_proj = nn.Conv2d(inputs, 1, kernel, padding=kernel // 2)
        self.e_proj = nn.Conv2d(inputs, key, kernel, padding=kernel // 2)
        nn.init.orthogonal_(self.key_proj.weight)
        nn.init.zeros_(cast(Tensor, self.key_proj.bias))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, C, h, w) to key (B, C_k, h, w), shrinkage (B, 1, h, w), selection (B, C_k, h,
        w).
        """
        return self.key_proj(x), self.d_proj(x).square() + 1, torch.sigmoid(self.e_proj(x))
