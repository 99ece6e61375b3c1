"""The AOC-Net network and its training pass, repaired so that they run.

The release never runs; docs/explanation/networks/aoc_net.md lists the repairs.
A frame is embedded once. A prediction compares it with references and the previous frame, object by
object, and the decoder turns the maps into logits. The caller carries state from frame to frame.
"""

from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.aoc_net import matching
from noisyvos.models.aoc_net.blocks import group_norm
from noisyvos.models.aoc_net.decoder import CalibratedDecoder, CarriedMaps
from noisyvos.models.aoc_net.deeplab import Backbone, DeepLab
from noisyvos.models.aoc_net.references import (
    Clustering,
    LabelledFrame,
    Look,
    Pool,
    Start,
    find_proxies,
    means_of,
    sums_of,
)
from noisyvos.models.aoc_net.session import AOCNetSession, fitting
from noisyvos.models.aoc_net.settings import AOCNetMemory, AOCNetSettings, Sizes
from noisyvos.models.base import MODELS, Clip, ClipOutput, Session, VideoModel

# of ImageNet's R, G, B, applied to B, G, R as published
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NEVER = -1e4  # logit of a slot without an object


class PreHead(nn.Module):
    """Matching maps of an object to features."""

    def __init__(self, maps: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(maps, outputs, 1)
        self.bn = group_norm(outputs, 16)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, maps, h, w) to (N, outputs, h, w)."""
        return F.relu(self.bn(self.conv(x)))


@MODELS.register("aoc_net", AOCNetSettings)
class AOCNet(VideoModel):
    """Backbone, embedding, matching at three levels, pre-head and calibrated decoder."""

    memory_settings = AOCNetMemory
    sizes: ClassVar[Sizes] = Sizes()
    settings: AOCNetSettings
    mean: Tensor
    std: Tensor

    def __init__(self, settings: AOCNetSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        self.bg_bias = nn.Parameter(torch.zeros(1, 1, 1, 1))
        self.fg_bias = nn.Parameter(torch.zeros(1, 1, 1, 1))
        sizes = self.sizes
        self.feature_extracter = self.make_backbone()
        # published files hold these four under two names each; where they differ, the second counts
        width = sizes.features
        self.seperate_conv = nn.Conv2d(width, width, 3, 1, 1, groups=width)
        self.bn1 = group_norm(width)
        self.embedding_conv = nn.Conv2d(width, sizes.embedding, 1)
        self.bn2 = group_norm(sizes.embedding, sizes.embedding_groups)
        self.semantic_embedding = nn.Sequential(
            self.seperate_conv, self.bn1, nn.ReLU(), self.embedding_conv, self.bn2, nn.ReLU()
        )
        self.dynamic_seghead = CalibratedDecoder(sizes)
        self.dynamic_prehead = PreHead(sizes.maps, sizes.prehead)
        for convolution in (self.seperate_conv, self.embedding_conv):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")

    def make_backbone(self) -> Backbone:
        """Return what maps normalised frames to features and low-level features at stride 4."""
        return DeepLab()

    def embed(self, frames: Tensor, drop: Tensor | None = None) -> list[Look]:
        """Embed frames (B, 3, H, W), RGB in [0, 1] of fitting sizes; `drop` as for `DeepLab`."""
        features, low = self.feature_extracter((frames.flip(1) - self.mean) / self.std, drop)
        embeddings = self.semantic_embedding(features).float()
        return [Look(own, each[None]) for own, each in zip(embeddings, low, strict=True)]

    def pool(
        self,
        frames: list[LabelledFrame],
        objects: int,
        *,
        clustering: Clustering = "fixed",
        start: Start = "even",
        number: int = 0,
    ) -> Pool:
        """Join the references of N = `objects` (background included).

        A random start of the clustering depends on `number`.
        """
        rows = torch.cat([frame.embedding.flatten(1).T for frame in frames])
        labels = torch.cat([frame.labels.flatten() for frame in frames])
        proxies = find_proxies(
            rows, labels, objects, clustering=clustering, start=start, frame=number
        )
        own = [rows[labels == number] for number in range(objects)]
        return Pool(own, proxies, sums_of(frames, objects))

    def head(self, pool: Pool, previous: LabelledFrame) -> Tensor:
        """Return the attention head (N, A): reference inside and outside, previous frame inside
        and outside.
        """
        return torch.cat(
            [*means_of(pool.sums), *means_of(sums_of([previous], len(pool.proxies)))], 1
        )

    def maps(self, look: Look, pool: Pool, previous: LabelledFrame, head: Tensor) -> Tensor:
        """Return the proto-maps (N, maps, h, w) of a frame."""
        objects, grid = len(pool.proxies), look.embedding.shape[1:]
        bias = torch.cat([self.bg_bias.view(1), self.fg_bias.view(1).expand(objects - 1)])
        queries = look.embedding.flatten(1).T
        inside, _, recent, _ = head.split(head.shape[1] // 4, 1)
        pixel = matching.global_maps(queries, pool.own)
        flat = [
            pixel,
            *matching.proxy_maps(queries, pool.proxies),
            matching.mean_maps(queries, inside),
        ]
        whole = matching.squash(torch.stack(flat, 1), bias).unflatten(2, grid)  # (N, 4, h, w)
        planes = previous.one_hot(objects)
        # every pixel as the mean of its object
        smoothed = (recent.T @ planes.flatten(1)).view_as(look.embedding)
        near = [
            self._local(look.embedding, other, planes, bias)
            for other in (previous.embedding, smoothed)
        ]
        others = [matching.of_others(near[0]), matching.of_others(whole[:, :1])]
        return torch.cat([whole, *near, planes[:, None], *others], 1)

    def _local(self, current: Tensor, previous: Tensor, planes: Tensor, bias: Tensor) -> Tensor:
        windows = self.sizes.windows
        maps = matching.squash(matching.local_maps(current, previous, planes, windows), bias)
        return F.interpolate(maps, current.shape[1:], mode="bilinear", align_corners=True)

    def predict(
        self, look: Look, pool: Pool, previous: LabelledFrame, kept: CarriedMaps | None
    ) -> tuple[Tensor, CarriedMaps]:
        """Return the logits (N, h, w) of a frame and the maps that the next frame needs."""
        head = self.head(pool, previous)
        maps = self.dynamic_prehead(self.maps(look, pool, previous, head))
        x = torch.cat([look.embedding.expand(len(maps), -1, -1, -1), maps], 1)
        return self.dynamic_seghead(x, head, look.low, kept)

    def for_inference(self, half: torch.dtype | None = None) -> Self:
        """Return the network itself.

        Nearest neighbours and clusters are hard choices, which the rounding of faster layers can
        flip.
        """
        return self

    def forward_clip(self, clip: Clip, *, generator: torch.Generator) -> ClipOutput:
        """Run the training pass (released code); only dropout is random.

        Frame 0 is the reference of all later frames and the frame before the first of them.
        Published clips have a separate reference and five frames after a first previous one. Their
        optimiser step adds the gradients of the five, as one pass does here: only the embedding
        links the frames, because masks are labels and carried maps are cut from the graph.
        """
        height, width = clip.frames.shape[-2:]
        size = (fitting(height), fitting(width))
        first, whole = clip.place()
        batch = len(clip.frames)
        seeds = torch.randint(2**62, (whole,), generator=generator)[first : first + batch]
        samples = []
        for index in range(batch):
            frames = clip.frames[index]
            if size != (height, width):
                frames = F.interpolate(frames, size, mode="bicubic", align_corners=False)
            looks = self.embed(frames, self._dropout(frames, seeds[index]))
            objects = int(clip.num_objects[index]) + 1
            samples.append(self._segment_clip(clip, index, looks, objects))
        result = []
        for logits in zip(*samples, strict=True):
            padded = []
            for each in logits:
                empty = each.new_full((clip.slots + 1 - len(each), height, width), NEVER)
                padded.append(torch.cat([each, empty]))
            result.append(torch.stack(padded))
        return ClipOutput(tuple(result))

    def _segment_clip(
        self, clip: Clip, index: int, looks: list[Look], objects: int
    ) -> list[Tensor]:
        """Return the logits (N, H, W) of one clip's frames after the first.

        The mask of the previous frame is the given or the predicted one, by `previous_mask`.
        """
        which = self.settings.previous_mask
        shown = which == "given" or (which == "halves" and clip.progress <= 0.5)
        size = clip.frames.shape[-2:]
        previous = looks[0].with_mask(clip.masks[index, 0])
        pool, kept = self.pool([previous], objects), None
        result: list[Tensor] = []
        for t, look in enumerate(looks[1:], 1):
            logits, kept = self.predict(look, pool, previous, kept)
            full = F.interpolate(logits[None].float(), size, mode="bilinear", align_corners=True)[0]
            result.append(full)
            mask = clip.masks[index, t] if shown else full.detach().argmax(0)
            previous = look.with_mask(mask)
        return result

    def _dropout(self, frames: Tensor, seed: Tensor) -> Tensor | None:
        share = self.settings.dropout
        if not self.training or not share:
            return None
        stream = torch.Generator(frames.device).manual_seed(int(seed))
        shape = self.feature_extracter.context_shape(frames)
        kept = torch.rand(shape, generator=stream, device=frames.device) >= share
        return kept.to(frames.dtype) / (1 - share)

    def session(self, *, channels: int, memory: AOCNetMemory, length: int | None) -> Session:
        """Start a video; see `noisyvos.models.aoc_net.session`."""
        return AOCNetSession(self.for_inference(), channels=channels, memory=memory)
