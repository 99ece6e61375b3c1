"""The RHMNet network (arXiv 2303.14384; released code): features, tokens, labelled memories and two heads.

Objects of all frames form one batch of B * K rows, object by object within a frame. What is remembered is made here; which of
it is kept and when it is read is up to the training pass (`clips`) and the session.
"""

import copy
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.base import MODELS, Clip, ClipOutput, Session, VideoModel
from noisyvos.models.matching import aggregate, softmax_with_unused
from noisyvos.models.rhmnet.attention import Drop, Tokens
from noisyvos.models.rhmnet.backbone import Backbone, Features
from noisyvos.models.rhmnet.decoder import DecoderLayer, PositionEmbedding
from noisyvos.models.rhmnet.heads import Head, Sizes
from noisyvos.models.rhmnet.labels import attach, block_mean, gate, similarity_labels
from noisyvos.models.rhmnet.settings import BACKGROUND, CELL, CHANNELS, RHMNetMemory, RHMNetSettings
from noisyvos.registry import Settings

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB
INITIAL, REGION, MASK = (
    0,
    1,
    2,
)  # rows of the label embeddings: the user's scribble, predicted regions, predicted masks


@dataclass(frozen=True)
class Regions:
    """What the first layer says of B frames with K objects each."""

    readout: Tensor  # (B * K, L, C)
    logits: Tensor  # (B, K, H / 4, W / 4)
    probabilities: Tensor  # (B, K + 1, H / 4, W / 4) after aggregation, background first
    memory: Tensor  # (B * K, L, C) tokens with the regions on them


@dataclass(frozen=True)
class Targets:
    """What the second layer says of B frames with K objects each."""

    readout: Tensor  # (B * K, L, C)
    placed: Tensor  # (B * K, L, C) tokens before they read from memory, which a memory of the mask is made of
    logits: Tensor  # (B, K + 1, H, W) after aggregation, background first
    probabilities: Tensor  # (B, K + 1, H, W): softmax over all twelve channels


class Transformer(nn.Module):
    """Both layers; published names list the heads here a second time."""

    def __init__(self, sizes: Sizes, segmentors: nn.ModuleList, scribble_predictor: Head) -> None:
        super().__init__()
        self.decoders = nn.ModuleList(
            DecoderLayer(sizes.width, sizes.heads, sizes.inner) for _ in range(2)
        )
        self.segmentors = segmentors
        self.scribble_predictor = scribble_predictor
        for weight in self.parameters():
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)
        scribble_predictor.start_rare()


