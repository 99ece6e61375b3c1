"""XMem's decoder: readout and hidden state to one logit plane per object (ECCV 2022, section 3.1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.xmem.blocks import FeatureFusion, HiddenUpdater, UpsampleBlock, flat
from noisyvos.models.xmem.encoders import Features, Widths


class Decoder(nn.Module):
    """Fuse, double the resolution twice with skips, predict at a quarter of the stride and enlarge the logits."""

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
        features: Features,
        readout: Tensor,
        hidden: Tensor | None,
        *,
        update_hidden: bool = True,
    ) -> tuple[Tensor | None, Tensor]:
        """Return the hidden state (B, N, C_h, h, w) and object logits (B, N, H, W).

        readout (B, N, C_v, h, w). Without `update_hidden`, or without a hidden state, the first result is None.
        """
        batch, objects = readout.shape[:2]
        deep = self.fuser(
            features.deep, readout if hidden is None else torch.cat([readout, hidden], 2)
        )
        middle = self.up_16_8(features.middle, deep)
        fine = self.up_8_4(features.fine, middle)
        logits = self.pred(F.relu(flat(fine)))  # (B * N, 1, 4h, 4w)
        if update_hidden and hidden is not None:
            joined = torch.cat([fine, logits.unflatten(0, (batch, objects))], 2)
            hidden = self.hidden_update(deep, middle, joined, hidden)
        else:
            hidden = None
        enlarged = F.interpolate(
            logits.float(), scale_factor=self.enlarge, mode="bilinear", align_corners=False
        )
        return hidden, enlarged[:, 0].unflatten(0, (batch, objects))
