"""The parts of `benchmarks/gpu.py`: what each measures, at full size on a GPU or small on a CPU."""

import csv
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from noisyvos import models
from noisyvos.inference import iterate_video
from noisyvos.models.base import VideoModel
from noisyvos.pipeline.dvc_yaml import Job, Pipeline, load
from noisyvos.pipeline.speed import Speed, Workload
from noisyvos.stages.measure import WARM, measure

ROOT = Path(__file__).resolve().parents[1]
PARAMS = ROOT / "params"


@dataclass(frozen=True)
class Row:
    """One figure."""

    part: str
    what: str
    figure: str
    remark: str = ""


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    device: str
    suffix: str  # of the networks' names
    size: tuple[int, int]
    frames: int
    at_once: tuple[int, ...]
    training: tuple[str, str, int]  # network, schedule, side
    steps: int
    product: int  # side of a matrix
    preset: str  # whose first cell is run
    iterations: int | None  # of its trainings; None: as many as fit


FULL = Scale(
    "cuda", "", (480, 854), 60, (1, 4), ("xmem", "smart_stage3", 384), 10, 8192, "gpu_micro", None
)
SMALL = Scale(
    "cpu", "_tiny", (32, 48), 4, (1, 2), ("xmem_tiny", "smoke_main", 48), 1, 64, "smoke", 2
)
Measure = Callable[[Scale, float], Iterator[Row]]  # takes the scale and the deadline


@dataclass(frozen=True)
class Part:
    """What is measured, and about how long that takes on a GPU."""

    seconds: int
    about: str
    measure: Measure


# ---- the machine


