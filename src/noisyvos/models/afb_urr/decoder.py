"""AFB-URR's decoder: STM's coarse one, then a correction where objects compete for a pixel (NeurIPS 2020, section 3.3)."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.afb_urr.objects import Owners, uncertainty
from noisyvos.models.stm_parts import decoder
from noisyvos.models.stm_parts.encoders import Features, Trunk, pick
from noisyvos.models.stm_parts.matching import object_probabilities

WINDOW = 7  # side of the neighbourhood that local features are averaged over, at half resolution


@dataclass(frozen=True)
class Prepared:
    """What the decoder knows of F frames before it looks at an object."""

    coarse: decoder.Prepared
    finest: Tensor  # (F, C, H / 2, W / 2)
    local: Tensor  # (F, L, H / 2, W / 2) share of `finest` in the first local convolution


class Decoder(decoder.Decoder):
    """Two logits (not the object, the object) a pixel, coarse and then refined."""

    def __init__(self, trunk: Trunk, local: int) -> None:
        super().__init__(trunk)
        self.local_convFM = nn.Conv2d(2 * trunk.first, local, 3, padding=1)
        self.local_ResMM = decoder.ResidualBlock(local)
        self.local_pred2 = nn.Conv2d(local, 2, 3, padding=1)

    def prepare(self, features: Features, value: Tensor) -> Prepared:
        """Do once per frame what all its objects share; value (F, C_v, h, w) is the query's own.

        Convolutions are linear in what they are given side by side, so the frame's half of the first two is done here.
        """
        finest = features.finest
        local = F.conv2d(
            finest,
            self.local_convFM.weight[:, : finest.shape[1]],
            self.local_convFM.bias,
            padding=1,
        )
        return Prepared(super().prepare(features, value), finest, local)

    def forward(self, prepared: Prepared, read: Tensor, owners: Owners) -> Tensor:
        """Return logits (N, 2, H, W) float32 of N objects: read (N, C_v, h, w) from memory."""
        logits = self.coarse(prepared.coarse, read, owners.frame)
        logits = F.interpolate(
            logits, scale_factor=self.enlarge // 2, mode="bilinear", align_corners=False
        )
        shares = owners.softmax(
            object_probabilities(logits)
        )  # of probabilities: flat, as trained and published
        rough = shares[owners.frame, owners.slot]
        correction = self.confidence(rough) * self.local(
            prepared, self.reference(prepared, rough, owners), owners
        )
        logits = logits + pick(uncertainty(shares), owners.frame)[:, None] * correction
        return F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)

    def reference(self, prepared: Prepared, rough: Tensor, owners: Owners) -> Tensor:
        """Return each object's mean features around a pixel, (N, C, H / 2, W / 2), weighted by its rough share (N, H / 2, W / 2)."""
        weights = rough[:, None]
        return _mean(pick(prepared.finest, owners.frame) * weights) / (_mean(weights) + 1e-8)

    def confidence(self, rough: Tensor) -> Tensor:
        """Return the largest rough share (N, H / 2, W / 2) around a pixel, (N, 1, H / 2, W / 2)."""
        return F.max_pool2d(rough[:, None], WINDOW, 1, WINDOW // 2)

    def local(self, prepared: Prepared, reference: Tensor, owners: Owners) -> Tensor:
        """Return the logits of a frame's finest features beside an object's reference, (N, 2, H / 2, W / 2) float32."""
        own = F.conv2d(
            reference.to(prepared.local.dtype),
            self.local_convFM.weight[:, reference.shape[1] :],
            None,
            padding=1,
        )
        return self.local_pred2(
            F.relu(self.local_ResMM(own + pick(prepared.local, owners.frame)))
        ).float()


def _mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, WINDOW, 1, WINDOW // 2)


def probabilities(logits: Tensor, pads: tuple[int, int, int, int], size: tuple[int, int]) -> Tensor:
    """Return the objects' probabilities (N, H, W) of padded logits (N, 2, H', W')."""
    left, _, top, _ = pads
    return object_probabilities(logits)[:, top : top + size[0], left : left + size[1]]
