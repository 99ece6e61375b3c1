"""One training as a stage sees it: inputs checked, network and method built, trained, and the three outputs written."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisyvos.datasets.sampling import frames_needed
from noisyvos.devices import choose_device
from noisyvos.errors import UserError, unknown_name
from noisyvos.io.atomic import write_json, write_text
from noisyvos.params.entries import read_family
from noisyvos.training.schedule import Schedule

if TYPE_CHECKING:
    import torch

    from noisyvos.training.curve import Curve
    from noisyvos.training.group import Group
    from noisyvos.training.loop import Watch
    from noisyvos.training.progress import Progress
    from noisyvos.training.sources import ClipSource


@dataclass(frozen=True)
class Task:
    """What to train and where to put it; names refer to the parameter files."""

    stage: str  # pretrain or train
    cell: str
    preset: str
    model: str
    method: str
    schedule: str
    seed: int
    params: Path
    weights: Path
    summary: Path
    curve: Path
    scratch: Path  # folder for checkpoints of all cells of all presets
    init: Path | None = None
    device: str = "auto"
    threads: int = 1
    track: bool = True
    processes: int | None = (
        None  # that share each batch; None: one for every GPU granted to this job, else 1
    )
    profile: Path | None = None  # where to write a trace of a few iterations
    deterministic: bool = False  # on a GPU: only algorithms that give the same bits each time


@dataclass(frozen=True)
class Chosen:
    """The entries of the parameter files that a task names."""

    model: dict[str, Any]
    method: dict[str, Any]
    schedule: Schedule


def _entry(params: Path, family: str, name: str) -> dict[str, Any]:
    entries = read_family(params, family)
    if name not in entries:
        raise unknown_name(f"name in {family}.yaml:", name, entries)
    entry = dict(entries[name])
    if family != "train" and "kind" not in entry:
        raise UserError(f"{family}.yaml: {name}: `kind` is missing.")
    return entry


def choose(task: Task) -> Chosen:
    """Return the settings a task names; UserError for anything unknown or wrong in them."""
    from pydantic import ValidationError

    from noisyvos.registry import describe

    values = _entry(task.params, "train", task.schedule)
    try:
        schedule = Schedule(**values)
    except ValidationError as error:
        raise UserError(f"train.yaml: {task.schedule}: {describe(error)}") from None
    return Chosen(
        _entry(task.params, "models", task.model),
        _entry(task.params, "methods", task.method),
        schedule,
    )


def _check_division(chosen: Chosen, name: str, count: int) -> None:
    """Refuse what parts of a batch, or several processes, cannot do."""
    from noisyvos import methods

    batch, parts = chosen.schedule.batch, chosen.schedule.parts
    if batch < count:
        raise UserError(
            f"A batch of {batch} cannot be shared by {count} processes: take at most {batch} (--processes, or GPUs of the job)."
        )
    if count == 1 and parts == 1:
        return
    method = methods.from_settings(
        chosen.method["kind"], _without_kind(chosen.method), chosen.schedule.total
    )
    why = f"Method {name!r} compares the samples of a batch, so it needs all of them in one place"
    if count > 1 and not method.in_processes:
        raise UserError(
            f"{why} and {count} processes cannot share it: train it with --processes 1, on one GPU."
        )
    if parts > 1 and not method.in_parts:
        raise UserError(f"{why}: set `parts: 1` in train.yaml, in place of {parts}.")


def _without_kind(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "kind"}


def carry_out(
    task: Task,
    make_source: Callable[[Schedule], "ClipSource"],
    inputs: dict[str, Path],
    facts: dict[str, Any],
) -> None:
    """Train `task`, in several processes where it says so or this job holds several GPUs, and write weights, summary and curve.

    make_source: opens the clips (it must pickle); inputs: files and folders the result depends on, by role; facts: what the summary adds
    (the data, the noise achieved). All of it is checked before the first step.
    """
    chosen = choose(task)
    if task.init is not None and not task.init.is_file():
        raise FileNotFoundError(
            f"{task.init}: no such weights to start from. Train them with `noisyvos pretrain`."
        )
    from noisyvos.training.processes import choose_count, run_together

    count = choose_count(task.processes, task.device)
    _check_division(chosen, task.method, count)
    run_together(_train, (task, chosen, make_source, inputs, facts), count)


def _train(
    task: Task,
    chosen: Chosen,
    make_source: Callable[[Schedule], "ClipSource"],
    inputs: dict[str, Path],
    facts: dict[str, Any],
    group: "Group",
) -> None:
    """Be one of the processes of a training, or its only one."""
    source = make_source(chosen.schedule)
    import torch

    from noisyvos import methods, models
    from noisyvos.losses.boundary_bias import LEAST_BIAS
    from noisyvos.training import checkpoint, loop
    from noisyvos.training.batches import check_sizes
    from noisyvos.training.relabel import kept_bias, relabel
    from noisyvos.training.sources import VideoSource
    from noisyvos.training.step import Learner, make_learner

    check_sizes(source, chosen.schedule)
    device = choose_device(task.device, group.rank)
    torch.set_num_threads(task.threads)
    if task.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
        torch.use_deterministic_algorithms(True)

    def start() -> "Learner":
        method = methods.from_settings(
            chosen.method["kind"], _without_kind(chosen.method), chosen.schedule.total
        )
        model = models.build(
            chosen.model["kind"],
            seed=task.seed,
            **(_without_kind(chosen.model) | chosen.schedule.network),
        )
        if task.init is not None:
            models.load_weights(model, task.init)
        return make_learner(model, method, chosen.schedule, task.seed, device)

    learner = start()
    method = learner.method
    if method.teacher and task.init is None:
        raise UserError(
            f"Method {task.method!r} needs a trained network to start from, its teacher: give weights (--init)."
        )
    if method.relabelling is not None and not isinstance(source, VideoSource):
        raise UserError(
            f"Method {task.method!r} relabels videos: it cannot be used in `noisyvos pretrain`."
        )
    if task.init is not None:
        inputs = inputs | {"init": task.init}
    settings = {
        "stage": task.stage,
        "model": {"name": task.model} | chosen.model,
        "method": {"name": task.method} | chosen.method,
        "schedule": {"name": task.schedule} | chosen.schedule.result_settings(),
        "seed": task.seed,
        "device": device.type,
    }
    settings |= {"deterministic": True} if task.deterministic else {}
    # Not how many processes there are: a training goes on in another number of them.
    entries = {"models": chosen.model, "methods": chosen.method}
    entries["train"] = chosen.schedule.model_dump()
    origin = checkpoint.provenance(inputs, task.stage, entries) if group.leads else {}
    mark = group.told(
        checkpoint.fingerprint(settings | {"threads": task.threads}, origin)
        if group.leads
        else None
    )
    file = task.scratch / task.preset / task.cell / "checkpoint.pt"
    with _tracked(
        task if group.leads else replace(task, track=False), settings | facts, origin
    ) as watch:
        biases: list[float] = []
        while True:
            labels, own_mark = (
                file.with_name(f"labels-{len(biases)}.zip"),
                f"{mark}-{len(biases)}" if biases else mark,
            )
            bias = group.told(kept_bias(labels, own_mark) if group.leads else None)
            if bias is None:
                how = {
                    "watch": watch,
                    "group": group,
                    "trace": task.profile,
                    "iterates": task.weights,
                }
                curve, progress = loop.train(
                    learner, source, name=task.cell, file=file, mark=own_mark, **how
                )
                if group.leads:
                    _report(task, progress, device, watch)
                if method.relabelling is None or len(biases) == method.relabelling.rounds:
                    break
                if group.leads:
                    bias = relabel(
                        learner.networks[0], source, method.relabelling, task.seed, labels, own_mark
                    )
                bias = group.told(bias)
            biases.append(bias)
            if abs(bias) < LEAST_BIAS:
                break
            if group.leads:
                checkpoint.discard(file)
            source, learner = (
                source.with_labels(
                    labels, frames_needed(chosen.schedule.sampler, chosen.schedule.clip_length)
                ),
                start(),
            )
    if not group.leads:
        return
    if method.relabelling is not None:
        facts = facts | {
            "relabelling": {"clean_masks": method.relabelling.clean_masks, "bias": biases}
        }
    shared = {"processes": group.size} if group.size > 1 else {}
    try:
        models.save_weights(learner.networks[0], task.weights)
        write_text(task.curve, curve.csv())
        write_json(
            task.summary,
            _summary(task, settings | shared | facts | origin, curve, learner.networks[0]),
        )
    except OSError as error:
        raise UserError(
            f"The training is done, but its outputs could not be written ({error}). "
            "The last checkpoint is kept: once there is room, the same command goes on from it."
        ) from error
    for index in range(len(biases)):
        for suffix in (".zip", ".json"):
            file.with_name(f"labels-{index}{suffix}").unlink(missing_ok=True)
    checkpoint.discard(file)


def _summary(
    task: Task, settings: dict[str, Any], curve: "Curve", model: "torch.nn.Module"
) -> dict[str, Any]:
    """Return what is worth knowing of a finished training: no times, no machine."""
    return settings | {
        "cell": task.cell,
        "preset": task.preset,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "final": curve.final(),
        "diagnostics": curve.diagnostics,
    }


def _report(task: Task, progress: "Progress", device: "torch.device", watch: "Watch") -> None:
    from noisyvos.training.loop import memory_peak

    speed, waiting, peak = progress.speed(), progress.waiting_share(), memory_peak(device)
    print(
        f"{task.cell}: {speed:.2f} it/s, {waiting:.1%} of it waiting for data, peak memory {peak:.0f} MiB",
        file=sys.stderr,
    )
    watch(
        {
            "speed/iterations_per_second": speed,
            "speed/data_wait_share": waiting,
            "speed/peak_memory_mib": peak,
        },
        progress.total,
    )


@contextmanager
def _tracked(task: Task, settings: dict[str, Any], origin: dict[str, Any]) -> Iterator["Watch"]:
    """Yield what takes rows of the curve: to MLflow, or nowhere where tracking is off or not there."""
    if not task.track:
        yield lambda row, step: None
        return
    try:
        from noisyvos.tracking import mlflow as tracking
    except Exception as error:  # tracking is a view: its absence must not stop a training
        print(
            f"noisyvos: warning: this run is not tracked ({type(error).__name__}: {error}).",
            file=sys.stderr,
        )
        yield lambda row, step: None
        return
    from noisyvos.pipeline.cells import tracked_block
    from noisyvos.tracking.tags import cell_tags

    where = {
        "preset": task.preset,
        "block": tracked_block(task.params / "cells.yaml", task.preset, task.cell),
    }
    with tracking.run(
        cell=task.cell,
        stage=task.stage,
        params=settings,
        tags=cell_tags(settings | origin),
        **where,
    ) as track:
        prefix = f"{task.stage}/"
        yield lambda row, step: track.metrics(
            {
                (name if "/" in name else prefix + name): value
                for name, value in row.items()
                if name != "iteration"
            },
            step=step,
        )
