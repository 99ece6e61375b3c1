"""The training loop: from a learner and a reader of clips to trained weights, resumable."""

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
from noisyvos.garbage import settle
from noisyvos.models.base import Clip
from noisyvos.training import checkpoint
from noisyvos.training.batches import feed
from noisyvos.training.clip_readers import ClipReader
from noisyvos.training.curve import Curve, Mean, diagnoses
from noisyvos.training.distributed import STOP_SIGNALS, Group
from noisyvos.training.monitor import Progress, Trace
from noisyvos.training.schedule import is_diagnosed, learning_rate
from noisyvos.training.step import Learner, StepResult, as_floats, take_step

STOPPED = 143  # exit code of a training that saved itself on request: 128 + SIGTERM
INTERRUPTED = 130  # the same after Ctrl-C: 128 + SIGINT
MOST_LEFT_OUT = 100  # steps in a row without a finite gradient, after which loss scaling gave up

Watch = Callable[[dict[str, float], int], None]  # takes a row of the curve and its iteration


def train(
    learner: Learner,
    reader: ClipReader,
    *,
    name: str,
    file: Path,
    fingerprint: str,
    watch: Watch,
    trace: Path | None = None,
    weights: Path | None = None,
) -> tuple[Curve, Progress]:
    """Train to the end of the schedule and return the curve.

    It resumes from the checkpoint `file` if that has the same `fingerprint`. On a CPU the result
    is the same bit for bit whether or not the training was interrupted, for a given number of
    processes. trace: file for a profile of a few iterations. weights: file of the final weights,
    beside which the schedule's `keep_weights_every` puts weight snapshots.

    Raises UserError if the loss is no longer finite or memory runs out. Raises SystemExit after
    SIGTERM or SIGUSR1 (143) or Ctrl-C (130), with the state saved.
    """
    settle()
    schedule, group = learner.schedule, learner.group
    start, curve = _restore(learner, file, fingerprint)
    snapshots = checkpoint.WeightSnapshots(
        weights if group.leads else None, schedule.keep_weights_every, start
    )
    watched = file.with_name("progress.json")
    progress = Progress(name, start, schedule.total, shown=group.leads, file=watched)
    tracer = Trace(trace if group.leads else None)
    saved, left_out, norms = start, 0, Mean()
    clean = learner.method.clean_labels
    batches = feed(reader, schedule, learner.seed, start, schedule.workers, clean, group)
    with _stop_requests() as stop:
        for iteration in range(start, schedule.total):
            tracer.before()
            asked = time.monotonic()
            with _prefetch_advice(iteration, saved):
                clip = next(batches).to(learner.device)
            progress.waited += time.monotonic() - asked
            with _memory_advice(iteration):
                result = take_step(learner, clip, iteration)
            values = _note(curve, result, clip, iteration, learner, saved)
            left_out = 0 if math.isfinite(result.norm) else left_out + 1
            if left_out == MOST_LEFT_OUT:
                raise UserError(
                    f"Half precision found no finite gradient in {left_out} iterations up to "
                    f"{iteration}, so nothing is learned. Set `amp: bf16` or `amp: false` in "
                    f"train.yaml, or lower `learning_rate`.{_kept(saved)}"
                )
            done = iteration + 1
            norms.add({"gradient/norm": result.norm})
            if done % schedule.row_every == 0 or done == schedule.total:
                row = curve.close_row(
                    done,
                    learning_rate(schedule, iteration),
                    with_diagnostics=_diagnosis_ends(curve, learner, done),
                )
                watch(row | norms.take(), done)
            progress.advance(values["loss"], result.norm)
            tracer.after(last=done == schedule.total)
            snapshots.save(done, learner.networks[0])
            leave = _agreed(stop, group)
            if leave or (done % schedule.checkpoint_every == 0 and done < schedule.total):
                written = group.leads and checkpoint.save(
                    file,
                    fingerprint,
                    {"iteration": done, "learner": learner.state(), "curve": curve.state()},
                    schedule.checkpoints_kept,
                )
                saved = done if group.broadcast(written) else saved
            if leave:
                if group.leads:
                    print(
                        f"{name}: asked to stop, saved at iteration {saved} of {schedule.total}.",
                        file=sys.stderr,
                    )
                raise SystemExit(INTERRUPTED if leave == signal.SIGINT else STOPPED)
    progress.close()
    return curve, progress


