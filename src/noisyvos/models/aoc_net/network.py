"""The AOC-Net network, as repaired to run: the release itself never does (docs/explanation/networks/aoc_net.md).

A frame is embedded once. A prediction compares it with references and the frame before, object by object, and the decoder
turns the maps into logits. What is kept from frame to frame is up to the training pass (`clips`) and the session.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.aoc_net import matching
from noisyvos.models.aoc_net.blocks import group_norm
from noisyvos.models.aoc_net.decoder import Decoder, Kept
from noisyvos.models.aoc_net.deeplab import DeepLab
from noisyvos.models.aoc_net.matching import Frame
from noisyvos.models.aoc_net.proxies import Clustering, Proxies, Start, find_proxies
from noisyvos.models.aoc_net.settings import AOCNetMemory, AOCNetSettings
from noisyvos.models.base import MODELS, Clip, ClipOutput, Session, VideoModel
from noisyvos.registry import Settings

MEAN, STD = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # of ImageNet's R, G, B, applied to B, G, R as published
STEP = 16  # sides are a multiple of this, plus 1
TINY = 1e-5


@dataclass(frozen=True)
class Look:
    """One embedded frame: embedding (C, h, w) and low-level features (1, 256, h, w) at stride 4."""

    embedding: Tensor
    low: Tensor

    def with_mask(self, mask: Tensor) -> Frame:
        """Return the frame with an index mask of any size (H, W), brought to the grid by nearest neighbour."""
        small = F.interpolate(mask[None, None].float(), self.embedding.shape[1:])[0, 0].long()
        return Frame(self.embedding, small)


@dataclass(frozen=True)
class Pool:
    """References, joined once for all frames that are compared with them."""

    rows: Tensor  # (R, C) embeddings of all pixels
    labels: Tensor  # (R,)
    proxies: list[Proxies | None]  # of each object
    sums: tuple[
        Tensor, Tensor, Tensor, Tensor
    ]  # (N, C) and (N, 1): embeddings and pixels inside, then outside the objects


def fitting(side: int) -> int:
    """Return the published size nearest to a side: a multiple of 16, plus 1 (ties to the even multiple)."""
    return max(1, round((side - 1) / STEP)) * STEP + 1


def _sums(frames: list[Frame], objects: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inside, pixels, outside, rest = [], [], [], []
    for frame in frames:
        rows, planes = (
            frame.embedding.flatten(1).T,
            frame.one_hot(objects).flatten(1),
        )  # (hw, C), (N, hw)
        own = planes @ rows
        inside.append(own)
        pixels.append(planes.sum(1, keepdim=True))
        outside.append(rows.sum(0) - own)
        rest.append((1 - planes).sum(1, keepdim=True))
    return sum(inside), sum(pixels), sum(outside), sum(rest)


def _means(sums: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean embedding inside and outside each object, (N, C) each."""
    inside, pixels, outside, rest = sums
    return inside / (pixels + TINY), outside / (rest + TINY)


