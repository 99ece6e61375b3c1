"""Adam, AdamW and SGD on torch's fused kernels, without `torch.optim`, whose first use imports a compiler for over a second.

A cell of the demo trains for some twenty seconds, so that second counts. The updates are those of `torch.optim` (Kingma and
Ba 2015; Loshchilov and Hutter 2019, betas 0.9 and 0.999, epsilon 1e-8; SGD with Nesterov's momentum as Sutskever et al. 2013
write it). All have what `GradScaler` needs of an optimiser.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(frozen=True)
class Pace:
    """How a weight follows its gradient: its share of the learning rate, and its weight decay."""

    rate: float = 1.0
    weight_decay: float = 0.0


class Optimizer(ABC):
    """Weights, each with its pace, and one running value or more of each (`kept` names the lists of them)."""

    kept: ClassVar[tuple[str, ...]]

    def __init__(self, weights: list[Tensor], paces: list[Pace]) -> None:
        self.paces = paces  # of each weight
        self.rate = 0.0  # learning rate of the coming step
        self.weights = weights
        self.param_groups = [{"params": weights}]  # where GradScaler looks for gradients

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every weight that has a gradient."""
        for pace in dict.fromkeys(self.paces):
            at = [
                index
                for index, weight in enumerate(self.weights)
                if weight.grad is not None and self.paces[index] == pace
            ]
            if at:
                self._step(at, pace)

    @abstractmethod
    def _step(self, at: list[int], pace: Pace) -> None:
        """Update the weights of these places in the list, which have one pace."""

    def state_dict(self) -> dict[str, Any]:
        """Return the running values."""
        return {name: getattr(self, name) for name in self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        with torch.no_grad():
            for name in self.kept:
                for own, saved in zip(getattr(self, name), state[name], strict=True):
                    own.copy_(saved)


class Adam(Optimizer):
    """`kind` says whether weight decay acts on weights (adamw) or gradients (adam)."""

    kept = ("means", "squares", "steps")

    def __init__(
        self, weights: list[Tensor], *, kind: Literal["adamw", "adam"], paces: list[Pace]
    ) -> None:
        super().__init__(weights, paces)
        self.update = {"adamw": torch._fused_adamw_, "adam": torch._fused_adam_}[kind]
        self.means = [torch.zeros_like(weight) for weight in weights]
        self.squares = [torch.zeros_like(weight) for weight in weights]
        self.steps = [torch.zeros((), device=weight.device) for weight in weights]

    def _step(self, at: list[int], pace: Pace) -> None:
        steps = [self.steps[index] for index in at]
        torch._foreach_add_(steps, 1)
        self.update(
            [self.weights[index] for index in at],
            [self.weights[index].grad for index in at],
            [self.means[index] for index in at],
            [self.squares[index] for index in at],
            [],
            steps,
            lr=self.rate * pace.rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=pace.weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )


class SGD(Optimizer):
    """Gradient descent with Nesterov's momentum, without any for `momentum` 0; weight decay is added to the gradient."""

    kept = ("velocities",)

    def __init__(self, weights: list[Tensor], *, momentum: float, paces: list[Pace]) -> None:
        super().__init__(weights, paces)
        self.momentum = momentum
        self.velocities = [torch.zeros_like(weight) for weight in weights] if momentum else []

    def _step(self, at: list[int], pace: Pace) -> None:
        torch._fused_sgd_(
            [self.weights[index] for index in at],
            [self.weights[index].grad for index in at],
            [self.velocities[index] for index in at] if self.momentum else [],
            weight_decay=pace.weight_decay,
            momentum=self.momentum,
            lr=self.rate * pace.rate,
            dampening=0.0,
            nesterov=self.momentum > 0,
            maximize=False,
            is_first_step=False,  # the velocities are zero then, which gives the same
        )