@MODELS.register("rhmnet", RHMNetSettings)
class RHMNet(VideoModel):
    """A trunk, two transformer layers with a memory each, and a head after each layer. Frames are padded by the caller."""

    memory_settings = RHMNetMemory
    background_label = BACKGROUND
    sizes: ClassVar[Sizes] = Sizes()

    def __init__(self, settings: RHMNetSettings) -> None:
        super().__init__()
        self.settings = settings
        width = self.sizes.width
        self.bottleneck = nn.Sequential(
            nn.Conv2d(self.sizes.features[2], width, 1), nn.GroupNorm(width // 8, width)
        )
        self.backbone = self.make_backbone()
        self.stride = self.backbone.stride
        self.position_embedding = PositionEmbedding(self.sizes.side, width)
        segmentors, scribble_predictor = nn.ModuleList([Head(self.sizes, 2)]), Head(self.sizes, 1)
        self.transformer = Transformer(self.sizes, segmentors, scribble_predictor)
        self.segmentors = segmentors
        self.scribble_predictor = scribble_predictor
        self.hr_embed_obj = nn.Embedding(3, width)
        self.hr_embed_bg = nn.Embedding(3, width)
        nn.init.constant_(self.hr_embed_obj.weight, 1)
        nn.init.constant_(self.hr_embed_bg.weight, -1)

    def make_backbone(self) -> nn.Module:
        """Return what maps normalised frames to fine, middle and deep features."""
        return Backbone()

    def for_inference(self) -> Self:
        """Return a network with this one's present weights, shared or folded, that is faster and cannot be trained."""
        twin = copy.copy(self)
        twin._modules = self._modules | {"backbone": self.backbone.folded()}
        return twin

    @staticmethod
    def normalise(frames: Tensor) -> Tensor:
        """Return RGB frames (..., 3, H, W) in [0, 1] with ImageNet's mean and deviation taken out."""
        mean, std = (frames.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        return (frames - mean) / std

    def look(self, frames: Tensor) -> Features:
        """Return the features of normalised frames (N, 3, H, W), both sides multiples of the stride."""
        fine, middle, deep = self.backbone(frames)
        return Features(fine, middle, deep, self.bottleneck(deep).flatten(2).mT)

    def position(self, features: Features) -> Tensor:
        """Return the position embedding of the features' grid, (L, C)."""
        return self.position_embedding(*features.grid)[0].flatten(1).T

    def initial_memory(
        self, features: Features, scribbles: Tensor, drop: Drop | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return both layers' tokens (B * K, L, C) with the user's scribbles (B, K + 1, H, W) on them, background first."""
        position = self.position(features)
        first = self.transformer.decoders[0].look(features.tokens, position, drop)
        count = scribbles.shape[1] - 1
        second = self.transformer.decoders[1].look(
            first.repeat_interleave(count, 0), position, drop
        )
        grid = features.tokens.mT.unflatten(2, features.grid)
        labels = similarity_labels(scribbles, grid, self.stride)
        return self._marked(first + position, labels, INITIAL), self._marked(
            second + position, labels, INITIAL
        )

    def find_regions(
        self, features: Features, memory: list[Tokens], used: Tensor, drop: Drop | None = None
    ) -> Regions:
        """Return the reliable regions of the K objects of each frame; used (B, K) is 1 for objects that exist and 0 otherwise."""
        layer, position = self.transformer.decoders[0], self.position(features)
        placed = (
            layer.look(features.tokens, position, drop).repeat_interleave(used.shape[1], 0)
            + position
        )
        readout = layer.read(placed, memory, drop)
        logits = (
            self.scribble_predictor(readout, features).float().squeeze(1).unflatten(0, used.shape)
        )
        joined, _ = aggregate(torch.sigmoid(logits) * used[:, :, None, None])
        probabilities = softmax_with_unused(joined, CHANNELS)
        labels = block_mean(gate(probabilities, self.settings.region_threshold), CELL)
        return Regions(
            readout,
            logits,
            probabilities,
            attach(placed, labels, self.hr_embed_obj.weight[REGION], None),
        )

    def find_targets(
        self,
        features: Features,
        regions: Regions,
        memory: list[Tokens],
        used: Tensor,
        drop: Drop | None = None,
    ) -> Targets:
        """Return the segmentation of the K objects of each frame, which goes on from its regions."""
        layer, position = self.transformer.decoders[1], self.position(features)
        placed = layer.look(regions.readout, position, drop) + position
        readout = layer.read(placed, memory, drop)
        two = self.segmentors[0](readout, features).float()
        two = F.interpolate(
            two, scale_factor=self.stride // CELL, mode="bilinear", align_corners=True
        )
        foreground = torch.sigmoid(two[:, 0] - two[:, 1]).unflatten(0, used.shape)
        logits, _ = aggregate(foreground * used[:, :, None, None])
        return Targets(readout, placed, logits, softmax_with_unused(logits, CHANNELS))

    def mask_memory(self, targets: Targets, *, row: int, threshold: float) -> Tensor:
        """Return tokens (B * K, L, C) with the predicted masks on them where they are more probable than `threshold`."""
        return self._marked(
            targets.placed, block_mean(gate(targets.probabilities, threshold), self.stride), row
        )

    def _marked(self, tokens: Tensor, labels: Tensor, row: int) -> Tensor:
        return attach(tokens, labels, self.hr_embed_obj.weight[row], self.hr_embed_bg.weight[row])

    def forward_clip(self, clip: Clip, *, generator: torch.Generator) -> ClipOutput:
        """Run the training pass; frame 0 is predicted too, and labels of 255 are places without a scribble."""
        from noisyvos.models.rhmnet.clips import forward_clip

        return forward_clip(self, clip, generator)

    def session(self, *, channels: int, memory: Settings, length: int | None) -> Session:
        """Start a video; see `noisyvos.models.rhmnet.session`. UserError for more objects than there are channels."""
        from noisyvos.models.rhmnet.session import RHMNetSession

        return RHMNetSession(self, channels=channels, settings=memory)
