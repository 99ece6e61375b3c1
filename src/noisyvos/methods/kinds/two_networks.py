"""Two networks that select pixels by small losses: for each other (co-teaching) or jointly
(JoCoR).
"""

from abc import abstractmethod
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from noisyvos.losses.pixels import VOID, Frame, dice_loss, frame
from noisyvos.losses.selection import boundary_band, kept_share, pixel_mean, small_loss_pixels
from noisyvos.methods.base import METHODS, Method
from noisyvos.models.base import Clip, ClipOutput
from noisyvos.registry import Settings


class PairSettings(Settings):
    """Settings shared by methods with two networks."""

    dice: float = Field(1.0, ge=0, description="Weight of dice over the kept pixels.")


class PixelSettings(PairSettings):
    """Settings of `coteach`."""

    forgotten: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="Share of the pixels of a class in the band that are dropped at the end.",
    )
    ramp: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Share of the training over which the dropped share grows to that value.",
    )
    band: float = Field(
        0.15,
        gt=0,
        le=1,
        description=(
            "Half width of the band around boundaries, in units of the square root of "
            "the object's area."
        ),
    )


class FrameSettings(PairSettings):
    """Settings of `coteach_frame`."""

    first: float = Field(0.95, gt=0, le=1, description="Share of frames kept at the start.")
    fall: float = Field(
        0.1, ge=0, lt=1, description="How much the kept share falls by the end of the training."
    )


class JointSettings(PixelSettings):
    """Settings of `jocor`."""

    agreement: float = Field(
        0.9,
        ge=0,
        le=1,
        description=(
            "Weight of the divergence between the networks; cross-entropies get the rest."
        ),
    )