def _restore(learner: Learner, file: Path, fingerprint: str) -> tuple[int, Curve]:
    """Load the newest checkpoint, if any; return the iteration to go on from, and the curve."""
    group = learner.group
    state: dict[str, Any] | None = checkpoint.load(file, fingerprint) if group.leads else None
    reached = group.broadcast(state and state["iteration"])
    if reached is None:
        return 0, Curve()
    if not group.leads:
        state = checkpoint.load(file, fingerprint)
    if state is None or state["iteration"] != reached:
        raise UserError(
            f"{file}: not every process can read this checkpoint. "
            "Its folder must be the same for all."
        )
    learner.load_state(state["learner"])
    if group.leads:
        print(
            f"noisyvos: resuming at iteration {reached} of {learner.schedule.total}.",
            file=sys.stderr,
        )
    return reached, Curve.from_state(state["curve"])


def _note(
    curve: Curve, result: StepResult, clip: Clip, iteration: int, learner: Learner, saved: int
) -> dict[str, float]:
    """Add a step to the curve and return its values.

    UserError if the loss is not finite or, without loss scaling, the gradient is not.
    """
    values = as_floats(result, len(clip.frames) / clip.place()[1], learner.group)
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    # Loss scaling leaves out steps whose gradient is not finite.
    if not bad and not learner.scaler.is_enabled() and not math.isfinite(result.norm):
        bad = ["its gradient"]
    if "loss" in bad or "its gradient" in bad:
        raise UserError(
            f"The loss is no longer a finite number at iteration {iteration} ({', '.join(bad)}). "
            "Lower `learning_rate` or set `gradient_clip` in train.yaml, or set `amp: false` if "
            f"this is a GPU.{_kept(saved)}"
        )
    curve.terms.add(values)
    if is_diagnosed(learner.schedule, iteration):
        for shares in diagnoses(learner.method, result, clip, iteration, learner.group):
            curve.shares.add(shares)
    return values


def _diagnosis_ends(curve: Curve, learner: Learner, done: int) -> bool:
    """Return whether all batches of the current diagnosis are in after `done` iterations."""
    schedule = learner.schedule
    if not curve.shares.counts or done == schedule.total:
        return bool(curve.shares.counts)
    period = max(1, schedule.total // schedule.diagnostics)
    return done % period == 0 or not is_diagnosed(schedule, done)


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Yield a list that receives the stop signals, which do not end the process meanwhile."""
    received: list[int] = []
    before = {n: signal.signal(n, lambda got, _: received.append(got)) for n in STOP_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _agreed(stop: list[int], group: Group) -> int:
    """Return the signal for which all processes stop after this iteration, or 0.

    A signal that reached one process counts for all.
    """
    asked = group.all_reduce([float(signal.SIGINT in stop[:1]), float(bool(stop))])
    if not asked[1]:
        return 0
    return signal.SIGINT if asked[0] else signal.SIGTERM


def _kept(saved: int) -> str:
    return f" The state of iteration {saved} is kept." if saved else ""


@contextmanager
def _prefetch_advice(iteration: int, saved: int) -> Iterator[None]:
    """Explain what torch raises when a process that prefetches batches is gone."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"A process that prefetches batches ended at iteration {iteration} "
            f"({str(error).splitlines()[0]}). Often memory, or shared memory (/dev/shm), ran out: "
            f"lower `workers` in train.yaml, which changes no result.{_kept(saved)}"
        ) from error


@contextmanager
def _memory_advice(iteration: int) -> Iterator[None]:
    """Explain what torch raises when memory runs out: name the settings that need less."""
    try:
        yield
    except RuntimeError as error:
        on_gpu, on_cpu = isinstance(error, torch.OutOfMemoryError), "DefaultCPUAllocator"
        if not on_gpu and on_cpu not in str(error):
            raise
        raise UserError(
            f"Memory ran out at iteration {iteration} ({str(error).splitlines()[0]}). "
            "In train.yaml, raise `parts` (same result, a smaller piece of the batch at a time), "
            "lower `crop`, `batch`, `clip_length` or `objects`, or set `amp: true` on a GPU; "
            "or train in more processes (--processes)."
        ) from error
