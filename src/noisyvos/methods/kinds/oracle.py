"""The upper bound: training on clean labels for the frames after the prompt."""

from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from noisyvos.errors import UserError
from noisyvos.methods.base import METHODS, Method
from noisyvos.models.base import Clip, ClipOutput
from noisyvos.registry import Settings


class OracleSettings(Settings):
    """Settings of `oracle_clean`."""

    # this setting names another registered kind, whose code is a dependency too
    builds: ClassVar[dict[str, str]] = {"method": "noisyvos.methods.kinds"}

    method: str = Field(
        "xmem",
        description=(
            "Method that learns from the clean labels. It must have one network and no teacher."
        ),
    )
    settings: dict[str, Any] = Field({}, description="Settings of that method.")


@METHODS.register("oracle_clean", OracleSettings)
class CleanOracle(Method):
    """Another method, trained on clean labels for t >= 1. The prompt keeps its noisy labels.

    Only this method may read clean labels.
    """

    settings: OracleSettings
    clean_labels = True

    def __init__(self, settings: OracleSettings, total_iterations: int | None = None) -> None:
        from noisyvos.methods import from_settings

        super().__init__(settings, total_iterations)
        self.inner: Method = from_settings(settings.method, settings.settings, total_iterations)
        if self.inner.networks != 1 or self.inner.teacher or self.inner.clean_labels:
            raise UserError(
                "Method 'oracle_clean' needs an inner method with one network and no teacher, "
                f"not {settings.method!r}."
            )
        self.in_parts, self.in_processes = self.inner.in_parts, self.inner.in_processes
        self.scalar_learning_rate = self.inner.scalar_learning_rate

    def terms(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        num_objects: Tensor,
        teacher_logits: Tensor | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return the inner method's terms. The caller must pass clean labels as `target`."""
        return self.inner.terms(logits, target, num_objects=num_objects, iteration=iteration)

    def clip_loss(
        self,
        outputs: list[ClipOutput],
        clip: Clip,
        *,
        teacher: ClipOutput | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return the inner method's terms on the clip's clean labels.

        Raises UserError if the clip has none.
        """
        if clip.clean is None:
            raise UserError(
                "Method 'oracle_clean' needs the clean labels of the training clips, "
                "but this dataset has none."
            )
        return self.inner.clip_loss(outputs, replace(clip, masks=clip.clean), iteration=iteration)

    def views(self, clip: Clip, *, seed: int, iteration: int) -> list[Clip]:
        return self.inner.views(clip, seed=seed, iteration=iteration)

    def end_step(self) -> None:
        self.inner.from_all = self.from_all
        self.inner.end_step()

    def parameters(self) -> list[torch.nn.Parameter]:
        return self.inner.parameters()

    def state_dict(self) -> dict[str, Any]:
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.inner.load_state_dict(state)
