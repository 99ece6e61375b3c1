"""Multi-head attention with memory that is projected once, and dropout that a sample meets alike in any batch.

Names and sizes of the weights are those of `torch.nn.MultiheadAttention`, whose dropout draws from one stream for the
whole batch and which projects all of a memory anew for every frame.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Drop = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tokens:
    """Memory ready to be read: keys and values (N, heads, L, C / heads)."""

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
        """Project tokens that are to be attended to, each (N, L, C)."""
        return Tokens(self._projected(keys, 1), self._projected(values, 2))

    def forward(self, query: Tensor, memory: list[Tokens], drop: Drop | None) -> Tensor:
        """Return what `query` (N, Q, C) reads from all of `memory`, (N, Q, C); `drop` acts on the weights."""
        queries = self._projected(query, 0)
        keys = memory[0].keys if len(memory) == 1 else torch.cat([each.keys for each in memory], 2)
        values = (
            memory[0].values if len(memory) == 1 else torch.cat([each.values for each in memory], 2)
        )
        if drop is None:
            read = F.scaled_dot_product_attention(queries, keys, values)
        else:
            read = drop(torch.softmax(queries @ keys.mT * keys.shape[3] ** -0.5, 3)) @ values
        return self.out_proj(read.transpose(1, 2).flatten(2))

    def _projected(self, x: Tensor, part: int) -> Tensor:
        """Return (N, L, C) as queries (part 0), keys (1) or values (2), (N, heads, L, C / heads)."""
        weight, bias = self.in_proj_weight.chunk(3)[part], self.in_proj_bias.chunk(3)[part]
        return F.linear(x, weight, bias).unflatten(2, (self.heads, -1)).transpose(1, 2)


class Dropout:
    """Dropout with a stream of random numbers for each object of each sample: the same whatever else is in the batch."""

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
        streams = [
            stream
            for row in self.streams
            for stream in (row if len(x) != len(self.streams) else row[:1])
        ]
        kept = torch.stack(
            [
                torch.empty(x.shape[1:], device=x.device).bernoulli_(1 - self.share, generator=each)
                for each in streams
            ]
        )
        return x * (kept / (1 - self.share)).to(x.dtype)
