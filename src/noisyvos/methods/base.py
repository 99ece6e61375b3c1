"""The interface of a training method: logits and given labels -> loss, for any network."""

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

    For each clip the training loop runs `networks` trained copies of the network, and one frozen
    teacher if `teacher` is set. It adds the networks' auxiliary losses to `clip_loss` and takes a
    step. A method saves its state through `state_dict` and names its learned scalars in
    `parameters`.
    """

    settings: Settings
    # number of trained networks; the loop perturbs their initial weights
    networks: ClassVar[int] = 1
    # needs a frozen second network, equal to the initial student
    teacher: ClassVar[bool] = False
    # learns from `Clip.clean`; only an oracle may read it
    clean_labels: ClassVar[bool] = False
    # The batch's loss is the mean of its samples' losses, so samples may be computed one by one.
    in_parts: bool = True
    # The loss may be computed in several processes, which communicate through `from_all`.
    in_processes: bool = True
    scalar_learning_rate: float | None = None  # of `parameters`; None: the networks'
    # settings for relabelling and retraining after the training (`training.relabel`); None: off
    relabelling: Any = None
    # terms that a clip averages over its frames; it sums all others
    averaged: tuple[str, ...] = ("top_p", "sigma")

    def __init__(self, settings: Settings, total_iterations: int | None = None) -> None:
        self.settings = settings
        # length of the schedule, which time-dependent settings scale with
        self.total_iterations = total_iterations
        # Gathers a value from every process, in the order of their samples; set by the loop.
        self.from_all: Callable[[Any], list[Any]] = lambda value: [value]

    @property
    def length(self) -> int:
        """The number of iterations that time-dependent settings scale with.

        Without a given length it is that of the published schedule.
        """
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
        """Return the loss terms of one frame.

        logits (B, K+1, H, W), target (B, H, W) int64 with 255 = ignore, num_objects (B,) int64. The
        terms are `total` (scalar, weights included), `top_p` (float, share of pixels kept) and
        those of the method, per sample (B,) or scalar, without weights.
        """

    def clip_loss(
        self,
        outputs: list[ClipOutput],
        clip: Clip,
        *,
        teacher: ClipOutput | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return the terms of a clip, summed over its frames, or averaged for those in `averaged`.

        `outputs` has one entry per trained network.
        """
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
        """Return other versions of a clip, which also pass through the first network.

        Their outputs, at the clip's size, follow those of the networks in `outputs`. Their random
        numbers depend on (seed, iteration) and the sample's position in the whole batch.
        """
        return []

    def kept_pixels(self, first: Frame, second: Frame, iteration: int) -> Tensor:
        """Return the pixels (B, H, W) that the first of two networks learns from, for
        diagnostics.
        """
        return first.valid

    def end_step(self) -> None:  # noqa: B027 (most methods keep no state)
        """Update the state from the clips of this step, of all processes. Called once per step."""

    def over_frames(self, frames: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the sum (for `averaged` terms: the mean) of the frames' terms."""
        sums = {
            name: sum(terms[name] for terms in frames[1:]) + frames[0][name] for name in frames[0]
        }
        return {
            name: value / len(frames) if name in self.averaged else value
            for name, value in sums.items()
        }

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the method's learned scalars."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed training needs in addition to the networks."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        if state:
            raise UserError(
                f"The saved state holds {', '.join(sorted(state))}, but this method has no state. "
                "It belongs to another method: resume with that method or start a new run."
            )
