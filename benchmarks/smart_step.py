"""A training step of SMART against a plain one (method `xmem`).

CPU time or GPU time, and memory, on equal clips.

python benchmarks/smart_step.py [--model xmem] [--batch 2] [--frames 4] [--side 128] [--rounds 5]
[--device cpu]

A second line has SMART with its teacher in bf16, where the machine computes in it.
All start from the same network and see the same clips, one step of each in turn, so that other
work on the machine slows both alike; the ratio is that of the smallest times. On a CPU one thread
is used and its CPU seconds count. What the teacher adds to memory is its weights; the growth of the
peak is measured in processes of their own (CPU) or by the allocator (GPU).
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from noisyvos import models
from noisyvos.devices import half_precision
from noisyvos.methods import build as build_method
from noisyvos.models.base import Clip
from noisyvos.training.monitor import memory_peak
from noisyvos.training.schedule import Schedule
from noisyvos.training.step import Learner, StepResult, make_learner, take_step

RATIO = 1.35  # a SMART step takes at most this share of a plain one
METHODS = ("xmem", "smart")
HALVED = "smart, teacher in bf16"


def moving_squares(batch: int, length: int, side: int) -> Clip:
    """Return clips of two squares that move over noise."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(batch, length, side, side, dtype=torch.int64)
    for t in range(length):
        for label in (1, 2):
            start, size = side // 8 * label + t * side // 32, side // 5
            masks[:, t, start : start + size, start : start + size] = label
    frames = 0.3 * torch.rand(
        batch, length, 3, side, side, generator=generator
    ) + 0.3 * masks.unsqueeze(2)
    return Clip(frames, masks, torch.full((batch,), 2), slots=2)


def learner(
    model: str, method: str, options: argparse.Namespace, teacher_amp: str | None = None
) -> Learner:
    """Return a learner of `method` in the middle of the published schedule.

    Where a share of pixels is chosen.
    """
    schedule = Schedule(
        iterations=1000,
        batch=options.batch,
        clip_length=options.frames,
        learning_rate=1e-6,
        amp=options.amp,
        teacher_amp=teacher_amp,
    )
    return make_learner(
        models.build(model, seed=0),
        build_method(method, total_iterations=1000),
        schedule,
        0,
        torch.device(options.device),
    )


def difference(full: StepResult, half: StepResult) -> str:
    """Return how a step whose teacher is in half precision differs from one in full precision."""
    assert full.teacher is not None
    assert half.teacher is not None
    changed = [
        (one.argmax(1) != other.argmax(1)).float().mean()
        for one, other in zip(full.teacher.logits, half.teacher.logits, strict=True)
    ]
    share = float(torch.stack(changed).mean())
    loss = abs(float(half.loss) / float(full.loss) - 1)
    return f"{share:.1e} of the teacher's pixels change their class, the loss by {loss:.1e}"


def cost(step: Callable[[], object], device: str) -> float:
    """Return CPU seconds of a step, or on a GPU seconds until it is done."""
    if device == "cpu":
        start = time.process_time()
        step()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def peak(method: str, options: argparse.Namespace) -> float:
    """Return the peak memory in MiB of two steps of `method`, as the only thing a process does."""
    command = [
        sys.executable,
        __file__,
        "--memory-of",
        method,
        "--model",
        options.model,
        "--device",
        options.device,
    ]
    command += [
        "--batch",
        str(options.batch),
        "--frames",
        str(options.frames),
        "--side",
        str(options.side),
    ]
    command += ["--amp"] if options.amp else []
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    """Print times, ratio and memory; the exit code is 1 if the ratio is above its bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="xmem")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--amp", action="store_true", help="half precision (on a GPU)")
    parser.add_argument("--memory-of", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clip = moving_squares(options.batch, options.frames, options.side).to(options.device)
    if options.memory_of:
        alone = learner(options.model, options.memory_of, options)
        for iteration in (400, 401):
            take_step(alone, clip, iteration)
        print(memory_peak(torch.device(options.device)))
        return 0
    peaks = {name: peak(name, options) for name in METHODS}
    learners = {name: learner(options.model, name, options) for name in METHODS}
    if half_precision("bf16", torch.device(options.device), inference=True) is not None:
        learners[HALVED] = learner(options.model, "smart", options, "bf16")
    times: dict[str, list[float]] = {name: [] for name in learners}
    results: dict[str, StepResult] = {}
    for iteration in range(400, 401 + options.rounds):
        for name, own in learners.items():

            def step(name: str = name, own: Learner = own, iteration: int = iteration) -> None:
                results[name] = take_step(own, clip, iteration)

            seconds = cost(step, options.device)
            if iteration > 400:  # first steps prepare kernels and memory
                times[name].append(seconds)
    plain, smart = (min(times[name]) for name in METHODS)
    weights = (
        sum(
            value.numel() * value.element_size()
            for value in learners["smart"].teacher.state_dict().values()
        )
        / 2**20
    )
    unit = "CPU s" if options.device == "cpu" else "s on the GPU"
    shape = (
        f"batch {options.batch} of {options.frames} frames at {options.side} x "
        f"{options.side}, two objects"
    )
    print(
        f"{options.model}, {shape}, {options.rounds} steps of each in "
        f"turn{', half precision' if options.amp else ''}:"
    )
    print(
        f"  plain step (xmem) {plain:.3f} {unit}, SMART step {smart:.3f}, ratio "
        f"{smart / plain:.2f} (bar {RATIO})"
    )
    if HALVED in learners:
        half = min(times[HALVED])
        print(f"  with `teacher_amp: bf16` {half:.3f} {unit}, ratio {half / plain:.2f}; ", end="")
        print(difference(results["smart"], results[HALVED]))
    print(
        f"  peak memory {peaks['xmem']:.0f} MiB plain, {peaks['smart']:.0f} MiB SMART; weights of "
        f"the teacher {weights:.0f} MiB"
    )
    return 0 if smart / plain <= RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
