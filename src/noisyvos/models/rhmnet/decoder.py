"""RHMNet's transformer layers, of which the first finds reliable regions and the second whole targets, and its positions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.rhmnet.attention import Attention, Drop, Tokens


class PositionEmbedding(nn.Module):
    """Learned rows and columns of a square grid, stretched for larger pictures."""

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.row_embed = nn.Embedding(side, width // 2)
        self.col_embed = nn.Embedding(side, width // 2)
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self, height: int, width: int) -> Tensor:
        """Return (1, C, height, width), columns before rows; a side that is too long stretches (or squeezes) both."""
        side = self.row_embed.num_embeddings
        fits = height <= side and width <= side
        rows, columns = (height, width) if fits else (side, side)
        across = self.col_embed.weight[:columns].T[:, None, :].expand(-1, rows, -1)
        down = self.row_embed.weight[:rows].T[:, :, None].expand(-1, -1, columns)
        grid = torch.cat([across, down])[None]
        return (
            grid
            if fits
            else F.interpolate(grid, (height, width), mode="bilinear", align_corners=True)
        )


class DecoderLayer(nn.Module):
    """Self-attention within a frame, then reading from memory; layer normalisation after each step."""

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
        """Return tokens (N, L, C) after attention to each other; position (L, C) takes part in queries and keys."""
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
