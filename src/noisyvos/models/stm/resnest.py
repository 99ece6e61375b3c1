"""STM on ResNeSt-101, with convolutions of several dilations on what is read from memory (published weights for DAVIS)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.base import MODELS, Clip
from noisyvos.models.stm.network import STM
from noisyvos.models.stm.settings import STMSettings
from noisyvos.models.stm.split_attention import resnest101_trunk
from noisyvos.models.stm_parts.decoder import Decoder, Prepared
from noisyvos.models.stm_parts.encoders import Trunk, pick

DILATIONS = (1, 2, 4, 8)
DROPPED = 0.5  # share of the joined features, in training


class Branch(nn.Module):
    """One dilation; the first is a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        side, pad = (1, 0) if dilation == 1 else (3, dilation)
        self.atrous_conv = nn.Conv2d(
            inputs, outputs, side, padding=pad, dilation=dilation, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, h, w) to (N, outputs, h, w)."""
        return F.relu(self.atrous_conv(x))


class AtrousPyramid(nn.Module):
    """Four dilations side by side, joined to as many channels as each has."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.aspp1, self.aspp2, self.aspp3, self.aspp4 = (
            Branch(inputs, outputs, dilation) for dilation in DILATIONS
        )
        self.conv1 = nn.Conv2d(outputs * len(DILATIONS), outputs, 1, bias=False)

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """Map (N, inputs, h, w) to (N, outputs, h, w); of the result only `kept`, bool of its shape, stays and makes up for the rest."""
        x = F.relu(
            self.conv1(
                torch.cat(
                    [branch(x) for branch in (self.aspp1, self.aspp2, self.aspp3, self.aspp4)], 1
                )
            )
        )
        return x if kept is None else x * kept / (1 - DROPPED)


class WholeDecoder(Decoder):
    """STM's decoder for readout and query value that were joined before."""

    def half(self, value: Tensor) -> Tensor:
        """Hand on the query's value (B, C_v, h, w), which the pyramid needs."""
        return value

    def first(self, read: Tensor, value: Tensor, owner: Tensor) -> Tensor:
        """Apply the first convolution to what the pyramid made of readout and value, (N, width, h, w)."""
        return self.convFM(read)


@MODELS.register("stm_resnest101", STMSettings)
class STMResNeSt101(STM):
    """STM with ResNeSt-101 encoders and a pyramid of dilations before the decoder."""

    def __init__(self, settings: STMSettings) -> None:
        super().__init__(settings)
        self.aspp = AtrousPyramid(
            2 * self.KV_Q_r4.Value.out_channels, self.Decoder.convFM.in_channels
        )

    @staticmethod
    def make_trunk(settings: STMSettings) -> Trunk:
        """Return how the encoders are built."""
        return resnest101_trunk(128, 512)

    @staticmethod
    def make_decoder(trunk: Trunk) -> Decoder:
        """Return the decoder."""
        return WholeDecoder(trunk, trunk.decoder)

    def segment(
        self, prepared: Prepared, read: Tensor, owner: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """Return two logits per object, (N, 2, H, W), from what was read (N, C_v, h, w)."""
        joined = self.aspp(torch.cat([read, pick(prepared.value, owner)], 1), kept)
        return self.Decoder(prepared, joined, owner)

    def draw_kept(
        self, clip: Clip, owner: Tensor, size: tuple[int, int], generator: torch.Generator
    ) -> list[Tensor] | list[None]:
        """Draw dropout for the objects of each later frame; each sample has a stream of its own, whatever else is in its batch."""
        later = clip.frames.shape[1] - 1
        if not self.training:
            return [None] * later
        start, whole = clip.place()
        seeds = torch.randint(2**62, (whole,), generator=generator)[
            start : start + len(clip.frames)
        ]
        shape = (later, self.Decoder.convFM.in_channels, *size)
        draws = []
        for seed, count in zip(
            seeds.tolist(), owner.bincount(minlength=len(clip.frames)).tolist(), strict=True
        ):
            own = torch.Generator().manual_seed(seed)
            draws.append(torch.rand(count, *shape, generator=own) >= DROPPED)
        return list(torch.cat(draws).to(owner.device).unbind(1))
