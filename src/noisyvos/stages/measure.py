"""Command `measure`: time a few steps of everything a preset trains, for `noisyvos plan`."""

import multiprocessing
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from noisyvos.devices import choose_device
from noisyvos.errors import UserError
from noisyvos.params.presets import read_preset
from noisyvos.params.validate import check
from noisyvos.pipeline.grid import Catalogue, expand
from noisyvos.pipeline.speed import (
    Speed,
    Workload,
    read_speeds,
    settings_hash,
    workloads,
    write_speeds,
)
from noisyvos.training.clip_readers import Drawing, Sample

WARM = 2  # steps before the clock runs: the first ones choose kernels and fill memory


def run(
    preset: str,
    *,
    params: Path,
    converted: Path,
    out: Path,
    device: str,
    threads: int,
    steps: int,
    again: bool,
) -> None:
    """Measure what `preset` trains and add it to the file `out`.

    Entries that the file already has stay as they are, unless `again`.

    Each combination runs in a separate process: peak memory is measured for each, and one that does
    not fit fails alone.
    UserError if the device is not here or nothing could be measured.
    """
    check(params, settings=False)
    catalogue = Catalogue(params)
    found = workloads(expand(read_preset(params, preset), catalogue), catalogue, converted)
    loads = {
        settings_hash(load, catalogue): load
        for load in found.values()
        if isinstance(load, Workload)
    }
    for reason in dict.fromkeys(load for load in found.values() if isinstance(load, str)):
        print(f"left out: {reason}", file=sys.stderr)
    measured = 0
    for settings, load in loads.items():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            name = process.submit(device_name, device).result()
            known = any(
                (row.settings, row.device, row.threads) == (settings, name, threads)
                for row in read_speeds(out)
            )
            if known and not again:
                print(f"{load.text}: measured before on {name}")
                measured += 1
                continue
            try:
                speed = process.submit(
                    measure, load, settings, params, device, threads, steps
                ).result()
            except (
                Exception
            ) as error:  # one that does not fit this machine must not cost the others
                print(
                    f"{load.text}: not measured "
                    f"({type(error).__name__}: {str(error).splitlines()[0][:200]})",
                    file=sys.stderr,
                )
                continue
        write_speeds(out, [speed])
        measured += 1
        print(
            f"{load.text}: {speed.iterations_per_second:.3g} it/s, "
            f"peak {speed.peak_memory_mib:.0f} MiB on {speed.device}"
        )
    if not measured:
        raise UserError(
            f"Nothing of preset {preset!r} could be measured here; the lines above say why."
        )
    print(
        f"{out}: {measured} of {len(loads)} combinations of preset {preset}; "
        f"`noisyvos plan {preset}` adds them up"
    )


def device_name(device: str) -> str:
    """Return what the device that `auto`, `cpu` or `cuda` means here is called."""
    import torch

    if choose_device(device).type == "cuda":
        return torch.cuda.get_device_name(0)
    models = [
        line.split(":", 1)[1].strip()
        for line in _lines(Path("/proc/cpuinfo"))
        if line.startswith("model name")
    ]
    return f"CPU {models[0] if models else platform.processor() or platform.machine()}"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def measure(
    load: Workload, settings: str, params: Path, device: str, threads: int, steps: int
) -> Speed:
    """Return the measured speed of a workload: steps from the middle of the schedule.

    The pictures are made up in memory.

    Reading and augmenting count where the schedule does them between steps (`workers: 0`).
    Elsewhere they run beside the steps.
    """
    import torch

    from noisyvos import methods, models
    from noisyvos.params.entries import read_family
    from noisyvos.training.batches import make_batch
    from noisyvos.training.monitor import memory_peak
    from noisyvos.training.schedule import Schedule
    from noisyvos.training.step import make_learner, take_step

    place = choose_device(device)
    torch.set_num_threads(threads)
    model, method = (
        dict(read_family(params, family)[name])
        for family, name in (("models", load.model), ("methods", load.method))
    )
    schedule = Schedule(**read_family(params, "train")[load.schedule])
    learner = make_learner(
        models.build(model.pop("kind"), seed=0, **(model | schedule.network)),
        methods.from_settings(method.pop("kind"), method, schedule.total),
        schedule,
        0,
        place,
    )
    source = MadeUp(load.height, load.width, schedule.objects)
    first = schedule.total // 2
    clean = learner.method.clean_labels
    ready = make_batch(source, schedule, 0, first, clean=clean).to(place)
    spent = 0.0
    for step in range(WARM + steps):
        _wait(place)
        began = time.perf_counter()
        clip = (
            ready
            if schedule.workers
            else make_batch(source, schedule, 0, first + step, clean=clean).to(place)
        )
        take_step(learner, clip, min(first + step, schedule.total - 1))
        _wait(place)
        spent += time.perf_counter() - began if step >= WARM else 0.0
    relabelling = learner.method.relabelling
    return Speed(
        model=load.model,
        method=load.method,
        schedule=load.schedule,
        height=load.height,
        width=load.width,
        device=device_name(device),
        precision=str(learner.half or torch.float32).removeprefix("torch."),
        threads=threads,
        torch=torch.__version__,
        steps=steps,
        iterations_per_second=float(f"{steps / spent:.4g}"),
        peak_memory_mib=round(memory_peak(place)),
        trainings=1 if relabelling is None else 1 + relabelling.rounds,
        settings=settings,
    )


def _wait(device: object) -> None:
    import torch

    if str(device).startswith("cuda"):
        torch.cuda.synchronize()


class MadeUp:
    """A source of clips that needs no data: noise with moving boxes, one for each object."""

    name = "made up"

    def __init__(self, height: int, width: int, objects: int) -> None:
        self.height, self.width, self.objects = height, width, objects

    def __len__(self) -> int:
        return 64

    def unit(self, position: int, seed: int) -> int:
        """Return the number of the video of sample `position`."""
        return position % len(self)

    def sizes(self) -> set[tuple[int, int]]:
        """Return the one frame size (height, width)."""
        return {(self.height, self.width)}

    def clip(
        self, unit: int, *, length: int, how: Drawing, clean: bool, generator: np.random.Generator
    ) -> Sample:
        """Return a clip of `length` frames whose boxes fill columns of the frame.

        The arguments of the drawing change nothing.
        """
        frames = generator.integers(0, 255, (length, self.height, self.width, 3), dtype=np.uint8)
        masks = np.zeros(frames.shape[:3], np.uint8)
        column = self.width // self.objects
        for time_, identity in np.ndindex(length, self.objects):
            top = (unit + time_) % max(1, self.height // 4)
            left = identity * column
            masks[time_, top : top + self.height // 2, left : left + max(1, 3 * column // 4)] = (
                identity + 1
            )
        names = tuple(f"{time_:05d}" for time_ in range(length))
        return Sample(frames, masks, masks if clean else None, (self.name, f"video{unit}", *names))
