"""Reading XMem's memory (ECCV 2022, equations 1-3) without ever holding the affinity of all elements to all positions.

The three terms of the similarity are one product: with shrinkage s, selection e and key dimension C,
s_i / sqrt(C) (2 k_i . (e_j q_j) - k_i^2 . e_j - e_j . q_j^2) is row i of `factors` times column j of the query's. Positions
are taken in pieces, and only the k best elements of each are read.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 2**21  # similarities that exist at a time


@dataclass(frozen=True)
class GroupValues:
    """What a group of objects remembers."""

    rows: Tensor  # (M_g, N_g * C_v)
    columns: Tensor | None  # (M_g,) which elements the rows belong to; None: all, in order


@dataclass(frozen=True)
class Readable:
    """Memory elements in the form in which they are read; made anew only when the memory changes."""

    factors: Tensor  # (M, 2 C + 1) float32
    groups: tuple[GroupValues, ...]


def key_factors(keys: Tensor, shrinkage: Tensor) -> Tensor:
    """Return the memory's side of the similarity, (M, 2 C + 1): keys (1, C, M), shrinkage (1, 1, M)."""
    k = keys[0].float().mT
    return torch.cat([2 * k, -k.square(), -torch.ones_like(k[:, :1])], 1) * (
        shrinkage[0].float().mT / math.sqrt(k.shape[1])
    )


def query_factors(query: Tensor, selection: Tensor | None) -> Tensor:
    """Return the query's side, (Q, 2 C + 1): query and selection (1, C, Q); without selection its own norm is dropped."""
    q = query[0].float().mT
    if selection is None:
        return torch.cat([q, torch.ones_like(q), torch.zeros_like(q[:, :1])], 1)
    e = selection[0].float().mT
    return torch.cat([e * q, e, (e * q.square()).sum(1, keepdim=True)], 1)


def read(
    memory: Readable, query: Tensor, selection: Tensor | None, top_k: int
) -> tuple[list[Tensor], Tensor]:
    """Return what every group reads, each (Q, N_g * C_v), and how much each element was used by group 0, (M,).

    query (1, C, Q), selection (1, C, Q) or None. Each position reads its `top_k` most similar elements, weighted by the
    softmax of their similarities; the greatest is subtracted first, so that no weight is 0 / 0.
    """
    with torch.autocast(query.device.type, enabled=False):
        asked = query_factors(query, selection)
        elements = len(memory.factors)
        found = [group.rows.new_empty(len(asked), group.rows.shape[1]) for group in memory.groups]
        use = asked.new_zeros(elements)
        step = max(1, CHUNK // elements)
        for start in range(0, len(asked), step):
            similarities = asked[start : start + step] @ memory.factors.mT  # (q, M)
            for index, group in enumerate(memory.groups):
                own = similarities if group.columns is None else similarities[:, group.columns]
                best, chosen = own.topk(min(top_k, own.shape[1]), dim=1)
                weights = torch.softmax(best, 1)
                found[index][start : start + step] = F.embedding_bag(
                    chosen, group.rows, mode="sum", per_sample_weights=weights.to(group.rows.dtype)
                )
                if index == 0:
                    where = chosen if group.columns is None else group.columns[chosen]
                    use.index_add_(0, where.flatten(), weights.flatten())
    return found, use
