"""The interface of a training method: logits and given labels in, a loss out; it never knows which network it drives."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from noisyvos.errors import UserError
from noisyvos.losses.pixels import Frame
from noisyvos.losses.selection import REFERENCE_ITERATIONS
from noisyvos.models.base import Clip, ClipOutput
from noisyvos.registry import Registry, Settings

METHODS = Registry("method", "noisyvos.methods.kinds")


class Method(ABC):
    """A way to learn from noisy labels.

    The training loop runs `networks` trained copies of the network (and one frozen teacher if `teacher` is set) on
    each clip, adds the networks' auxiliary losses to `clip_loss` and takes a step. A method that keeps state saves it
    through `state_dict`; learned scalars are named by `parameters`.
    """

    settings: Settings
    networks: ClassVar[int] = 1  # trained networks; of two, the loop sets the starts a little apart
    teacher: ClassVar[bool] = False  # a frozen second network, equal to the initial student
    clean_labels: ClassVar[bool] = (
        False  # learns from `Clip.clean`: an oracle, the only kind of method that may read it
    )
    in_parts: bool = True  # a batch's loss is the mean of its samples' losses, so that one after the other may be computed
    in_processes: bool = (
        True  # or at once, in several processes that may ask each other (`from_all`)
    )
    scalar_learning_rate: float | None = None  # of `parameters`; None: the networks'
    relabelling: Any = None  # settings of relabelling and training anew after the training (`training.relabel`), if there is any
    averaged: tuple[str, ...] = (
        "top_p",
        "sigma",
    )  # terms that a clip averages over its frames; losses are summed

    def __init__(self, settings: Settings, total_iterations: int | None = None) -> None:
        self.settings = settings
        self.total_iterations = (
            total_iterations  # the schedule's length, which time-dependent settings scale with
        )
        # What every process of the training passes to it, in the order of their samples; set by the loop.
        self.from_all: Callable[[Any], list[Any]] = lambda value: [value]

    @property
    def length(self) -> int:
        """The number of iterations that time-dependent settings scale with: the published schedule's where none is given."""
        return self.total_iterations or REFERENCE_ITERATIONS

    @abstractmethod
    def terms(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        num_objects: Tensor,
        teacher_logits: Tensor | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return the loss terms of one frame: `total` (scalar, weights included), `top_p` (float, share of pixels kept), the method's own.

        logits (B, K+1, H, W), target (B, H, W) int64 with 255 = ignore, num_objects (B,) int64. Own terms are per sample
        (B,) or scalar, and without weights.
        """

    def clip_loss(
        self,
        outputs: list[ClipOutput],
        clip: Clip,
        *,
        teacher: ClipOutput | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return the terms of a clip, summed over its frames (`averaged` ones: their mean); `outputs` holds one entry a trained network."""
        frames = [
            self.terms(
                logits,
                clip.masks[:, index + 1],
                num_objects=clip.num_objects,
                teacher_logits=None if teacher is None else teacher.logits[index],
                iteration=iteration,
            )
            for index, logits in enumerate(outputs[0].logits)
        ]
        return self.over_frames(frames)

    def views(self, clip: Clip, *, seed: int, iteration: int) -> list[Clip]:
        """Return other versions of a clip that go through the first network too; their outputs, in the clip's size, follow the networks'.

        What is random in them follows from (seed, iteration) and the place of a sample in the whole batch.
        """
        return []

    def kept_pixels(self, first: Frame, second: Frame, iteration: int) -> Tensor:
        """Return which pixels (B, H, W) the first of two networks learns from, for diagnostics."""
        return first.valid

    def end_step(self) -> None:  # noqa: B027 (most methods keep no state)
        """Take what the clips of a step said into the state, from all processes; called once a step."""

    def over_frames(self, frames: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the sum (or the mean, for `averaged` terms) of the frames' terms."""
        sums = {
            name: sum(terms[name] for terms in frames[1:]) + frames[0][name] for name in frames[0]
        }
        return {
            name: value / len(frames) if name in self.averaged else value
            for name, value in sums.items()
        }

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the method's own learned scalars."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs beyond the networks."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        if state:
            raise UserError(
                f"The saved state holds {', '.join(sorted(state))}, but this method keeps none: it is another method's."
            )
