"""STM's decoder: the memory readout to a mask, refined twice (STM, ICCV 2019, section 3.3)."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.stm_parts.encoders import EncoderFeatures, Trunk, pick


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, and a shortcut; no normalisation.

    The shortcut adds the input, or the first ReLU's output if `rectified`.
    """

    def __init__(self, width: int, rectified: bool = False) -> None:
        super().__init__()
        self.rectified = rectified
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        positive = F.relu(x)
        shortcut = positive if self.rectified else x
        return shortcut + self.conv2(F.relu(self.conv1(positive)))


class Refine(nn.Module):
    """Joins skip features with decoder features of half their size."""

    def __init__(self, inputs: int, width: int, rectified: bool) -> None:
        super().__init__()
        self.convFS = nn.Conv2d(inputs, width, 3, padding=1)
        self.ResFS = ResidualBlock(width, rectified)
        self.ResMM = ResidualBlock(width, rectified)

    def skip(self, x: Tensor) -> Tensor:
        """Map skip features (B, inputs, H, W) to (B, width, H, W), equal for all objects."""
        return self.ResFS(self.convFS(x))

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """Join (N, width, H, W) from `skip` and (N, width, H / 2, W / 2)."""
        enlarged = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        return self.ResMM(skip + enlarged)


@dataclass(frozen=True)
class Prepared:
    """The decoder's work on B frames that all objects of a frame share."""

    value: Tensor  # (B, C, h, w) what `Decoder.value_share` makes of the query's value
    middle: Tensor  # (B, width, 2h, 2w)
    fine: Tensor  # (B, width, 4h, 4w)

    def at(self, index: int, clips: int) -> "Prepared":
        """Return frame `index` of each of `clips` clips, given all their frames."""
        return Prepared(
            *(x.unflatten(0, (clips, -1))[:, index] for x in (self.value, self.middle, self.fine))
        )


class Decoder(nn.Module):
    """One width throughout; two logits (not the object, the object) a pixel.

    `inputs`: channels of the first convolution, if not those of readout and value.
    """

    def __init__(self, trunk: Trunk, inputs: int | None = None) -> None:
        super().__init__()
        width, rectified = trunk.decoder, trunk.rectified
        self.convFM = nn.Conv2d(inputs or 2 * trunk.value, width, 3, padding=1)
        self.ResMM = ResidualBlock(width, rectified)
        self.RF3 = Refine(trunk.features[1], width, rectified)
        self.RF2 = Refine(trunk.features[2], width, rectified)
        self.pred2 = nn.Conv2d(width, 2, 3, padding=1)
        self.enlarge = trunk.stride // 4

    def share(self, features: EncoderFeatures, value: Tensor) -> Prepared:
        """Do what all objects of a frame share; value (B, C_v, h, w) is the query's."""
        return Prepared(
            self.value_share(value), self.RF3.skip(features.middle), self.RF2.skip(features.fine)
        )

    def value_share(self, value: Tensor) -> Tensor:
        """Return the share (B, width, h, w) of the query's value in the first convolution.

        The convolution is linear in readout and value, so it splits into two.
        """
        return F.conv2d(value, self.convFM.weight[:, value.shape[1] :], self.convFM.bias, padding=1)

    def first(self, read: Tensor, value_share: Tensor, owner: Tensor) -> Tensor:
        """Return the first convolution's output (N, width, h, w); read is (N, C_v, h, w)."""
        own = F.conv2d(read, self.convFM.weight[:, : read.shape[1]], None, padding=1)
        return own + pick(value_share, owner)

    def coarse(self, prepared: Prepared, read: Tensor, owner: Tensor) -> Tensor:
        """Return logits (N, 2, 4h, 4w) float32 of N objects.

        read (N, C_v, h, w) comes from memory; owner (N,) is the frame of each object.
        """
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
