"""The AFB-URR network (Liang et al., NeurIPS 2020) at its published size, with the published parameter names."""

import copy
from typing import ClassVar, Self

import torch
from torch import Tensor

from noisyvos.models import resnet
from noisyvos.models.afb_urr import clips
from noisyvos.models.afb_urr.decoder import Decoder, Prepared
from noisyvos.models.afb_urr.objects import Owners
from noisyvos.models.afb_urr.settings import AFBURRMemory, AFBURRSettings
from noisyvos.models.base import MODELS, Clip, ClipOutput, Session, VideoModel
from noisyvos.models.fast.folding import with_fast_convolutions
from noisyvos.models.stm_parts.encoders import KeyValue, MemoryEncoder, QueryEncoder, Trunk
from noisyvos.models.stm_parts.trunks import resnet_trunk
from noisyvos.registry import Settings


@MODELS.register("afb_urr", AFBURRSettings)
class AFBURR(VideoModel):
    """Two encoders, one key-value head for both, and a decoder that refines; the bank lives outside.

    `memorize`, `look` and `segment` take frames and masks that are padded already, and objects of all frames in one batch.
    """

    memory_settings = AFBURRMemory
    memory_format: ClassVar[torch.memory_format] = (
        torch.contiguous_format
    )  # of frames and weights in training

    def __init__(self, settings: AFBURRSettings) -> None:
        super().__init__()
        self.settings = settings
        trunk = self.make_trunk(settings)
        self.stride = trunk.stride
        self.encoder_m = MemoryEncoder(trunk)
        self.encoder_q = QueryEncoder(trunk)
        self.keyval_r4 = KeyValue(trunk)
        self.decoder = Decoder(trunk, self.local_channels(settings))
        self.initialise()

    def initialise(self) -> None:
        """Draw the decoder's weights and those of mask convolutions as published; all else is drawn already."""
        resnet.initialise(self.decoder)
        for masks in (self.encoder_m.conv1_m, self.encoder_m.conv1_o):
            masks.reset_parameters()

    @staticmethod
    def make_trunk(settings: AFBURRSettings) -> Trunk:
        """Return how the encoders are built."""
        return resnet_trunk(resnet.Bottleneck, (3, 4, 6), 128, 512)

    @staticmethod
    def local_channels(settings: AFBURRSettings) -> int:
        """Return the width of the refinement."""
        return 32

    def for_inference(self) -> Self:
        """Return a network with this one's present weights, shared or folded, that is faster and cannot be trained."""
        twin = copy.copy(self)
        twin._modules = self._modules | {
            name: self._modules[name].folded() for name in ("encoder_m", "encoder_q")
        }
        twin._modules |= {
            name: with_fast_convolutions(self._modules[name]) for name in ("keyval_r4", "decoder")
        }
        return twin

    def memorize(self, frames: Tensor, masks: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys (N, C_k, h, w) and values (N, C_v, h, w): frames (F, 3, H, W) RGB in [0, 1], soft masks (N, H, W)."""
        return self.keyval_r4(self.encoder_m(frames, masks, (1 - masks).clamp(0, 1), owner))

    def look(self, frames: Tensor) -> tuple[Tensor, Prepared]:
        """Return the query key (F, C_k, h, w) of frames (F, 3, H, W) and all of the decoder's work that no object changes."""
        features = self.encoder_q(frames)
        key, value = self.keyval_r4(features.deep)
        return key, self.decoder.prepare(features, value)

    def segment(self, prepared: Prepared, read: Tensor, owners: Owners) -> Tensor:
        """Return two logits per object, (N, 2, H, W), from what was read (N, C_v, h, w)."""
        return self.decoder(prepared, read, owners)

    def forward_clip(self, clip: Clip, *, generator: torch.Generator) -> ClipOutput:
        """Run the training pass: segment every frame after the first from the first; nothing is left to chance."""
        logits, doubt = clips.run(self, clip)
        return ClipOutput(logits, {"uncertainty": self.settings.uncertainty_weight * doubt})

    def session(self, *, channels: int, memory: Settings, length: int | None) -> Session:
        """Start a video; see `noisyvos.models.afb_urr.session`."""
        from noisyvos.models.afb_urr.session import AFBURRSession

        return AFBURRSession(self, channels=channels, memory=memory)
