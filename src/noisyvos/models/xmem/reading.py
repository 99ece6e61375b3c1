"""XMem's memory readout (ECCV 2022, section 3.2, equations 1-3).

`similarity`, `affinity` and `readout` follow the equations; training and consolidation use them.
`read` never holds the affinity of all elements to all positions. It computes the three terms of the
similarity as one product: with shrinkage s, selection e and key dimension C, s_i / sqrt(C) (2 k_i .
(e_j q_j) - k_i^2 . e_j - e_j . q_j^2) is row i of `factors` times column j of the query's. It takes
positions in pieces and reads only the k best elements of each.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 2**21  # similarities that exist at a time on a CPU, so that they stay in its cache
ON_GPU = 64  # times as many on a GPU, which reads a whole memory at once


def similarity(
    keys: Tensor, shrinkage: Tensor | None, query: Tensor, selection: Tensor | None
) -> Tensor:
    """Return the similarity of every memory element to every query element, (B, M, Q) float32.

    keys (B, C, M), shrinkage (B, 1, M) or None, query (B, C, Q), selection (B, C, Q) or None
    (equation 3). Without selection the query's norm is dropped, which does not change a softmax
    over memory. Squares and their differences need the range of float32.
    """
    with torch.autocast(keys.device.type, enabled=False):
        keys, query = keys.float(), query.float()
        transposed = keys.mT
        if selection is None:
            result = 2 * (transposed @ query) - keys.square().sum(1).unsqueeze(2)
        else:
            selection = selection.float()
            weighted = query * selection
            result = (
                2 * (transposed @ weighted)
                - transposed.square() @ selection
                - (weighted * query).sum(1, keepdim=True)
            )
        scale = 1 / math.sqrt(keys.shape[1])
        return result * (scale if shrinkage is None else shrinkage.float().mT * scale)


def affinity(similarities: Tensor, top_k: int | None = None) -> Tensor:
    """Return the softmax over memory for each query, (B, M, Q) (equation 2).

    With `top_k`, all but the k largest per query are zero. The maximum is subtracted first, so that
    similarities far below zero do not give 0 / 0.
    """
    if top_k is None or top_k >= similarities.shape[1]:
        return torch.softmax(similarities, 1)
    values, indices = torch.topk(similarities, top_k, dim=1)
    return torch.zeros_like(similarities).scatter_(1, indices, torch.softmax(values, 1))


def readout(weights: Tensor, values: Tensor) -> Tensor:
    """Return values (B, N, C, M) read with an affinity (B, M, Q) that all objects share (equation
    1).

    The result is (B, N, C, Q).
    """
    batch, objects, channels, elements = values.shape
    found = values.reshape(batch, objects * channels, elements) @ weights
    return found.view(batch, objects, channels, -1)


@dataclass(frozen=True)
class GroupValues:
    """What a group of objects remembers."""

    rows: Tensor  # (M_g, N_g * C_v)
    columns: Tensor | None  # (M_g,) which elements the rows belong to; None: all, in order


@dataclass(frozen=True)
class Readable:
    """Memory elements in the form that `read` takes; rebuilt only when the memory changes."""

    factors: Tensor  # (M, 2 C + 1) float32
    groups: tuple[GroupValues, ...]


def key_factors(keys: Tensor, shrinkage: Tensor) -> Tensor:
    """Return the memory's side of the similarity, (M, 2 C + 1): keys (1, C, M), shrinkage (1, 1,
    M).
    """
    k = keys[0].float().mT
    return torch.cat([2 * k, -k.square(), -torch.ones_like(k[:, :1])], 1) * (
        shrinkage[0].float().mT / math.sqrt(k.shape[1])
    )


def query_factors(query: Tensor, selection: Tensor | None) -> Tensor:
    """Return the query's side of the similarity, (Q, 2 C + 1): query and selection (1, C, Q).

    Without selection the query's norm is dropped.
    """
    q = query[0].float().mT
    if selection is None:
        return torch.cat([q, torch.ones_like(q), torch.zeros_like(q[:, :1])], 1)
    e = selection[0].float().mT
    return torch.cat([e * q, e, (e * q.square()).sum(1, keepdim=True)], 1)


def read(
    memory: Readable, query: Tensor, selection: Tensor | None, top_k: int
) -> tuple[list[Tensor], Tensor]:
    """Return what every group reads, each (Q, N_g * C_v), and each element's use by group 0, (M,).

    query (1, C, Q), selection (1, C, Q) or None. Each position reads its `top_k` most similar
    elements, weighted by the softmax of their similarities.
    """
    with torch.autocast(query.device.type, enabled=False):
        asked = query_factors(query, selection)
        elements = len(memory.factors)
        found = [group.rows.new_empty(len(asked), group.rows.shape[1]) for group in memory.groups]
        use = asked.new_zeros(elements)
        most = CHUNK * (1 if query.device.type == "cpu" else ON_GPU)
        step = max(1, most // elements)
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
