"""The training loop: from a learner and a source of clips to trained weights, resumable at any moment."""

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from noisyvos.errors import UserError
from noisyvos.methods.diagnostics import diagnose
from noisyvos.models.base import Clip
from noisyvos.training import checkpoint
from noisyvos.training.batches import feed
from noisyvos.training.curve import Curve
from noisyvos.training.progress import Progress
from noisyvos.training.schedule import is_diagnosed, learning_rate
from noisyvos.training.sources import ClipSource
from noisyvos.training.step import Learner, StepResult, as_floats, take_step

STOPPED = 143  # exit code of a training that was asked to end and saved itself: 128 + SIGTERM
INTERRUPTED = 130  # the same from the keyboard

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

Watch = Callable[[dict[str, float], int], None]  # takes a row of the curve and its iteration


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Yield a list that receives SIGTERM, SIGUSR1 and SIGINT instead of the process being ended by them."""
    received: list[int] = []
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in _SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(learner: Learner, source: ClipSource, *, name: str, file: Path, mark: str, watch: Watch) -> tuple[Curve, Progress]:
    """Train to the end of the schedule and return the curve; resume from the checkpoint `file` if it bears `mark`.

    On a CPU the result is the same bit for bit whether or not it was interrupted. Raises UserError when the loss is no
    longer a finite number, and SystemExit after SIGTERM or SIGUSR1 (143) or Ctrl-C (130), with the state saved.
    """
    schedule = learner.schedule
    start, curve = _restore(learner, file, mark)
    progress = Progress(name, start, schedule.total)
    batches = feed(source, schedule, learner.seed, start, schedule.workers, clean=learner.method.clean_labels)
    with _stop_requests() as stop:
        for iteration in range(start, schedule.total):
            asked = time.monotonic()
            clip = next(batches).to(learner.device)
            progress.waited += time.monotonic() - asked
            result = take_step(learner, clip, iteration)
            loss = _note(curve, result, clip, iteration, learner)
            done = iteration + 1
            if done % schedule.row_every == 0 or done == schedule.total:
                due = bool(curve.shares.counts) and (done == schedule.total or _diagnosis_ends(learner, done))
                row = curve.close_row(done, learning_rate(schedule, iteration), with_diagnostics=due)
                watch(row, done)
            progress.advance(loss)
            if stop or (done % schedule.checkpoint_every == 0 and done < schedule.total):
                checkpoint.save(file, mark, {"iteration": done, "learner": learner.state(), "curve": curve.state()})
            if stop:
                print(f"{name}: asked to stop, saved at iteration {done} of {schedule.total}.", file=sys.stderr)
                raise SystemExit(INTERRUPTED if stop[0] == signal.SIGINT else STOPPED)
    progress.close()
    return curve, progress


def _restore(learner: Learner, file: Path, mark: str) -> tuple[int, Curve]:
    state: dict[str, Any] | None = checkpoint.load(file, mark)
    if state is None:
        return 0, Curve()
    learner.load_state(state["learner"])
    print(f"noisyvos: resuming at iteration {state['iteration']} of {learner.schedule.total}.", file=sys.stderr)
    return state["iteration"], Curve.from_state(state["curve"])


def _note(curve: Curve, result: StepResult, clip: Clip, iteration: int, learner: Learner) -> float:
    """Add a step to the curve and return its loss; UserError if that is not finite."""
    values = as_floats(result)
    if not math.isfinite(values["loss"]):
        bad = ", ".join(name for name, value in values.items() if not math.isfinite(value))
        raise UserError(
            f"The loss is no longer a finite number at iteration {iteration} ({bad}). "
            "Lower `learning_rate` or set `gradient_clip` in train.yaml, or set `amp: false` if this is a GPU."
        )
    curve.terms.add(values)
    if clip.clean is not None and is_diagnosed(learner.schedule, iteration):
        for t, logits in enumerate(result.output.logits, start=1):
            guess = None if result.teacher is None else result.teacher.logits[t - 1]
            share = float(result.terms.get("top_p", 1.0))
            curve.shares.add(diagnose(logits, clip.masks[:, t], clip.clean[:, t], clip.num_objects, guess, share))
    return values["loss"]


def _diagnosis_ends(learner: Learner, done: int) -> bool:
    """Return whether the batches of the current diagnosis are all in after `done` iterations."""
    period = max(1, learner.schedule.total // learner.schedule.diagnostics)
    return done % period == 0 or not is_diagnosed(learner.schedule, done)


def memory_peak(device: torch.device) -> float:
    """Return the highest memory use so far in MiB: of the GPU if there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