class PreHead(nn.Module):
    """Matching maps of an object to features."""

    def __init__(self, maps: int = 24, outputs: int = 64) -> None:
        super().__init__()
        self.conv = nn.Conv2d(maps, outputs, 1)
        self.bn = group_norm(outputs, 16)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 24, h, w) to (N, 64, h, w)."""
        return F.relu(self.bn(self.conv(x)))


@MODELS.register("aoc_net", AOCNetSettings)
class AOCNet(VideoModel):
    """Backbone, embedding, matching at three levels, pre-head and calibrated decoder."""

    memory_settings = AOCNetMemory

    def __init__(self, settings: AOCNetSettings) -> None:
        super().__init__()
        self.settings = settings
        self.bg_bias = nn.Parameter(torch.zeros(1, 1, 1, 1))
        self.fg_bias = nn.Parameter(torch.zeros(1, 1, 1, 1))
        self.feature_extracter = DeepLab()
        # published files hold these four under two names each; where they differ, those of the second count
        self.seperate_conv = nn.Conv2d(256, 256, 3, 1, 1, groups=256)
        self.bn1 = group_norm(256)
        self.embedding_conv = nn.Conv2d(256, 100, 1)
        self.bn2 = group_norm(100, 25)
        self.semantic_embedding = nn.Sequential(
            self.seperate_conv, self.bn1, nn.ReLU(), self.embedding_conv, self.bn2, nn.ReLU()
        )
        self.dynamic_seghead = Decoder()
        self.dynamic_prehead = PreHead()
        for convolution in (self.seperate_conv, self.embedding_conv):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")

    def embed(self, frames: Tensor, drop: Tensor | None = None) -> list[Look]:
        """Return what is seen of frames (B, 3, H, W), RGB in [0, 1] of fitting sizes; `drop` as for `DeepLab`."""
        mean, std = (
            torch.tensor(values, device=frames.device).view(1, 3, 1, 1) for values in (MEAN, STD)
        )
        features, low = self.feature_extracter((frames.flip(1) - mean) / std, drop)
        embeddings = self.semantic_embedding(features).float()
        return [
            Look(embedding, each[None]) for embedding, each in zip(embeddings, low, strict=True)
        ]

    def pool(
        self,
        frames: list[Frame],
        objects: int,
        *,
        clustering: Clustering = "fixed",
        start: Start = "even",
        number: int = 0,
    ) -> Pool:
        """Return the references of N = `objects` (background included) joined; `number` is what a random start depends on."""
        rows = torch.cat([frame.embedding.flatten(1).T for frame in frames])
        labels = torch.cat([frame.labels.flatten() for frame in frames])
        proxies = find_proxies(
            rows, labels, objects, clustering=clustering, start=start, frame=number
        )
        return Pool(rows, labels, proxies, _sums(frames, objects))

    def head(self, pool: Pool, previous: Frame) -> Tensor:
        """Return the attention head (N, 400): reference inside and outside, previous frame inside and outside."""
        return torch.cat([*_means(pool.sums), *_means(_sums([previous], len(pool.proxies)))], 1)

    def maps(self, look: Look, pool: Pool, previous: Frame, head: Tensor) -> Tensor:
        """Return the proto-maps (N, 24, h, w) of a frame."""
        objects, grid = len(pool.proxies), look.embedding.shape[1:]
        bias = torch.cat([self.bg_bias.view(1), self.fg_bias.view(1).expand(objects - 1)])
        queries = look.embedding.flatten(1).T
        inside, _, recent, _ = head.split(head.shape[1] // 4, 1)
        pixel = matching.global_maps(queries, pool.rows, pool.labels, objects)
        flat = [
            pixel,
            *matching.proxy_maps(queries, pool.proxies),
            matching.mean_maps(queries, inside),
        ]
        whole = matching.squash(torch.stack(flat, 1), bias).unflatten(2, grid)  # (N, 4, h, w)
        planes = previous.one_hot(objects)
        smoothed = (recent.T @ planes.flatten(1)).view_as(
            look.embedding
        )  # every pixel as the mean of its object
        near = [
            self._local(look.embedding, other, planes, bias)
            for other in (previous.embedding, smoothed)
        ]
        return torch.cat(
            [
                whole,
                *near,
                planes[:, None],
                matching.of_others(near[0]),
                matching.of_others(whole[:, :1]),
            ],
            1,
        )

    @staticmethod
    def _local(current: Tensor, previous: Tensor, planes: Tensor, bias: Tensor) -> Tensor:
        distances = matching.local_maps(current, previous, planes)
        return F.interpolate(
            matching.squash(distances, bias), current.shape[1:], mode="bilinear", align_corners=True
        )

    def predict(
        self, look: Look, pool: Pool, previous: Frame, kept: Kept | None
    ) -> tuple[Tensor, Kept]:
        """Return the logits (N, h, w) of a frame and what the next one is told."""
        head = self.head(pool, previous)
        maps = self.dynamic_prehead(self.maps(look, pool, previous, head))
        x = torch.cat([look.embedding.expand(len(maps), -1, -1, -1), maps], 1)
        return self.dynamic_seghead(x, head, look.low, kept)

    def forward_clip(self, clip: Clip, *, generator: torch.Generator) -> ClipOutput:
        """Run the training pass; see `noisyvos.models.aoc_net.clips`."""
        from noisyvos.models.aoc_net import clips

        return ClipOutput(clips.run(self, clip, generator))

    def session(self, *, channels: int, memory: Settings, length: int | None) -> Session:
        """Start a video; see `noisyvos.models.aoc_net.session`."""
        from noisyvos.models.aoc_net.session import AOCNetSession

        return AOCNetSession(self, channels=channels, memory=memory)
