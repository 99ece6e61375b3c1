"""STM's decoder: what was read from memory to a mask, refined twice (Oh et al., ICCV 2019, section 3.3)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.fast.folding import convolve
from noisyvos.models.stm_parts.encoders import Features, Trunk, pick


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, and the identity (or the first ReLU, if `rectified`); no normalisation."""

    def __init__(self, width: int, rectified: bool = False) -> None:
        super().__init__()
        self.rectified = rectified
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        positive = F.relu(x)
        kept = positive if self.rectified else x
        if torch.is_grad_enabled():
            return kept + self.conv2(F.relu(self.conv1(positive)))
        return convolve(self.conv2, convolve(self.conv1, positive, relu=True), plus=kept)


class Refine(nn.Module):
    """Skip features joined with twice enlarged decoder features."""

    def __init__(self, inputs: int, width: int, rectified: bool) -> None:
        super().__init__()
        self.convFS = nn.Conv2d(inputs, width, 3, padding=1)
        self.ResFS = ResidualBlock(width, rectified)
        self.ResMM = ResidualBlock(width, rectified)

    def skip(self, x: Tensor) -> Tensor:
        """Map skip features (B, inputs, H, W) to (B, width, H, W); no object plays a part in it."""
        return self.ResFS(self.convFS(x))

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """Join (N, width, H, W) from `skip` and (N, width, H / 2, W / 2)."""
        return self.ResMM(
            skip + F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        )


@dataclass(frozen=True)
class Prepared:
    """What the decoder knows of B frames before it looks at an object."""

    value: Tensor  # (B, C, h, w) what `Decoder.half` makes of the query's value
    middle: Tensor  # (B, width, 2h, 2w)
    fine: Tensor  # (B, width, 4h, 4w)

    def at(self, index: int, clips: int) -> "Prepared":
        """Return frame `index` of each of `clips` clips, given all their frames."""
        return Prepared(
            *(x.unflatten(0, (clips, -1))[:, index] for x in (self.value, self.middle, self.fine))
        )


class Decoder(nn.Module):
    """One width throughout; two logits (not the object, the object) a pixel. `inputs`: channels, if not those of readout and value."""

    def __init__(self, trunk: Trunk, inputs: int | None = None) -> None:
        super().__init__()
        width, rectified = trunk.decoder, trunk.rectified
        self.convFM = nn.Conv2d(inputs or 2 * trunk.value, width, 3, padding=1)
        self.ResMM = ResidualBlock(width, rectified)
        self.RF3 = Refine(trunk.features[1], width, rectified)
        self.RF2 = Refine(trunk.features[2], width, rectified)
        self.pred2 = nn.Conv2d(width, 2, 3, padding=1)
        self.enlarge = trunk.stride // 4

    def prepare(self, features: Features, value: Tensor) -> Prepared:
        """Do once per frame what all its objects share; value (B, C_v, h, w) is the query's own."""
        return Prepared(
            self.half(value), self.RF3.skip(features.middle), self.RF2.skip(features.fine)
        )

    def half(self, value: Tensor) -> Tensor:
        """Return the share (B, width, h, w) of the query's value in the first convolution, which is linear in readout and value."""
        return F.conv2d(value, self.convFM.weight[:, value.shape[1] :], self.convFM.bias, padding=1)

    def first(self, read: Tensor, half: Tensor, owner: Tensor) -> Tensor:
        """Return the first convolution's output (N, width, h, w) from the readout (N, C_v, h, w) and what `half` returned."""
        return F.conv2d(read, self.convFM.weight[:, : read.shape[1]], None, padding=1) + pick(
            half, owner
        )

    def coarse(self, prepared: Prepared, read: Tensor, owner: Tensor) -> Tensor:
        """Return logits (N, 2, 4h, 4w) float32 of N objects: read (N, C_v, h, w) from memory, owner (N,) the frame of each."""
        x = self.ResMM(self.first(read, prepared.value, owner))
        x = self.RF3(pick(prepared.middle, owner), x)
        x = self.RF2(pick(prepared.fine, owner), x)
        return self.pred2(F.relu(x)).float()

    def forward(self, prepared: Prepared, read: Tensor, owner: Tensor) -> Tensor:
        """Return the logits at full size, (N, 2, H, W) float32; arguments as of `coarse`."""
        return F.interpolate(
            self.coarse(prepared, read, owner),
            scale_factor=self.enlarge,
            mode="bilinear",
            align_corners=False,
        )