def wait(device: str) -> None:
    """Wait until a device has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def best_seconds(work: Callable[[], object], device: str, times: int = 5) -> float:
    """Return the shortest time of one call."""
    work()
    found = []
    for _ in range(times):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        found.append(time.perf_counter() - began)
    return min(found)


def best_product(scale: Scale, kind: torch.dtype) -> float:
    """Return operations a second of a large matrix product."""
    side = scale.product
    left = torch.randn(side, side, device=scale.device, dtype=kind)
    return 2 * side**3 / best_seconds(lambda: left @ left, scale.device)


def the_machine(scale: Scale, deadline: float) -> Iterator[Row]:
    """Measure what the machine can do at most."""
    for name, kind in (("float32", torch.float32), ("TF32", torch.float32)):
        with precision(name):
            rate = best_product(scale, kind) / 1e12
        yield Row("Machine", f"matrix product in {name}", f"{rate:.3g} Tflop/s")
    for kind in (torch.float16, torch.bfloat16):
        rate = best_product(scale, kind) / 1e12
        name = str(kind).removeprefix("torch.")
        yield Row("Machine", f"matrix product in {name}", f"{rate:.3g} Tflop/s")
    data = torch.randn(scale.product**2 // 4, device=scale.device)
    there = torch.empty_like(data)
    seconds = best_seconds(lambda: there.copy_(data), scale.device)
    moved = 2 * data.numel() * data.element_size() / seconds / 1e9
    yield Row("Machine", "copy within its memory", f"{moved:.3g} GB/s", "read and written")


# ---- inference


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Compute float32 in full precision, or let a GPU round its factors to TF32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name != "float32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


AMP = {"float32": False, "TF32": False, "fp16": "fp16", "bf16": "bf16"}


def made_up(scale: Scale, objects: int, label: int | None) -> tuple[list[np.ndarray], np.ndarray]:
    """Return noise as frames, and an index mask with a box for each object.

    label: of the background, for networks that take scribbles.
    """
    height, width = scale.size
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(8)]
    mask = np.zeros(scale.size, np.uint8)
    for number in range(1, objects + 1):
        left = width * number // (objects + 2)
        mask[height // 4 : height // 2, left : left + width // 6] = number
    if label is not None:
        mask[-height // 8 :] = label
    return [frames[t % 8] for t in range(scale.frames)], mask


def frame_rate(
    model: VideoModel, scale: Scale, objects: int, amp: str, at_once: int, graphs: bool
) -> float:
    """Return frames a second of `at_once` videos together, without the first frames of each.

    Each video has a thread and a stream, as in `noisyvos infer --videos-at-once`.
    """
    frames, mask = made_up(scale, objects, model.background_label)
    ready = threading.Barrier(at_once)

    def segment(some: list[np.ndarray]) -> None:
        results = iterate_video(
            model,
            some,
            {0: mask},
            amp=AMP[amp],
            keep_probabilities=False,
            cuda_graphs=graphs,
        )
        for _ in results:
            pass

    def one(_: int) -> tuple[float, float]:
        if scale.device == "cuda":
            torch.cuda.set_stream(torch.cuda.Stream())
        try:
            segment(frames[:8])
            wait(scale.device)
            ready.wait()
        except Exception:
            ready.abort()
            raise
        began = time.perf_counter()
        segment(frames)
        return began, time.perf_counter()

    with precision(amp), ThreadPoolExecutor(at_once) as pool:
        spans = list(pool.map(one, range(at_once)))
    whole = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return at_once * len(frames) / whole


def rates(
    name: str,
    objects: Iterable[int],
    kinds: Iterable[tuple[str, bool]],
    several: bool = True,
) -> Measure:
    """Return what measures frames a second of a network.

    kinds: precision, and whether CUDA graphs are used.
    """

    def rows(scale: Scale, deadline: float) -> Iterator[Row]:
        model = models.build(f"{name}{scale.suffix}", seed=0).to(scale.device).eval()
        for amp, graphs in kinds:
            for count in objects:
                for at_once in scale.at_once if several else (1,):
                    if time.monotonic() > deadline:
                        return
                    rate = frame_rate(model, scale, count, amp, at_once, graphs)
                    peak = ""
                    if scale.device == "cuda":
                        peak = f"peak memory {torch.cuda.max_memory_allocated() >> 20} MiB"
                        torch.cuda.reset_peak_memory_stats()
                    how = f"{amp}{', CUDA graphs' if graphs else ''}"
                    what = f"{count} object{'s' * (count > 1)}, {how}"
                    videos = f", {at_once} videos at once" if at_once > 1 else ""
                    part = f"{NAMES[name]}{scale.suffix} at {scale.size[0]} x {scale.size[1]}"
                    yield Row(part, what + videos, f"{rate:.1f} frames/s", peak)

    return rows


NAMES = {
    "xmem": "XMem",
    "stm": "STM",
    "afb_urr": "AFB-URR",
    "rhmnet": "RHMNet",
    "aoc_net": "AOC-Net",
}
ALL = (("fp16", True), ("fp16", False), ("bf16", False), ("TF32", False), ("float32", False))
BEST = (("fp16", False), ("TF32", False))


def other_networks(scale: Scale, deadline: float) -> Iterator[Row]:
    """Measure the networks that are not compared with published figures."""
    for name in ("afb_urr", "rhmnet", "aoc_net"):
        yield from rates(name, (1,), BEST, several=False)(scale, deadline)


# ---- training


def training(scale: Scale, deadline: float) -> Iterator[Row]:
    """Measure XMem's last stage and SMART's step on the same batches."""
    model, schedule, side = scale.training
    peak = best_product(scale, torch.float16)
    speeds: dict[str, Speed] = {}
    for method, label in (("xmem", "plain step"), ("smart_released", "SMART's step")):
        workload = Workload(model, method, schedule, side, side)
        with FlopCounterMode(display=False) as counter:
            measure(workload, "", PARAMS, scale.device, threads=1, steps=1)
        speed = measure(workload, "", PARAMS, scale.device, threads=1, steps=scale.steps)
        speeds[method] = speed
        rate = speed.iterations_per_second
        share = rate * counter.get_total_flops() / (WARM + 1) / peak
        yield Row(
            "Training",
            f"{label}, {model}, {schedule}, {side} px",
            f"{rate:.3g} it/s",
            f"{speed.precision}, peak memory {speed.peak_memory_mib} MiB, {share:.0%} of a large "
            "half-precision matrix product's operations a second",
        )
    ratio = speeds["xmem"].iterations_per_second / speeds["smart_released"].iterations_per_second
    yield Row("Training", "SMART's step over a plain one", f"{ratio:.2f}", "goal 1.2")


# ---- the tests, and a cell from its data to its score


def the_tests(scale: Scale, deadline: float) -> Iterator[Row]:
    """Run tests/gpu, without the tests that measure speed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu"]
    done = run(command + ["-k", "not speed"], ROOT, deadline)
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    yield Row("Tests", "tests/gpu", lines[-1] if lines else f"exit code {done.returncode}")


