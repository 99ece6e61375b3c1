"""torch's Muon for convolutions, which it does not take itself: it updates matrices only."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def _as_matrix(tensor: Tensor, columns_last: bool) -> Tensor:
    """Return (O, I, h, w) as a matrix (O, I * h * w), whose columns may have the order (h, w, I).

    That order is a view of a weight in channels-last, and Muon's update does not depend on it.
    """
    return (tensor.permute(0, 2, 3, 1) if columns_last else tensor).reshape(len(tensor), -1)


class ConvolutionMuon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) with Nesterov momentum 0.95 and five Newton-Schulz steps.

    Each weight is a matrix with a row per output channel. An update is 0.2 * sqrt(max(rows,
    columns)) times an orthogonal matrix, whose entries are as large as an update of Adam (Liu et
    al. 2025, "Muon is Scalable for LLM Training", section 2.2). Every parameter group sets `share`
    and `weight_decay`.
    """

    def __init__(
        self, groups: list[dict[str, Any]], muon: Callable[..., torch.optim.Optimizer]
    ) -> None:
        super().__init__(groups, {"lr": 0.0})
        matrices = [
            {
                "params": [
                    nn.Parameter(_as_matrix(weight.detach(), not weight.is_contiguous()))
                    for weight in group["params"]
                ],
                "weight_decay": group["weight_decay"],
            }
            for group in groups
        ]
        self._muon = muon(
            matrices, lr=0.0, momentum=0.95, ns_steps=5, adjust_lr_fn="match_rms_adamw"
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the convolutions that have a gradient, at the learning rates of their groups."""
        for group, matrices in zip(self.param_groups, self._muon.param_groups, strict=True):
            matrices["lr"] = group["lr"]
            for weight, matrix in zip(group["params"], matrices["params"], strict=True):
                if weight.grad is not None:
                    matrix.grad = _as_matrix(weight.grad, not weight.is_contiguous())
        self._muon.step()
        for matrices in self._muon.param_groups:
            for matrix in matrices["params"]:
                matrix.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return the momenta."""
        return self._muon.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._muon.load_state_dict(state_dict)
