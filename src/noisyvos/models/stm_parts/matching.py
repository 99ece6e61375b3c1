"""STM's memory read and the probability of an object (Oh et al., ICCV 2019, sections 3.2 and
3.3).
"""

import math

import torch
from torch import Tensor

CHUNK = 2**22  # elements of the affinity that exist at a time without gradients, on a CPU
ON_GPU = 16  # times as many on a GPU
# Smaller weights add nothing to a sum of float32 beside those of up to 1. A CPU multiplies numbers
# below 1e-38 tens of times slower than others.
TINY = 1e-30


def affinity(keys: Tensor, query: Tensor) -> Tensor:
    """Return the softmax over memory for each query position, (N, Q, M) float32.

    keys (N, C, M), query (N, C, Q). The dot product of long keys needs the range of float32.
    Without gradients, a CPU sets weights below `TINY` to 0.
    """
    with torch.autocast(keys.device.type, enabled=False):
        scaled = query.float().mT / math.sqrt(keys.shape[1])
        weights = torch.softmax(scaled @ keys.float(), 2)
    if weights.device.type == "cpu" and not torch.is_grad_enabled():
        torch.threshold_(weights, TINY, 0)
    return weights


def piece(elements: int, device: torch.device) -> int:
    """Return how many query positions are compared at a time with so many memory elements."""
    return max(1, CHUNK * (1 if device.type == "cpu" else ON_GPU) // elements)


def read(keys: Tensor, values: Tensor, query: Tensor) -> Tensor:
    """Return values (N, C_v, M) read at each query position, (N, C_v, Q).

    Without gradients the affinity is made in pieces, object by object, so that a long memory needs
    little memory beyond its own size.
    """
    if torch.is_grad_enabled():
        return values @ affinity(keys, query).to(values.dtype).mT
    result = values.new_empty(*values.shape[:2], query.shape[2])
    step = piece(keys.shape[2], keys.device)
    for index in range(len(keys)):
        own = slice(index, index + 1)
        for start in range(0, query.shape[2], step):
            columns = slice(start, start + step)
            part = affinity(keys[own], query[own, :, columns])[0].to(values.dtype)
            torch.matmul(values[index], part.mT, out=result[index, :, columns])
    return result


def object_probabilities(logits: Tensor) -> Tensor:
    """Return the probability of the second of two channels, (N, 2, H, W) -> (N, H, W)."""
    return torch.sigmoid(logits[:, 1] - logits[:, 0])
