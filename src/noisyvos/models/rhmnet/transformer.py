"""RHMNet's transformer (arXiv 2303.14384): two layers, of which the first finds reliable regions
and the second whole targets.

Attention projects a memory once, however often it is read. Its weights have the names and sizes of
`torch.nn.MultiheadAttention`, whose dropout draws from one stream for the whole batch and which
projects all of a memory again for every frame.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.rhmnet.convolutions import Head
from noisyvos.models.rhmnet.settings import Sizes

Drop = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tokens:
    """Projected memory: keys and values (N, heads, L, C / heads)."""

    keys: Tensor
    values: Tensor

    def with_rows(self, rows: Tensor, other: "Tokens") -> "Tokens":
        """Return these tokens with some rows taken from `other`."""
        keys, values = self.keys.clone(), self.values.clone()
        keys[rows], values[rows] = other.keys[rows], other.values[rows]
        return Tokens(keys, values)


class Attention(nn.Module):
    """Attention of tokens (N, Q, C) to tokens (N, L, C)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.zeros_(self.out_proj.bias)

    def prepare(self, keys: Tensor, values: Tensor) -> Tokens:
        """Project tokens, each (N, L, C), so that others can attend to them."""
        return Tokens(self._projected(keys, 1), self._projected(values, 2))

    def forward(self, query: Tensor, memory: list[Tokens], drop: Drop | None) -> Tensor:
        """Return what `query` (N, Q, C) reads from all of `memory`, (N, Q, C).

        `drop` acts on the attention weights.
        """
        queries = self._projected(query, 0)
        keys, values = memory[0].keys, memory[0].values
        if len(memory) > 1:
            keys = torch.cat([each.keys for each in memory], 2)
            values = torch.cat([each.values for each in memory], 2)
        if drop is None:
            read = F.scaled_dot_product_attention(queries, keys, values)
        else:
            read = drop(torch.softmax(queries @ keys.mT * keys.shape[3] ** -0.5, 3)) @ values
        return self.out_proj(read.transpose(1, 2).flatten(2))

    def _projected(self, x: Tensor, part: int) -> Tensor:
        """Project (N, L, C) to queries (part 0), keys (1) or values (2).

        The result is (N, heads, L, C / heads).
        """
        weight, bias = self.in_proj_weight.chunk(3)[part], self.in_proj_bias.chunk(3)[part]
        return F.linear(x, weight, bias).unflatten(2, (self.heads, -1)).transpose(1, 2)


class Dropout:
    """Dropout with a random stream for each object of each sample.

    A sample gets the same dropout whatever else is in its batch.
    """

    def __init__(self, share: float, seeds: Tensor, device: torch.device) -> None:
        """seeds: (B, K) int64."""
        self.share = share
        self.streams = [
            [torch.Generator(device).manual_seed(seed) for seed in row] for row in seeds.tolist()
        ]

    def __call__(self, x: Tensor) -> Tensor:
        """Drop values of (B, ...), or of (B * K, ...)."""
        if not self.share:
            return x
        per_sample = len(x) == len(self.streams)
        streams = [each for row in self.streams for each in (row[:1] if per_sample else row)]
        empty = torch.empty(x.shape[1:], device=x.device)
        kept = [
            torch.empty_like(empty).bernoulli_(1 - self.share, generator=each) for each in streams
        ]
        return x * (torch.stack(kept) / (1 - self.share)).to(x.dtype)


class PositionEmbedding(nn.Module):
    """Learned rows and columns of a square grid, stretched for larger frames."""

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.row_embed = nn.Embedding(side, width // 2)
        self.col_embed = nn.Embedding(side, width // 2)
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self, height: int, width: int) -> Tensor:
        """Return (1, C, height, width), columns before rows.

        A side longer than the grid stretches (or squeezes) both.
        """
        side = self.row_embed.num_embeddings
        fits = height <= side and width <= side
        rows, columns = (height, width) if fits else (side, side)
        across = self.col_embed.weight[:columns].T[:, None, :].expand(-1, rows, -1)
        down = self.row_embed.weight[:rows].T[:, :, None].expand(-1, -1, columns)
        grid = torch.cat([across, down])[None]
        if fits:
            return grid
        return F.interpolate(grid, (height, width), mode="bilinear", align_corners=True)


class DecoderLayer(nn.Module):
    """Self-attention within a frame, then reading from memory.

    Layer normalisation after each step.
    """

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.cross_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, inner)
        self.linear2 = nn.Linear(inner, width)
        self.norm3 = nn.LayerNorm(width)

    def look(self, x: Tensor, position: Tensor, drop: Drop | None) -> Tensor:
        """Return tokens (N, L, C) after self-attention; position (L, C) is in queries and keys."""
        placed = x + position
        found = self.self_attn(placed, [self.self_attn.prepare(placed, x)], drop)
        return self.norm1(x + _dropped(found, drop))

    def read(self, placed: Tensor, memory: list[Tokens], drop: Drop | None) -> Tensor:
        """Return tokens (N, L, C), position included, after reading from `memory`."""
        x = self.norm2(placed + _dropped(self.cross_attn(placed, memory, drop), drop))
        inner = _dropped(F.relu(self.linear1(x)), drop)
        return self.norm3(x + _dropped(self.linear2(inner), drop))

    def remember(self, tokens: Tensor) -> Tokens:
        """Return labelled tokens (N, L, C) as memory of this layer."""
        return self.cross_attn.prepare(tokens, tokens)


def _dropped(x: Tensor, drop: Drop | None) -> Tensor:
    return x if drop is None else drop(x)


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

    @property
    def layers(self) -> tuple[DecoderLayer, DecoderLayer]:
        """The layer that finds regions and the layer that finds targets."""
        return cast(tuple[DecoderLayer, DecoderLayer], tuple(self.decoders))
