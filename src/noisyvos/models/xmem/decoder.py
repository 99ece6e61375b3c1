"""XMem's decoder: readout and hidden state to one logit plane per object (ECCV 2022, section
3.1).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.xmem.blocks import (
    FeatureFusion,
    GroupResidualBlock,
    flat,
    gated_update,
    spread,
)
from noisyvos.models.xmem.encoders import KeyFeatures, Widths


class UpsampleBlock(nn.Module):
    """Doubles the resolution of object features and adds the image's skip features."""

    def __init__(self, skip: int, inputs: int, outputs: int, normalised: bool = False) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip, inputs, 3, padding=1)
        self.out_conv = GroupResidualBlock(inputs, outputs, normalised)

    def forward(self, skip: Tensor, group: Tensor) -> Tensor:
        """Map (B, skip, 2H, 2W) and (B, N, inputs, H, W) to (B, N, outputs, 2H, 2W)."""
        batch, objects = group.shape[:2]
        up = F.interpolate(flat(group), scale_factor=2, mode="bilinear", align_corners=False)
        joined = up + spread(self.skip_conv(skip), objects)
        return self.out_conv(joined).unflatten(0, (batch, objects))


class HiddenUpdater(nn.Module):
    """The normal update: the hidden state from the decoder's features at three resolutions."""

    def __init__(self, deep: int, middle: int, fine: int, inner: int, hidden: int) -> None:
        super().__init__()
        self.g16_conv = nn.Conv2d(deep, inner, 1)
        self.g8_conv = nn.Conv2d(middle, inner, 1)
        self.g4_conv = nn.Conv2d(fine, inner, 1)
        self.transform = nn.Conv2d(inner + hidden, 3 * hidden, 3, padding=1)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(
        self, deep: Tensor, middle: Tensor, fine: Tensor, logits: Tensor, hidden: Tensor
    ) -> Tensor:
        """Return the new hidden state.

        Features are at stride s, s / 2 and s / 4. The logits (B * N, 1, 4h, 4w) join the finest,
        after both are reduced, which saves a copy of the finest.
        """
        finest = torch.cat([F.avg_pool2d(flat(fine), 4), F.avg_pool2d(logits, 4)], 1)
        joined = (
            self.g16_conv(flat(deep))
            + self.g8_conv(F.avg_pool2d(flat(middle), 2))
            + self.g4_conv(finest)
        )
        gates = self.transform(torch.cat([joined, flat(hidden)], 1))
        return gated_update(gates.unflatten(0, hidden.shape[:2]), hidden)


class Decoder(nn.Module):
    """Fuses, doubles the resolution twice with skips, predicts at stride / 4 and enlarges the
    logits.
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        deep, middle, fine = widths.decoder
        self.fuser = FeatureFusion(
            widths.features[0],
            widths.value + widths.hidden,
            deep,
            widths.reduction,
            widths.normalised,
        )
        if widths.hidden:
            self.hidden_update = HiddenUpdater(
                deep, middle, fine + 1, widths.hidden_inner, widths.hidden
            )
        self.up_16_8 = UpsampleBlock(widths.features[1], deep, middle, widths.normalised)
        self.up_8_4 = UpsampleBlock(widths.features[2], middle, fine, widths.normalised)
        self.pred = nn.Conv2d(fine, 1, 3, padding=1)
        self.enlarge = widths.stride // 4

    def forward(
        self,
        features: KeyFeatures,
        readout: Tensor,
        hidden: Tensor | None,
        *,
        update_hidden: bool = True,
    ) -> tuple[Tensor | None, Tensor]:
        """Return the hidden state (B, N, C_h, h, w) and object logits (B, N, H, W).

        readout (B, N, C_v, h, w). Without `update_hidden`, or without a hidden state, the first
        result is None.
        """
        batch, objects = readout.shape[:2]
        deep = self.fuser(
            features.deep, readout if hidden is None else torch.cat([readout, hidden], 2)
        )
        middle = self.up_16_8(features.middle, deep)
        fine = self.up_8_4(features.fine, middle)
        logits = self.pred(F.relu(flat(fine)))  # (B * N, 1, 4h, 4w)
        if update_hidden and hidden is not None:
            hidden = self.hidden_update(deep, middle, fine, logits, hidden)
        else:
            hidden = None
        enlarged = F.interpolate(
            logits.float(), scale_factor=self.enlarge, mode="bilinear", align_corners=False
        )
        return hidden, enlarged[:, 0].unflatten(0, (batch, objects))
