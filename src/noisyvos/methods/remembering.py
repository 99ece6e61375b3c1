"""What methods share that remember something of every pixel of the source images: the state, its checkpoint and its exchange."""

from abc import abstractmethod
from typing import Any

from torch import Tensor

from noisyvos.losses.pixels import Frame, frame
from noisyvos.methods.base import Method
from noisyvos.methods.source_state import SourceState
from noisyvos.registry import Settings


class Remembering(Method):
    """Base of methods with state; they supply `frame_terms` and, from what is remembered, `clip_loss`."""

    def __init__(
        self, settings: Settings, total_iterations: int | None, memory: SourceState
    ) -> None:
        super().__init__(settings, total_iterations)
        self.memory = memory

    @abstractmethod
    def frame_terms(self, now: Frame, iteration: int) -> dict[str, Any]:
        """Return the terms of one frame of which nothing is remembered."""

    def terms(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        num_objects: Tensor,
        teacher_logits: Tensor | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return the terms of one frame of which nothing is remembered: `frame_terms` says which; see the base class."""
        return self.frame_terms(frame(logits, target, num_objects), iteration)

    def end_step(self) -> None:
        self.memory.settle(self.from_all)

    def state_dict(self) -> dict[str, Any]:
        return self.memory.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.memory.load_state_dict(state)
