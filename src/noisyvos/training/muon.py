"""Muon for convolutions.

`torch.optim.Muon` takes matrices only and computes in bfloat16. On a CPU without instructions for
bfloat16 its step on `xmem_tiny` takes 330 ms, longer than the rest of an iteration. In float32 it
takes 29 ms. A CPU with such instructions takes 57 ms in bfloat16 and 24 ms in float32.
"""

from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
STEPS = 5  # of Newton-Schulz
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of its polynomial, in x, x^3 and x^5


class ConvolutionMuon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) with Nesterov momentum 0.95 and five Newton-Schulz steps.

    A weight (O, I, h, w) is a matrix with O rows. An update is 0.2 * sqrt(max(rows, columns)) times
    a nearly orthogonal matrix, whose entries are as large as an update of Adam (Liu et al. 2025,
    "Muon is Scalable for LLM Training", section 2.2). Weight decay is decoupled. Every parameter
    group sets `share` and `weight_decay`.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the convolutions that have a gradient, at the learning rates of their groups."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group["lr"], group["weight_decay"])

    def _update(self, weight: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
        columns_last = not weight.is_contiguous()
        gradient = _as_matrix(gradient, columns_last)
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        update = orthogonal(gradient.lerp(momentum, MOMENTUM))
        matrix = _as_matrix(weight, columns_last)
        matrix.mul_(1 - rate * decay)
        matrix.add_(update, alpha=-0.2 * max(matrix.shape) ** 0.5 * rate)


def _as_matrix(tensor: Tensor, columns_last: bool) -> Tensor:
    """Return (O, I, h, w) as a matrix (O, I * h * w), whose columns may have the order (h, w, I).

    That order is a view of a weight in channels-last, and Muon's update does not depend on it.
    """
    return (tensor.permute(0, 2, 3, 1) if columns_last else tensor).reshape(len(tensor), -1)


def orthogonal(matrix: Tensor) -> Tensor:
    """Return a matrix with the same singular vectors and singular values of about 1.

    Five steps bring singular values above 0.01 of the norm to between 0.68 and 1.13. On a GPU they
    are computed in bfloat16.
    """
    linear, cubic, quintic = COEFFICIENTS
    found = matrix.bfloat16() if matrix.is_cuda else matrix
    if wide := len(found) <= found.shape[1]:
        found = found.mT
    found = found / found.norm().clamp(min=1e-7)
    for _ in range(STEPS):
        gram = found.mT @ found
        found = torch.addmm(found, found, torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic),
                            beta=linear)  # fmt: skip
    return (found.mT if wide else found).to(matrix.dtype)
