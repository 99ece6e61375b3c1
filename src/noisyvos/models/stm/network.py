"""The STM network (Oh et al., ICCV 2019) at the sizes trained on COCO and VISOR, and its training
pass.

Parameter names are the published ones.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models import resnet
from noisyvos.models.aggregation import aggregate, crop, padding
from noisyvos.models.base import MODELS, Clip, ClipOutput, Session, VideoModel
from noisyvos.models.stm.session import STMSession, own_and_others
from noisyvos.models.stm.settings import STMMemory, STMSettings
from noisyvos.models.stm_parts.decoder import Decoder, Prepared
from noisyvos.models.stm_parts.encoders import (
    KeyValue,
    MemoryEncoder,
    QueryEncoder,
    Trunk,
    pick,
    resnet_trunk,
)
from noisyvos.models.stm_parts.fast import BLOCKS
from noisyvos.models.stm_parts.matching import object_probabilities, read


@MODELS.register("stm", STMSettings)
class STM(VideoModel):
    """Two encoders, two key-value heads and a decoder; the session holds the memory.

    `memorize`, `look` and `segment` take padded frames and masks, and objects of all frames in one
    batch: `owner` (N,) is the frame of each of the N objects.
    """

    memory_settings = STMMemory
    fast_blocks = BLOCKS
    recorded_parts = ("look", "segment", "memorize")
    settings: STMSettings

    def __init__(self, settings: STMSettings) -> None:
        super().__init__()
        self.settings = settings
        trunk = self.make_trunk()
        self.stride = trunk.stride
        self.Encoder_M = MemoryEncoder(trunk)
        self.Encoder_Q = QueryEncoder(trunk)
        self.KV_M_r4 = KeyValue(trunk)
        self.KV_Q_r4 = KeyValue(trunk)
        self.Decoder = self.make_decoder(trunk)

    def make_trunk(self) -> Trunk:
        """Return how the encoders are built."""
        return resnet_trunk(resnet.Bottleneck, (3, 4, 6), 128, 512)

    def make_decoder(self, trunk: Trunk) -> Decoder:
        """Return the decoder."""
        return Decoder(trunk)

    def memorize(
        self, frames: Tensor, own: Tensor, others: Tensor, owner: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return keys (N, C_k, h, w) and values (N, C_v, h, w) of N objects.

        frames (B, 3, H, W) RGB in [0, 1]; masks own and others (N, H, W) in [0, 1].
        """
        return self.KV_M_r4(self.Encoder_M(frames, own, others, owner))

    def look(self, frames: Tensor) -> tuple[Tensor, Prepared]:
        """Return the query key (B, C_k, h, w) of frames (B, 3, H, W) and the decoder's shared
        work.
        """
        features = self.Encoder_Q(frames)
        key, value = self.KV_Q_r4(features.deep)
        return key, self.Decoder.share(features, value)

    def segment(
        self, prepared: Prepared, read: Tensor, owner: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """Return two logits per object, (N, 2, H, W), from the memory readout (N, C_v, h, w).

        `kept` is the dropout mask of networks with dropout.
        """
        return self.Decoder(prepared, read, owner)

    def draw_kept(
        self, clip: Clip, owner: Tensor, size: tuple[int, int], generator: torch.Generator
    ) -> list[Tensor | None]:
        """Return what `segment` takes as `kept` for each frame after the first; size is (h, w)."""
        return [None] * (clip.frames.shape[1] - 1)

    def forward_clip(self, clip: Clip, *, generator: torch.Generator) -> ClipOutput:
        """Run the training pass: segment each later frame from the memory of all frames before it.

        Frame 0 is memorised with its given mask, later ones with the softmax of their logits, cut
        from the graph if `detach_memory`. Objects of all clips form one batch; unused slots cost
        nothing and keep the logit of probability 1e-7. Only dropout is random.
        """
        batch, length, _, height, width = clip.frames.shape
        pads = padding(height, width, self.stride)
        frames = F.pad(clip.frames.flatten(0, 1), pads)
        frames = frames.contiguous(memory_format=self.memory_format).unflatten(0, (batch, length))
        slots = torch.arange(clip.slots, device=clip.num_objects.device)
        owner, slot = (slots < clip.num_objects.view(-1, 1)).nonzero(as_tuple=True)
        query, prepared = self.look(frames[:, 1:].flatten(0, 1))
        grid = (query.shape[2], query.shape[3])
        kept = self.draw_kept(clip, owner, grid, generator)
        query = query.unflatten(0, (batch, length - 1)).flatten(3)  # (B, T - 1, C_k, hw)

        keys, values, result = [], [], []
        masks = clip.first_mask()
        for t in range(1, length):
            own, others = own_and_others(F.pad(masks, pads), owner, slot)
            key, value = self.memorize(frames[:, t - 1], own, others, owner)
            keys.append(key.flatten(2))
            values.append(value.flatten(2))
            now = pick(query[:, t - 1], owner)
            readout = read(torch.cat(keys, 2), torch.cat(values, 2), now).unflatten(2, grid)
            found = self.segment(prepared.at(t - 1, batch), readout, owner, kept[t - 1])
            planes = crop(object_probabilities(found), pads, height, width)
            empty = planes.new_zeros(batch, clip.slots, height, width)
            logits = aggregate(empty.index_put((owner, slot), planes))[0]
            result.append(logits)
            masks = torch.softmax(logits.detach() if self.settings.detach_memory else logits, 1)
            masks = masks[:, 1:]
        return ClipOutput(tuple(result))

    def session(self, *, channels: int, memory: STMMemory, length: int | None) -> Session:
        """Start a video; see `noisyvos.models.stm.session`."""
        return STMSession(
            self.for_inference(),
            channels=channels,
            kept=memory.kept_frames(length),
            mask_channels=self.settings.mask_channels,
        )


@MODELS.register("stm_resnet18", STMSettings)
class STMResNet18(STM):
    """STM on ResNet-18, with a quarter of the key and value channels."""

    def make_trunk(self) -> Trunk:
        """Return how the encoders are built."""
        return resnet_trunk(resnet.BasicBlock, (2, 2, 2), 32, 128)
