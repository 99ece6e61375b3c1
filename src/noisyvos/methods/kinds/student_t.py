"""T-Loss: an object's error map is one draw from a Student-t distribution.

Its degrees of freedom are learned.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from noisyvos.losses.pixels import frame
from noisyvos.losses.robust import student_t
from noisyvos.methods.base import METHODS, Method
from noisyvos.registry import Settings


class StudentTSettings(Settings):
    """Settings of `tloss`."""

    start: float = Field(1.0, description="Initial logarithm of the degrees of freedom.")
    learning_rate: float = Field(1e-3, gt=0, description="Learning rate of that logarithm.")


@METHODS.register("tloss", StudentTSettings)
class StudentT(Method):
    """Negative log-likelihood of error maps per pixel, without dice.

    Masks with a large overall error have less weight.
    """

    settings: StudentTSettings

    def __init__(self, settings: StudentTSettings, total_iterations: int | None = None) -> None:
        super().__init__(settings, total_iterations)
        self.log_degrees = torch.nn.Parameter(torch.tensor(settings.start))
        self.scalar_learning_rate = settings.learning_rate

    def terms(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        num_objects: Tensor,
        teacher_logits: Tensor | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return `robust` (B,), `degrees` (scalar, degrees of freedom), `top_p` = 1 and `total`."""
        loss = student_t(frame(logits, target, num_objects), self.log_degrees)
        return {
            "total": loss.mean(),
            "robust": loss,
            "degrees": self.log_degrees.detach().exp(),
            "top_p": 1.0,
        }

    def parameters(self) -> list[torch.nn.Parameter]:
        return [self.log_degrees]
