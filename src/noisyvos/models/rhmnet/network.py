"""The RHMNet network and its training pass (arXiv 2303.14384; released code).

Features, tokens, labelled memories and two heads. Objects of all frames form one batch of B * K
rows, object by object within a frame. The network makes memory entries; the training pass and the
session decide which are kept and read.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.losses.pixels import VOID
from noisyvos.losses.scribbles import difference, downsampled, region_loss
from noisyvos.models.aggregation import CLAMP, aggregate, crop, padding, softmax_with_unused
from noisyvos.models.base import MODELS, Clip, ClipOutput, Session, VideoModel
from noisyvos.models.rhmnet.convolutions import Backbone, FrameFeatures, Head
from noisyvos.models.rhmnet.memory import (
    attach,
    block_mean,
    gate,
    planes,
    region_targets,
    similarity_labels,
)
from noisyvos.models.rhmnet.session import Regions, RHMNetSession, Targets
from noisyvos.models.rhmnet.settings import (
    BACKGROUND,
    CHANNELS,
    RHMNetMemory,
    RHMNetSettings,
    Sizes,
)
from noisyvos.models.rhmnet.transformer import (
    Drop,
    Dropout,
    PositionEmbedding,
    Tokens,
    Transformer,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB
# rows of the label embeddings: the user's scribble, predicted regions, predicted masks
INITIAL, REGION, TRAINED_ROW = 0, 1, 2


@dataclass(frozen=True)
class SegmentedScribbles:
    """The output of one training pass for T frames, frame 0 included."""

    region_logits: Tensor  # (B, T, K, H / 4, W / 4)
    logits: Tensor  # (B, T, K + 1, H, W)
    probabilities: Tensor  # (B, T, K + 1, H, W)


@MODELS.register("rhmnet", RHMNetSettings)
class RHMNet(VideoModel):
    """A trunk, two transformer layers with a memory each, and a head after each layer.

    The caller pads frames.
    """

    memory_settings = RHMNetMemory
    background_label = BACKGROUND
    recorded_parts = ("look",)
    sizes: ClassVar[Sizes] = Sizes()
    stride: int
    settings: RHMNetSettings
    mean: Tensor
    std: Tensor

    def __init__(self, settings: RHMNetSettings) -> None:
        super().__init__()
        self.settings = settings
        width = self.sizes.width
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self.bottleneck = nn.Sequential(
            nn.Conv2d(self.sizes.features[2], width, 1), nn.GroupNorm(width // 8, width)
        )
        self.backbone = self.make_backbone()
        self.stride = self.sizes.stride
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
        """Return the trunk that maps normalised frames to fine, middle and deep features."""
        return Backbone()

    def normalise(self, frames: Tensor) -> Tensor:
        """Normalise RGB frames (..., 3, H, W) in [0, 1] by ImageNet's mean and deviation."""
        return (frames - self.mean) / self.std

    def look(self, frames: Tensor) -> FrameFeatures:
        """Return the features of normalised frames (N, 3, H, W), both sides multiples of the
        stride.
        """
        fine, middle, deep = self.backbone(frames)
        return FrameFeatures(fine, middle, deep, self.bottleneck(deep).flatten(2).mT)

    def position(self, features: FrameFeatures) -> Tensor:
        """Return the position embedding of the features' grid, (L, C)."""
        return self.position_embedding(*features.grid)[0].flatten(1).T

    def initial_memory(
        self, features: FrameFeatures, scribbles: Tensor, drop: Drop | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return both layers' tokens (B * K, L, C), marked with the user's scribbles.

        scribbles (B, K + 1, H, W), background first.
        """
        position = self.position(features)
        layers = self.transformer.layers
        first = layers[0].look(features.tokens, position, drop)
        count = scribbles.shape[1] - 1
        second = layers[1].look(first.repeat_interleave(count, 0), position, drop)
        grid = features.tokens.mT.unflatten(2, features.grid)
        labels = similarity_labels(scribbles, grid, self.stride)
        return (
            self._marked(first + position, labels, INITIAL),
            self._marked(second + position, labels, INITIAL),
        )

    def find_regions(
        self, features: FrameFeatures, memory: list[Tokens], used: Tensor, drop: Drop | None = None
    ) -> Regions:
        """Return the reliable regions of the K objects of each frame.

        used (B, K) is 1 for objects that exist and 0 otherwise.
        """
        layer, position = self.transformer.layers[0], self.position(features)
        seen = layer.look(features.tokens, position, drop)
        placed = seen.repeat_interleave(used.shape[1], 0) + position
        readout = layer.read(placed, memory, drop)
        logits = self.scribble_predictor(readout, features).float().squeeze(1)
        logits = logits.unflatten(0, used.shape)
        joined, _ = aggregate(torch.sigmoid(logits) * used[:, :, None, None])
        probabilities = softmax_with_unused(joined, CHANNELS)
        labels = block_mean(gate(probabilities, self.settings.region_threshold), self.sizes.cell)
        marked = attach(placed, labels, self.hr_embed_obj.weight[REGION], None)
        return Regions(readout, logits, probabilities, marked)

    def find_targets(
        self,
        features: FrameFeatures,
        regions: Regions,
        memory: list[Tokens],
        used: Tensor,
        drop: Drop | None = None,
    ) -> Targets:
        """Return the segmentation of the K objects of each frame, starting from its regions."""
        layer, position = self.transformer.layers[1], self.position(features)
        placed = layer.look(regions.readout, position, drop) + position
        readout = layer.read(placed, memory, drop)
        two = self.segmentors[0](readout, features).float()
        two = F.interpolate(
            two, scale_factor=self.stride // self.sizes.cell, mode="bilinear", align_corners=True
        )
        foreground = torch.sigmoid(two[:, 0] - two[:, 1]).unflatten(0, used.shape)
        logits, _ = aggregate(foreground * used[:, :, None, None])
        return Targets(readout, placed, logits, softmax_with_unused(logits, CHANNELS))

    def mask_memory(self, targets: Targets, *, row: int, threshold: float) -> Tensor:
        """Return tokens (B * K, L, C) marked with the predicted masks.

        A mask counts where it is more probable than `threshold`.
        """
        labels = block_mean(gate(targets.probabilities, threshold), self.stride)
        return self._marked(targets.placed, labels, row)

    def _marked(self, tokens: Tensor, labels: Tensor, row: int) -> Tensor:
        return attach(tokens, labels, self.hr_embed_obj.weight[row], self.hr_embed_bg.weight[row])

    def segment_clips(
        self,
        features: FrameFeatures,
        length: int,
        scribbles: Tensor,
        used: Tensor,
        drop: Dropout | None,
        *,
        backwards: bool = False,
    ) -> SegmentedScribbles:
        """Segment all frames of clips in time order, or from the last to the first.

        features: of B * `length` frames, clip by clip; scribbles (B, K + 1, H, W) of the frame to
        start from, 0 or 1, background first; used (B, K). Every frame's regions and masks are
        memorised and gradients run through all of them. The result is in time order.
        """
        first, second = self.transformer.layers
        order = range(length)[:: -1 if backwards else 1]
        start, finish = self.initial_memory(features.at(order[0], length), scribbles, drop)
        regions_memory, masks_memory = [first.remember(start)], [second.remember(finish)]
        found = {}
        for t in order:
            at = features.at(t, length)
            regions = self.find_regions(at, regions_memory, used, drop)
            # the first frame's regions are not read, as published
            own = [second.remember(regions.memory)] if len(masks_memory) > 1 else []
            targets = self.find_targets(at, regions, [*masks_memory, *own], used, drop)
            regions_memory.append(first.remember(regions.memory))
            threshold = self.settings.mask_threshold
            mask = self.mask_memory(targets, row=TRAINED_ROW, threshold=threshold)
            masks_memory.append(second.remember(mask))
            found[t] = (regions.logits, targets.logits, targets.probabilities)
        parts = (torch.stack([found[t][part] for t in range(length)], 1) for part in range(3))
        return SegmentedScribbles(*parts)

    def forward_clip(self, clip: Clip, *, generator: torch.Generator) -> ClipOutput:
        """Run the training pass.

        Frame 0 is predicted too, and 255 labels places without a scribble.

        Where gradients are wanted, the output has the losses of regions and of consistency, means
        over samples. Labels of frame 0 are the scribbles to start from, background included.
        """
        batch, length, _, height, width = clip.frames.shape
        objects = int(clip.num_objects.max())
        place, whole = clip.place()
        seeds = torch.randint(2**62, (whole, clip.slots), generator=generator)
        seeds = seeds[place : place + batch, :objects]
        settings, device = self.settings, clip.frames.device
        drops = self.training and settings.dropout
        drop = Dropout(settings.dropout, seeds, device) if drops else None
        used = (torch.arange(objects, device=device) < clip.num_objects.view(-1, 1)).float()
        pads = padding(height, width, self.stride)
        features = self.look(F.pad(self.normalise(clip.frames).flatten(0, 1), pads))
        labels = F.pad(clip.masks, pads, value=VOID)
        forward = self.segment_clips(features, length, planes(labels[:, 0], objects), used, drop)
        logits = crop(forward.logits, pads, height, width)
        unused = logits.new_full((), CLAMP / (1 - CLAMP)).log()
        unused = unused.expand(batch, length, clip.slots - objects, height, width)
        frames = torch.cat([logits, unused], 2).unbind(1)
        auxiliary = {}
        if torch.is_grad_enabled() and settings.region_weight:
            cell = self.stride // self.sizes.cell
            target, asked = region_targets(labels, objects, settings.ignore_band, cell)
            whole_frame = torch.ones_like(clip.masks, dtype=torch.float32)
            inside = downsampled(F.pad(whole_frame, pads), cell).unsqueeze(2)
            asked = asked & inside & used.bool()[:, None, :, None, None]
            loss = region_loss(forward.region_logits, target, asked, settings.focal_alpha)
            auxiliary["region"] = settings.region_weight * loss
        if torch.is_grad_enabled() and settings.consistency:
            last = planes(labels[:, -1], objects)
            with torch.no_grad():
                backward = self.segment_clips(features, length, last, used, drop, backwards=True)
            loss = difference(forward.probabilities, backward.probabilities, CHANNELS)
            auxiliary["consistency"] = settings.consistency * loss
        return ClipOutput(frames[1:], auxiliary, first=frames[0])

    def session(self, *, channels: int, memory: RHMNetMemory, length: int | None) -> Session:
        """Start a video; UserError for more objects than there are channels."""
        return RHMNetSession(
            self.for_inference(),
            channels=channels,
            memory=memory,
            device=self.hr_embed_obj.weight.device,
        )
