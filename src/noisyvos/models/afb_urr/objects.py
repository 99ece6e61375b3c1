"""What AFB-URR does across the objects of a frame: softmax, uncertainty and scores (NeurIPS 2020, section 3.3).

Background is an object among the others. Objects of all frames form one batch; `Owners` says which frame each belongs to.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from noisyvos.models.matching import CLAMP

CERTAIN = 1000.0  # score of a pixel that is given; with a minus, of one ruled out or of a slot without an object


@dataclass(frozen=True)
class Owners:
    """Where N objects belong."""

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
        return planes.new_full((self.frames, self.slots, *planes.shape[1:]), fill).index_put(
            (self.frame, self.slot), planes
        )

    def softmax(self, planes: Tensor) -> Tensor:
        """Return the softmax of planes (N, H, W) over each frame's objects, (F, S, H, W); slots without an object are 0."""
        return torch.softmax(self.spread(planes, -torch.inf), 1)


def uncertainty(shares: Tensor) -> Tensor:
    """Return exp(1 - largest / second largest) of shares (F, S, H, W) over S, (F, H, W) in (0, 1]."""
    first, second = shares.topk(2, dim=1).values.unbind(1)
    return torch.exp(1 - first / (second + 1e-8))


def scores(probabilities: Tensor) -> Tensor:
    """Return ln(S / (1 - S)) of probabilities S in [0, 1], clamped to [1e-7, 1 - 1e-7] first."""
    return torch.logit(probabilities.clamp(CLAMP, 1 - CLAMP))
