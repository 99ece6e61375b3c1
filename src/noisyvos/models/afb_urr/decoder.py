"""AFB-URR's decoder: uncertain-region refinement (NeurIPS 2020, section 3.3).

STM's coarse decoder runs first. Then, where objects compete for a pixel, local features correct its
logits. Objects of all frames form one batch, and background is an object among the others.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.aggregation import CLAMP, Pads, crop
from noisyvos.models.stm_parts import decoder
from noisyvos.models.stm_parts.encoders import EncoderFeatures, Trunk, pick
from noisyvos.models.stm_parts.matching import object_probabilities

# side of the neighbourhood, at half resolution, over which local features are averaged
WINDOW = 7
# score of a given pixel; its negative is the score of a pixel ruled out or of an unused slot
CERTAIN = 1000.0


@dataclass(frozen=True)
class Owners:
    """The frame and the slot of each of N objects; background is one of a frame's objects."""

    frame: Tensor  # (N,) int64
    slot: Tensor  # (N,) int64, 0 is background
    frames: int  # F
    slots: int  # S, background included

    @classmethod
    def of_one_frame(cls, slots: int, device: torch.device) -> "Owners":
        """Return the owners where one frame has an object in every slot."""
        slot = torch.arange(slots, device=device)
        return cls(torch.zeros_like(slot), slot, 1, slots)

    def spread(self, planes: Tensor, fill: float) -> Tensor:
        """Return planes (N, H, W) as (F, S, H, W), with `fill` in slots without an object."""
        if self.frames == 1 and len(planes) == self.slots:
            return planes[None]
        filled = planes.new_full((self.frames, self.slots, *planes.shape[1:]), fill)
        return filled.index_put((self.frame, self.slot), planes)

    def softmax(self, planes: Tensor) -> Tensor:
        """Return the softmax of planes (N, H, W) over each frame's objects, (F, S, H, W).

        Slots without an object are 0.
        """
        return torch.softmax(self.spread(planes, -torch.inf), 1)


def uncertainty(shares: Tensor) -> Tensor:
    """Return exp(1 - largest / second largest) of shares (F, S, H, W) over S, (F, H, W) in (0,
    1].
    """
    first, second = shares.topk(2, dim=1).values.unbind(1)
    return torch.exp(1 - first / (second + 1e-8))


def scores(probabilities: Tensor) -> Tensor:
    """Return ln(S / (1 - S)) of probabilities S in [0, 1], clamped to [1e-7, 1 - 1e-7] first."""
    return torch.logit(probabilities.clamp(CLAMP, 1 - CLAMP))


@dataclass(frozen=True)
class PreparedWithLocal:
    """The decoder's work on F frames that all objects of a frame share."""

    coarse: decoder.Prepared
    finest: Tensor  # (F, C, H / 2, W / 2)
    local: Tensor  # (F, L, H / 2, W / 2) share of `finest` in the first local convolution


class RefiningDecoder(decoder.Decoder):
    """Two logits (not the object, the object) a pixel, coarse and then refined."""

    def __init__(self, trunk: Trunk, local: int) -> None:
        super().__init__(trunk)
        self.local_convFM = nn.Conv2d(2 * trunk.first, local, 3, padding=1)
        self.local_ResMM = decoder.ResidualBlock(local)
        self.local_pred2 = nn.Conv2d(local, 2, 3, padding=1)

    def share_with_local(self, features: EncoderFeatures, value: Tensor) -> PreparedWithLocal:
        """Do what all objects of a frame share; value (F, C_v, h, w) is the query's.

        Convolutions are linear in their joined inputs, so the frame's half of the first local one
        is done here.
        """
        finest = features.finest
        weight = self.local_convFM.weight[:, : finest.shape[1]]
        local = F.conv2d(finest, weight, self.local_convFM.bias, padding=1)
        return PreparedWithLocal(self.share(features, value), finest, local)

    def refine(self, prepared: PreparedWithLocal, read: Tensor, owners: Owners) -> Tensor:
        """Return logits (N, 2, H, W) float32 of N objects from the readout (N, C_v, h, w)."""
        logits = self.coarse(prepared.coarse, read, owners.frame)
        logits = F.interpolate(
            logits, scale_factor=self.enlarge // 2, mode="bilinear", align_corners=False
        )
        # a softmax of probabilities: flat, as trained and published
        shares = owners.softmax(object_probabilities(logits))
        rough = shares[owners.frame, owners.slot]
        local = self.local(prepared, self.reference(prepared, rough, owners), owners)
        correction = self.confidence(rough) * local
        logits = logits + pick(uncertainty(shares), owners.frame)[:, None] * correction
        return F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)

    def reference(self, prepared: PreparedWithLocal, rough: Tensor, owners: Owners) -> Tensor:
        """Return each object's mean features around a pixel, (N, C, H / 2, W / 2).

        Weighted by the object's rough share (N, H / 2, W / 2).
        """
        weights = rough[:, None]
        return _mean(pick(prepared.finest, owners.frame) * weights) / (_mean(weights) + 1e-8)

    def confidence(self, rough: Tensor) -> Tensor:
        """Return the largest rough share (N, H / 2, W / 2) around a pixel, (N, 1, H / 2, W / 2)."""
        return F.max_pool2d(rough[:, None], WINDOW, 1, WINDOW // 2)

    def local(self, prepared: PreparedWithLocal, reference: Tensor, owners: Owners) -> Tensor:
        """Return logits from a frame's finest features and an object's reference.

        (N, 2, H / 2, W / 2) float32.
        """
        weight = self.local_convFM.weight[:, reference.shape[1] :]
        own = F.conv2d(reference.to(prepared.local.dtype), weight, None, padding=1)
        x = self.local_ResMM(own + pick(prepared.local, owners.frame))
        return self.local_pred2(F.relu(x)).float()


def _mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, WINDOW, 1, WINDOW // 2)


def probabilities(logits: Tensor, pads: Pads, size: tuple[int, int]) -> Tensor:
    """Return the objects' probabilities (N, H, W) of padded logits (N, 2, H', W')."""
    return crop(object_probabilities(logits), pads, *size)
