"""AOC-Net's decoder: matching maps and features to logits.

Features are calibrated four times and corrected by two feature maps carried from earlier frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.aoc_net.blocks import (
    GCT,
    ConditioningBlock,
    Gate,
    GatedBottleneck,
    Pyramid,
    group_norm,
    others,
)
from noisyvos.models.aoc_net.settings import Sizes


@dataclass(frozen=True)
class CarriedMaps:
    """Feature maps that a video keeps beside its references, detached (N, C, h / 2, w / 2).

    propagated: the pyramid's output of the previous frame; corrected: the first correction's output
    of the first predicted frame.
    """

    propagated: Tensor
    corrected: Tensor

    def fits(self, like: Tensor) -> bool:
        """Return whether both have the shape of `like`, which new objects change."""
        return self.propagated.shape == like.shape == self.corrected.shape


class CalibratedDecoder(nn.Module):
    """Published names; layer1 takes embedding and pre-head, of published size 164 channels."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        inputs, head, width = sizes.embedding + sizes.prehead, sizes.head, sizes.decoder
        half, quarter, double = width // 2, width // 4, 2 * width
        self.last = half  # channels before the classifier
        self.IA1 = Gate(head, inputs)
        self.layer1 = GatedBottleneck(inputs, width)
        self.layer2 = GatedBottleneck(width, width, 1, 2)
        self.CLB2 = ConditioningBlock(width, head)
        self.layer3 = GatedBottleneck(width, double, 2)
        self.CLB3 = ConditioningBlock(width, head)
        self.layer4 = GatedBottleneck(double, double, 1, 2)
        self.CLB4 = ConditioningBlock(double, head)
        self.layer5 = GatedBottleneck(double, double, 1, 4)
        self.CLB5 = ConditioningBlock(double, head)
        self.IA9 = Gate(head + double, double)
        self.ASPP = Pyramid(double, half, width)
        corrections = ((double, double), (double, width), (width, width))
        for name in ("M1", "M2"):
            for number, (inside, outside) in enumerate(corrections, 1):
                self.add_module(f"{name}_Reweight_Layer_{number}", Gate(head, inside))
                self.add_module(f"{name}_Bottleneck_{number}", GatedBottleneck(inside, outside))
        self.GCT_sc = GCT(sizes.low + width)
        self.conv_sc = nn.Conv2d(sizes.low + width, quarter, 1, bias=False)
        self.bn_sc = group_norm(quarter, 16)
        self.IA10 = Gate(head + width + quarter, width + quarter)
        self.conv1 = nn.Conv2d(width + quarter, half, 3, 1, 1, bias=False)
        self.bn1 = group_norm(half)
        self.IA11 = Gate(head + half, half)
        self.conv2 = nn.Conv2d(half, half, 3, 1, 1, bias=False)
        self.bn2 = group_norm(half)
        self.IA_final_fg = nn.Linear(head, half + 1)
        self.IA_final_bg = nn.Linear(head, half + 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.ASPP.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(
        self, x: Tensor, head: Tensor, low: Tensor, kept: CarriedMaps | None
    ) -> tuple[Tensor, CarriedMaps]:
        """Return logits (N, h, w) and the maps to carry on.

        x: (N, C, h, w) embedding and matching; head: (N, A); low: (1, C_l, h, w) low-level features
        of the frame.
        """
        x, skip = self._calibrate(x, head, low)
        x = self.IA9(x, torch.cat([head, others(x)], 1))
        context = self.ASPP(x)
        earlier = kept if kept is not None and kept.fits(context) else None
        before = context.detach() if earlier is None else earlier.propagated
        x = self._correct("M1", context, before, head)
        first = x.detach() if earlier is None else earlier.corrected
        x = self._correct("M2", x, first, head)
        return self._classify(x, skip, head), CarriedMaps(context.detach(), first)

    def _calibrate(self, x: Tensor, head: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        """Return features at half the grid's resolution, and a skip at full resolution."""
        x = self.layer1(self.IA1(x, head))
        x = self.layer2(self.CLB2(x, head))
        skip = torch.cat([low.expand(len(x), -1, -1, -1), x], 1)
        x = self.layer3(self.CLB3(x, head))
        x = self.layer4(self.CLB4(x, head))
        return self.layer5(self.CLB5(x, head)), skip

    def _correct(self, name: str, x: Tensor, earlier: Tensor, head: Tensor) -> Tensor:
        x = torch.cat([x, earlier], 1)
        for number in (1, 2, 3):
            x = getattr(self, f"{name}_Reweight_Layer_{number}")(x, head)
            x = getattr(self, f"{name}_Bottleneck_{number}")(x)
        return x

    def _classify(self, x: Tensor, skip: Tensor, head: Tensor) -> Tensor:
        x = F.interpolate(x, skip.shape[2:], mode="bicubic", align_corners=True)
        x = torch.cat([x, F.relu(self.bn_sc(self.conv_sc(self.GCT_sc(skip))))], 1)
        x = F.relu(self.bn1(self.conv1(self.IA10(x, torch.cat([head, others(x)], 1)))))
        x = F.relu(self.bn2(self.conv2(self.IA11(x, torch.cat([head, others(x)], 1)))))
        own = self._linear(self.IA_final_fg(head), x)
        against = self._linear(self.IA_final_bg(head), x)
        if len(x) == 1:
            return own
        return torch.cat([own[:1] + against[1:].amin(0, keepdim=True), own[1:]])

    def _linear(self, code: Tensor, x: Tensor) -> Tensor:
        """Apply to each object's features the weights and the bias that its code holds."""
        weight, bias = code[:, : self.last], code[:, self.last]
        return (weight[:, None] @ x.flatten(2)).view(len(x), *x.shape[2:]) + bias[:, None, None]