def run(command: list[str], folder: Path, deadline: float) -> subprocess.CompletedProcess[str]:
    """Run a command that must end before the deadline."""
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=max(1.0, deadline - time.monotonic()),
    )


def first_cell(pipeline: Pipeline) -> list[Job]:
    """Return the jobs of the first trained and scored cell, in an order in which they can run."""
    made = {out: job for job in pipeline for out in job.outs}

    def chain(goal: Job) -> list[Job]:
        order: list[Job] = []

        def visit(job: Job) -> None:
            for needed in pipeline.inputs(job):
                if needed in made and made[needed] not in order:
                    visit(made[needed])
            if job not in order:
                order.append(job)

        visit(goal)
        return order

    chains = (chain(goal) for goal in pipeline.jobs["score"].values())
    return next(jobs for jobs in chains if any(job.stage == "train" for job in jobs))


def a_cell(scale: Scale, deadline: float) -> Iterator[Row]:
    """Run the first cell of a preset, its trainings shortened to what fits into the time."""
    jobs = first_cell(load(ROOT, scale.preset))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(PARAMS, folder / "params")
        whole = {}
        rate = 0.0
        for job in jobs:
            count = scale.iterations
            if job.stage in ("pretrain", "train"):
                left = deadline - time.monotonic() - 45
                if count is None and rate:  # the second training gets what the first one left
                    count = int(0.8 * left * rate)
                elif count is None:
                    count = 300
                whole[job.stage] = shorten(folder / "params/train.yaml", job.command, count)
            began = time.monotonic()
            words = shlex.split(job.command)
            command = [sys.executable, "-m", "noisyvos", *words[words.index("noisyvos") + 1 :]]
            if job.stage in ("pretrain", "train"):
                command.append("--no-track")
            done = run(command, folder, deadline)
            if done.returncode:
                raise RuntimeError(f"{job.name}: {(done.stderr.strip().splitlines() or [''])[-1]}")
            seconds = time.monotonic() - began
            remark = ""
            if job.stage in whole:
                done_, of = whole[job.stage]
                rate = done_ / seconds
                remark = f"{done_} of {of} iterations, {rate:.3g} it/s with the start"
            yield Row(f"First cell of {scale.preset}", job.name, f"{seconds:.1f} s", remark)
        (table,) = (folder / jobs[-1].outs[0]).glob("global_results-*.csv")
        with table.open(encoding="utf-8") as file:
            score = next(csv.DictReader(file))
        yield Row(
            f"First cell of {scale.preset}",
            "J&F (synthetic videos, shortened trainings)",
            f"{float(score['J&F-Mean']):.3f}",
        )


def shorten(file: Path, command: str, count: int) -> tuple[int, int]:
    """Lower the iterations of a training's schedule; return (iterations, those of the preset)."""
    words = shlex.split(command)
    name = words[words.index("--schedule") + 1]
    schedules = yaml.safe_load(file.read_text(encoding="utf-8"))
    of = int(schedules[name]["iterations"])
    fewer = max(2, min(of, count))
    schedules[name] |= {"iterations": fewer, "warmup": min(schedules[name].get("warmup", 0), 1)}
    file.write_text(yaml.safe_dump(schedules), encoding="utf-8")
    return fewer, of


PARTS = {
    "machine": Part(10, "matrix products and copies: what the machine can do", the_machine),
    "xmem": Part(
        90,
        "XMem at 480p: frames a second, one and three objects, one and four videos",
        rates("xmem", (1, 3), ALL),
    ),
    "training": Part(60, "XMem's last stage and SMART's step, batch 8, 384 px", training),
    "stm": Part(70, "STM at 480p, as XMem", rates("stm", (1, 3), ALL)),
    "others": Part(40, "AFB-URR, RHMNet and AOC-Net at 480p", other_networks),
    "tests": Part(60, "tests/gpu: full precision, half precision, NCCL", the_tests),
    "cell": Part(120, "the first cell of gpu_micro, from generated data to J&F", a_cell),
}
