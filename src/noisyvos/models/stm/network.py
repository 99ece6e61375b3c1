"""The STM network (Oh et al., ICCV 2019) at the sizes trained on COCO and VISOR, with the published parameter names."""

import copy
from typing import ClassVar, Self

import torch
from torch import Tensor

from noisyvos.models import resnet
from noisyvos.models.base import MODELS, Clip, ClipOutput, Session, VideoModel
from noisyvos.models.fast.folding import with_fast_convolutions
from noisyvos.models.stm import clips
from noisyvos.models.stm.settings import STMMemory, STMSettings
from noisyvos.models.stm_parts.decoder import Decoder, Prepared
from noisyvos.models.stm_parts.encoders import KeyValue, MemoryEncoder, QueryEncoder, Trunk
from noisyvos.models.stm_parts.trunks import resnet_trunk
from noisyvos.registry import Settings


@MODELS.register("stm", STMSettings)
class STM(VideoModel):
    """Two encoders, two key-value heads and a decoder; the memory lives outside.

    `memorize`, `look` and `segment` take frames and masks that are padded already, and objects of all frames in one
    batch: `owner` (N,) says which frame each of the N objects belongs to.
    """

    memory_settings = STMMemory
    memory_format: ClassVar[torch.memory_format] = (
        torch.contiguous_format
    )  # of frames and weights in training

    def __init__(self, settings: STMSettings) -> None:
        super().__init__()
        self.settings = settings
        trunk = self.make_trunk(settings)
        self.stride = trunk.stride
        self.Encoder_M = MemoryEncoder(trunk)
        self.Encoder_Q = QueryEncoder(trunk)
        self.KV_M_r4 = KeyValue(trunk)
        self.KV_Q_r4 = KeyValue(trunk)
        self.Decoder = self.make_decoder(trunk)

    @staticmethod
    def make_trunk(settings: STMSettings) -> Trunk:
        """Return how the encoders are built."""
        return resnet_trunk(resnet.Bottleneck, (3, 4, 6), 128, 512)

    @staticmethod
    def make_decoder(trunk: Trunk) -> Decoder:
        """Return the decoder."""
        return Decoder(trunk)

    def for_inference(self) -> Self:
        """Return a network with this one's present weights, shared or folded, that is faster and cannot be trained."""
        twin = copy.copy(self)
        twin._modules = self._modules | {
            name: self._modules[name].folded() for name in ("Encoder_M", "Encoder_Q")
        }
        twin._modules["Decoder"] = with_fast_convolutions(self.Decoder)
        return twin

    def memorize(
        self, frames: Tensor, own: Tensor, others: Tensor, owner: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return keys (N, C_k, h, w) and values (N, C_v, h, w): frames (B, 3, H, W) RGB in [0, 1], masks (N, H, W) in [0, 1]."""
        return self.KV_M_r4(self.Encoder_M(frames, own, others, owner))

    def look(self, frames: Tensor) -> tuple[Tensor, Prepared]:
        """Return the query key (B, C_k, h, w) of frames (B, 3, H, W) and all of the decoder's work that no object changes."""
        features = self.Encoder_Q(frames)
        key, value = self.KV_Q_r4(features.deep)
        return key, self.Decoder.prepare(features, value)

    def segment(
        self, prepared: Prepared, read: Tensor, owner: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """Return two logits per object, (N, 2, H, W), from what was read (N, C_v, h, w) and, of networks with dropout, is `kept`."""
        return self.Decoder(prepared, read, owner)

    def draw_kept(
        self, clip: Clip, owner: Tensor, size: tuple[int, int], generator: torch.Generator
    ) -> list[Tensor] | list[None]:
        """Return what `segment` takes as `kept` for each frame after the first; `size` is (h, w). Without dropout: nothing."""
        return [None] * (clip.frames.shape[1] - 1)

    def forward_clip(self, clip: Clip, *, generator: torch.Generator) -> ClipOutput:
        """Run the training pass: segment every frame after the first from all frames before it; only dropout is left to chance."""
        return ClipOutput(
            clips.run(self, clip, detach=self.settings.detach_memory, generator=generator)
        )

    def session(self, *, channels: int, memory: Settings, length: int | None) -> Session:
        """Start a video; see `noisyvos.models.stm.session`."""
        from noisyvos.models.stm.session import STMSession

        return STMSession(self, channels=channels, kept=memory.kept_frames(length))


@MODELS.register("stm_resnet18", STMSettings)
class STMResNet18(STM):
    """STM on ResNet-18, with a quarter of the key and value channels."""

    @staticmethod
    def make_trunk(settings: STMSettings) -> Trunk:
        """Return how the encoders are built."""
        return resnet_trunk(resnet.BasicBlock, (2, 2, 2), 32, 128)
