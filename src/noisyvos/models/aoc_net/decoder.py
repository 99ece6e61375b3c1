"""AOC-Net's decoder: matching maps and features to logits.

Features are calibrated four times and corrected by two feature maps carried from earlier frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.aoc_net.blocks import (
    GCT,
    HEAD,
    ConditioningBlock,
    Gate,
    GatedBottleneck,
    Pyramid,
    group_norm,
    others,
)

LAST = 128  # channels before the classifier


@dataclass(frozen=True)
class CarriedMaps:
    """Feature maps that a video keeps beside its references, detached (N, 256, h / 2, w / 2).

    propagated: the pyramid's output of the previous frame; corrected: the first correction's output
    of the first predicted frame.
    """

    propagated: Tensor
    corrected: Tensor

    def fits(self, like: Tensor) -> bool:
        """Return whether both have the shape of `like`, which new objects change."""
        return self.propagated.shape == like.shape == self.corrected.shape


class CalibratedDecoder(nn.Module):
    """Published names; layer1 takes embedding and pre-head, 164 channels."""

    def __init__(self, inputs: int = 164) -> None:
        super().__init__()
        self.IA1 = Gate(HEAD, inputs)
        self.layer1 = GatedBottleneck(inputs, 256)
        self.layer2 = GatedBottleneck(256, 256, 1, 2)
        self.CLB2 = ConditioningBlock(256)
        self.layer3 = GatedBottleneck(256, 512, 2)
        self.CLB3 = ConditioningBlock(256)
        self.layer4 = GatedBottleneck(512, 512, 1, 2)
        self.CLB4 = ConditioningBlock(512)
        self.layer5 = GatedBottleneck(512, 512, 1, 4)
        self.CLB5 = ConditioningBlock(512)
        self.IA9 = Gate(HEAD + 512, 512)
        self.ASPP = Pyramid()
        for name in ("M1", "M2"):
            for number, (inside, outside) in enumerate(((512, 512), (512, 256), (256, 256)), 1):
                self.add_module(f"{name}_Reweight_Layer_{number}", Gate(HEAD, inside))
                self.add_module(f"{name}_Bottleneck_{number}", GatedBottleneck(inside, outside))
        self.GCT_sc = GCT(512)
        self.conv_sc = nn.Conv2d(512, 64, 1, bias=False)
        self.bn_sc = group_norm(64, 16)
        self.IA10 = Gate(HEAD + 320, 320)
        self.conv1 = nn.Conv2d(320, LAST, 3, 1, 1, bias=False)
        self.bn1 = group_norm(LAST)
        self.IA11 = Gate(HEAD + LAST, LAST)
        self.conv2 = nn.Conv2d(LAST, LAST, 3, 1, 1, bias=False)
        self.bn2 = group_norm(LAST)
        self.IA_final_fg = nn.Linear(HEAD, LAST + 1)
        self.IA_final_bg = nn.Linear(HEAD, LAST + 1)
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

        x: (N, 164, h, w) matching and embedding; head: (N, 400); low: (1, 256, h, w) low-level
        features of the frame.
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

    @staticmethod
    def _linear(code: Tensor, x: Tensor) -> Tensor:
        """Apply to each object's features the weights and the bias that its code holds."""
        weight, bias = code[:, :LAST], code[:, LAST]
        return (weight[:, None] @ x.flatten(2)).view(len(x), *x.shape[2:]) + bias[:, None, None]
