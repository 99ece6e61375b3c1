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
from noisyvos.models.base import Clip
from noisyvos.training import checkpoint
from noisyvos.training.batches import feed
from noisyvos.training.curve import Curve
from noisyvos.training.diagnosis import diagnoses
from noisyvos.training.group import ALONE, Group
from noisyvos.training.progress import Progress
from noisyvos.training.schedule import is_diagnosed, learning_rate
from noisyvos.training.snapshots import Iterates
from noisyvos.training.sources import ClipSource
from noisyvos.training.step import Learner, StepResult, as_floats, take_step
from noisyvos.training.trace import Trace

STOPPED = 143  # exit code of a training that was asked to end and saved itself: 128 + SIGTERM
INTERRUPTED = 130  # the same from the keyboard
MOST_LEFT_OUT = 100  # steps in a row without a finite gradient: loss scaling, which halves at each, cannot help any more

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


def train(
    learner: Learner,
    source: ClipSource,
    *,
    name: str,
    file: Path,
    mark: str,
    watch: Watch,
    group: Group = ALONE,
    trace: Path | None = None,
    iterates: Path | None = None,
) -> tuple[Curve, Progress]:
    """Train to the end of the schedule and return the curve; resume from the checkpoint `file` if it bears `mark`.

    On a CPU the result is the same bit for bit whether or not it was interrupted, for as many processes as `group` has.
    trace: where to write a profile of a few iterations; iterates: the final weights' file, beside which the schedule's
    `keep_weights_every` puts those on the way (`weights-00025000.safetensors`). Raises UserError when the loss is no longer
    a finite number or memory runs out, and SystemExit after SIGTERM or SIGUSR1 (143) or Ctrl-C (130), with the state saved.
    """
    schedule = learner.schedule
    start, curve = _restore(learner, file, mark, group)
    kept = Iterates(iterates if group.leads else None, schedule.keep_weights_every, start)
    progress = Progress(name, start, schedule.total, shown=group.leads)
    tracer, saved, left_out = Trace(trace if group.leads else None), start, 0
    batches = feed(
        source,
        schedule,
        learner.seed,
        start,
        schedule.workers,
        clean=learner.method.clean_labels,
        group=group,
    )
    with _stop_requests() as stop:
        for iteration in range(start, schedule.total):
            tracer.before()
            asked = time.monotonic()
            with _reading_advice(iteration, saved):
                clip = next(batches).to(learner.device)
            progress.waited += time.monotonic() - asked
            with _memory_advice(iteration):
                result = take_step(learner, clip, iteration, group)
            values = _note(curve, result, clip, iteration, learner, group, saved)
            left_out = 0 if math.isfinite(result.norm) else left_out + 1
            if left_out == MOST_LEFT_OUT:
                raise UserError(
                    f"Half precision found no finite gradient in {left_out} iterations up to {iteration}, so nothing is learned. "
                    f"Set `amp: bf16` or `amp: false` in train.yaml, or lower `learning_rate`.{_kept(saved)}"
                )
            done = iteration + 1
            progress.norms.add({"gradient/norm": result.norm})
            if done % schedule.row_every == 0 or done == schedule.total:
                due = bool(curve.shares.counts) and (
                    done == schedule.total or _diagnosis_ends(learner, done)
                )
                row = curve.close_row(
                    done, learning_rate(schedule, iteration), with_diagnostics=due
                )
                watch(row | progress.norms.take(), done)
            progress.advance(values["loss"], result.norm)
            tracer.after(last=done == schedule.total)
            kept.after(done, learner)
            leave = _agreed(stop, group)
            if leave or (done % schedule.checkpoint_every == 0 and done < schedule.total):
                state = (
                    {"iteration": done, "learner": learner.state(), "curve": curve.state()}
                    if group.leads
                    else {}
                )
                if group.told(
                    group.leads and checkpoint.save(file, mark, state, schedule.checkpoints_kept)
                ):
                    saved = done
            if leave:
                if group.leads:
                    print(
                        f"{name}: asked to stop, saved at iteration {saved} of {schedule.total}.",
                        file=sys.stderr,
                    )
                raise SystemExit(INTERRUPTED if leave == signal.SIGINT else STOPPED)
    progress.close()
    return curve, progress


def _agreed(stop: list[int], group: Group) -> int:
    """Return the signal to stop for, 0 for none: what reached one process holds for all, after the same iteration."""
    asked = group.sums([float(signal.SIGINT in stop[:1]), float(bool(stop))])
    if not asked[1]:
        return 0
    return signal.SIGINT if asked[0] else signal.SIGTERM


def _kept(saved: int) -> str:
    return f" The state of iteration {saved} is kept." if saved else ""


@contextmanager
def _reading_advice(iteration: int, saved: int) -> Iterator[None]:
    """Turn what torch raises when a process that reads ahead is gone into a sentence that says what may help."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"A process that reads ahead ended at iteration {iteration} ({str(error).splitlines()[0]}). Often memory, or shared memory "
            f"(/dev/shm), ran out: lower `workers` in train.yaml, which changes no result.{_kept(saved)}"
        ) from error


@contextmanager
def _memory_advice(iteration: int) -> Iterator[None]:
    """Turn what torch raises when memory runs out into a sentence that names the settings that need less."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(
            error
        ):
            raise
        raise UserError(
            f"Memory ran out at iteration {iteration} ({str(error).splitlines()[0]}). In train.yaml, raise `parts` (same result, "
            "a smaller piece of the batch at a time), lower `crop`, `batch`, `clip_length` or `objects`, or set `amp: true` on a GPU; "
            "or train in more processes (--processes)."
        ) from error


def _restore(learner: Learner, file: Path, mark: str, group: Group) -> tuple[int, Curve]:
    state: dict[str, Any] | None = checkpoint.load(file, mark) if group.leads else None
    reached = group.told(state and state["iteration"])
    if reached is None:
        return 0, Curve()
    if not group.leads:
        state = checkpoint.load(file, mark)
    if state is None or state["iteration"] != reached:
        raise UserError(
            f"{file}: not every process can read this checkpoint. Its folder must be the same for all."
        )
    learner.load_state(state["learner"])
    if group.leads:
        print(
            f"noisyvos: resuming at iteration {state['iteration']} of {learner.schedule.total}.",
            file=sys.stderr,
        )
    return state["iteration"], Curve.from_state(state["curve"])


def _note(
    curve: Curve,
    result: StepResult,
    clip: Clip,
    iteration: int,
    learner: Learner,
    group: Group,
    saved: int,
) -> dict[str, float]:
    """Add a step to the curve and return its values; UserError if the loss, or in full precision the gradient, is not finite."""
    values = as_floats(result, len(clip.frames) / clip.place()[1], group)
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if (
        not bad and not learner.scaler.is_enabled() and not math.isfinite(result.norm)
    ):  # loss scaling leaves such steps out
        bad = ["its gradient"]
    if "loss" in bad or "its gradient" in bad:
        raise UserError(
            f"The loss is no longer a finite number at iteration {iteration} ({', '.join(bad)}). "
            "Lower `learning_rate` or set `gradient_clip` in train.yaml, or set `amp: false` if this is a GPU."
            + _kept(saved)
        )
    curve.terms.add(values)
    if is_diagnosed(learner.schedule, iteration):
        for shares in diagnoses(learner.method, result, clip, iteration, group):
            curve.shares.add(shares)
    return values


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
