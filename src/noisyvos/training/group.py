"""The processes that train together: who takes which samples of a batch, and how their gradients become the batch's.

Every process holds the whole learner and takes the same step. A batch is a function of (seed, iteration, index), so that a
process makes its own samples alone; gradients carry the weight of the samples they come from and are summed. The sum is the
gradient of one process up to rounding, however the batch divides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

BUCKET = 2**24  # gradient elements sent at once: while one bucket travels the next is packed


class LostContact(RuntimeError):
    """Another process of the group went away."""


@dataclass(frozen=True)
class Group:
    """One process among `size`; the default is a training in a single process, for which every method here is free."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes, tracks and shows progress."""
        return self.rank == 0

    def rows(self, batch: int) -> range:
        """Return the samples of a batch that are this process's: consecutive ones, as even as can be."""
        return range(self.rank * batch // self.size, (self.rank + 1) * batch // self.size)

    def add_gradients(self, weights: list[Tensor]) -> None:
        """Put the sum over all processes into the gradient of every weight; one that has none anywhere keeps none."""
        if self.size == 1:
            return
        present = self.sums([float(weight.grad is not None) for weight in weights])
        shared = [weight for weight, count in zip(weights, present, strict=True) if count]
        for weight in shared:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        _reached(lambda: _sum_in_buckets([weight.grad for weight in shared]))

    def sums(self, values: list[float]) -> list[float]:
        """Return the sum of each value over all processes."""
        if self.size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        _reached(lambda: distributed.all_reduce(total))
        return total.tolist()

    def told(self, value: Any) -> Any:
        """Return what the leading process passed."""
        if self.size == 1:
            return value
        held = [value]
        _reached(lambda: distributed.broadcast_object_list(held, src=0))
        return held[0]

    def gathered(self, value: Any) -> list[Any]:
        """Return the values of all processes in order to the leading one, an empty list to the others."""
        if self.size == 1:
            return [value]
        found: list[Any] | None = [None] * self.size if self.leads else None
        _reached(lambda: distributed.gather_object(value, found, dst=0))
        return found or []

    def from_all(self, value: Any) -> list[Any]:
        """Return the values of all processes in order, to each of them."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        _reached(lambda: distributed.all_gather_object(found, value))
        return found


ALONE = Group()


def _sum_in_buckets(gradients: list[Tensor]) -> None:
    buckets: list[list[Tensor]] = []
    room = 0
    for gradient in gradients:
        if gradient.numel() > room:
            buckets.append([])
            room = BUCKET
        buckets[-1].append(gradient)
        room -= gradient.numel()
    flat = [torch.cat([gradient.flatten() for gradient in bucket]) for bucket in buckets]
    waiting = [distributed.all_reduce(each, async_op=True) for each in flat]
    for bucket, each, work in zip(buckets, flat, waiting, strict=True):
        work.wait()
        for gradient, values in zip(
            bucket, each.split([gradient.numel() for gradient in bucket]), strict=True
        ):
            gradient.copy_(values.view_as(gradient))


def _reached(talk: Callable[[], Any]) -> None:
    try:
        talk()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise LostContact(str(error)) from error