class TwoNetworks(Method):
    """Base of methods with two networks. `terms` gets the other network's logits as
    `teacher_logits`.
    """

    networks = 2
    averaged = ("top_p", "kept", "disagreement")
    settings: PairSettings

    def total(
        self, logits: Tensor, kept_target: Tensor, num_objects: Tensor, loss: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean of `loss` (B,) plus weighted dice, and the dice term.

        Dice covers the pixels that are not void in `kept_target`.
        """
        if not self.settings.dice:
            return loss.mean(), {}
        dice = dice_loss(frame(logits, kept_target, num_objects))
        return loss.mean() + self.settings.dice * dice, {"dice": dice}


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """Return the share of pixels that two networks label differently, a scalar."""
    return (first.detach().argmax(1) != second.detach().argmax(1)).float().mean()


class CoTeaching(TwoNetworks):
    """Each network learns from the pixels that its peer selects."""

    @abstractmethod
    def keep(self, peer: Frame, iteration: int) -> tuple[Tensor, float]:
        """Return the pixels (B, H, W) that the peer keeps, and the target share."""

    def kept_pixels(self, first: Frame, second: Frame, iteration: int) -> Tensor:
        return self.keep(second, iteration)[0]

    def terms(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        num_objects: Tensor,
        teacher_logits: Tensor | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return one network's terms over the pixels that its peer keeps.

        They are `ce` (B,), `dice`, `kept` (B,) (share of kept pixels), `top_p` and `total`.
        teacher_logits are the peer's logits. Without them the network selects for itself.
        """
        now = frame(logits, target, num_objects)
        with torch.no_grad():
            peer = (
                now
                if teacher_logits is None
                else frame(teacher_logits.detach(), target, num_objects)
            )
            keep, share = self.keep(peer, iteration)
        ce = pixel_mean(now.cross_entropy, keep)
        total, dice = self.total(logits, target.masked_fill(~keep, VOID), num_objects, ce)
        kept = keep.flatten(1).sum(1) / now.valid.flatten(1).sum(1).clamp(min=1)
        return {"total": total, "ce": ce, "kept": kept, "top_p": share, **dice}

    def clip_loss(
        self,
        outputs: list[ClipOutput],
        clip: Clip,
        *,
        teacher: ClipOutput | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return both networks' terms and their `disagreement`.

        `total` is the sum over the two networks, other terms are means.
        """
        frames = []
        for index, (first, second) in enumerate(zip(outputs[0].logits, outputs[1].logits)):
            one, two = (
                self.terms(
                    own,
                    clip.masks[:, index + 1],
                    num_objects=clip.num_objects,
                    teacher_logits=peer,
                    iteration=iteration,
                )
                for own, peer in ((first, second), (second, first))
            )
            both = {name: (one[name] + two[name]) / (1 if name == "total" else 2) for name in one}
            frames.append({**both, "disagreement": disagreement(first, second)})
        return self.over_frames(frames)


@METHODS.register("coteach", PixelSettings)
class PixelCoTeaching(CoTeaching):
    """Pixels are selected per class in the band around boundaries. All pixels outside are kept."""

    settings: PixelSettings

    def keep(self, peer: Frame, iteration: int) -> tuple[Tensor, float]:
        share = kept_share(iteration, self.length, self.settings.forgotten, self.settings.ramp)
        band = boundary_band(peer, self.settings.band)
        return small_loss_pixels(peer.cross_entropy, peer, band, share), share


@METHODS.register("coteach_frame", FrameSettings)
class FrameCoTeaching(CoTeaching):
    """Whole frames of the batch are kept or dropped, as in ActiSeg-NL.

    This is expected to fail if every frame is noisy.
    """

    settings: FrameSettings
    in_parts = False

    def keep(self, peer: Frame, iteration: int) -> tuple[Tensor, float]:
        share = self.settings.first - self.settings.fall * min(iteration / self.length, 1.0)
        losses = pixel_mean(peer.cross_entropy, peer.valid)
        whole = torch.cat(self.from_all(losses.detach().cpu()))
        # frames of equal loss are all kept or all dropped
        limit = whole.sort().values[max(1, int(share * len(whole))) - 1]
        return peer.valid & (losses <= limit.to(losses)).view(-1, 1, 1), share


@METHODS.register("jocor", JointSettings)
class JointTraining(TwoNetworks):
    """Both networks learn on the pixels with a small joint loss."""

    settings: JointSettings

    def joint_loss(self, first: Frame, second: Frame) -> Tensor:
        """Return (1 - weight) (CE_1 + CE_2) + weight (KL_12 + KL_21) of every pixel, (B, H, W)."""
        difference = first.log_probabilities - second.log_probabilities
        divergence = ((first.probabilities - second.probabilities) * difference).sum(1)
        weight = self.settings.agreement
        return (1 - weight) * (first.cross_entropy + second.cross_entropy) + weight * divergence

    def keep(self, loss: Tensor, now: Frame, iteration: int) -> tuple[Tensor, float]:
        """Return the pixels (B, H, W) of smallest joint loss, and the target share."""
        share = kept_share(iteration, self.length, self.settings.forgotten, self.settings.ramp)
        return small_loss_pixels(loss, now, boundary_band(now, self.settings.band), share), share

    def kept_pixels(self, first: Frame, second: Frame, iteration: int) -> Tensor:
        return self.keep(self.joint_loss(first, second), first, iteration)[0]

    def terms(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        num_objects: Tensor,
        teacher_logits: Tensor | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return `joint` (B,) over the kept pixels, `dice` of both, `kept` (B,), `top_p` and
        `total`.

        teacher_logits are the other network's logits, which get gradients too. Without them the
        network is its own peer.
        """
        peer_logits = logits if teacher_logits is None else teacher_logits
        now, peer = frame(logits, target, num_objects), frame(peer_logits, target, num_objects)
        loss = self.joint_loss(now, peer)
        keep, share = self.keep(loss, now, iteration)
        joint = pixel_mean(loss, keep)
        kept_target = target.masked_fill(~keep, VOID)
        total, dice = self.total(
            torch.cat([logits, peer_logits]),
            kept_target.repeat(2, 1, 1),
            num_objects.repeat(2),
            joint,
        )
        kept = keep.flatten(1).sum(1) / now.valid.flatten(1).sum(1).clamp(min=1)
        return {"total": total, "joint": joint, "kept": kept, "top_p": share, **dice}

    def clip_loss(
        self,
        outputs: list[ClipOutput],
        clip: Clip,
        *,
        teacher: ClipOutput | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return the joint terms of both networks and their `disagreement`."""
        frames = []
        for index, (first, second) in enumerate(zip(outputs[0].logits, outputs[1].logits)):
            target = clip.masks[:, index + 1]
            terms = self.terms(
                first,
                target,
                num_objects=clip.num_objects,
                teacher_logits=second,
                iteration=iteration,
            )
            frames.append({**terms, "disagreement": disagreement(first, second)})
        return self.over_frames(frames)
