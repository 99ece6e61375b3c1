"""One training as a stage sees it.

The inputs are checked, network and method are built and trained, and three outputs are written:
weights, summary and curve.
"""

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
from noisyvos.io.atomic import check_writable, write_json, write_text
from noisyvos.io.names import plain_name
from noisyvos.params.entries import read_family
from noisyvos.training import distributed
from noisyvos.training.distributed import Group
from noisyvos.training.schedule import Schedule

if TYPE_CHECKING:
    import torch

    from noisyvos.methods.base import Method
    from noisyvos.models.base import VideoModel
    from noisyvos.training.clip_readers import ClipReader
    from noisyvos.training.curve import Curve
    from noisyvos.training.loop import Watch
    from noisyvos.training.step import Learner


@dataclass(frozen=True)
class TrainingTask:
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
    # That share each batch; None: one for every GPU granted to this job, else 1.
    processes: int | None = None
    profile: Path | None = None  # where to write a trace of a few iterations
    deterministic: bool = False  # on a GPU: only algorithms that give the same bits each time
    recipe: str | None = None  # of synth.yaml, for clips that are made during the training
    block: str = ""  # of the preset, whose experiment in MLflow has the run; empty: the preset's

    @property
    def checkpoint(self) -> Path:
        """The file whose name numbered checkpoints extend."""
        return self.scratch / self.preset / self.cell / "checkpoint.pt"


@dataclass(frozen=True)
class Chosen:
    """The entries of the parameter files that a task names."""

    model: dict[str, Any]
    method: dict[str, Any]
    schedule: Schedule

    def make_method(self) -> "Method":
        """Return the training method."""
        from noisyvos import methods

        settings = _without_kind(self.method)
        return methods.from_settings(self.method["kind"], settings, self.schedule.total)


def carry_out(
    task: TrainingTask,
    open_clips: "Callable[[Schedule], ClipReader]",
    inputs: dict[str, Path],
    facts: dict[str, Any],
) -> None:
    """Train `task` and write weights, summary and curve.

    Several processes train if the task says so or this job holds several GPUs. All inputs are
    checked before the first step.

    open_clips: opens the clips (it must pickle). inputs: files and folders that the result
    depends on, by role. facts: what the summary adds (the data, the noise achieved).
    """
    for option in ("cell", "preset"):
        plain_name(getattr(task, option), f"--{option}")
    chosen = choose(task)
    if task.init is not None and not task.init.is_file():
        raise FileNotFoundError(
            f"{task.init}: no such weights to start from. Train them with `noisyvos pretrain`."
        )
    count = distributed.choose_count(task.processes, task.device)
    _check_division(chosen, task.method, count)
    for output in (task.weights, task.summary, task.curve, task.checkpoint):
        check_writable(output)
    distributed.run_together(_train, (task, chosen, open_clips, inputs, facts), count)


def choose(task: TrainingTask) -> Chosen:
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


def _entry(params: Path, family: str, name: str) -> dict[str, Any]:
    entries = read_family(params, family)
    if name not in entries:
        raise unknown_name(f"name in {family}.yaml:", name, entries)
    return dict(entries[name])


def _without_kind(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "kind"}


def _check_division(chosen: Chosen, name: str, count: int) -> None:
    """Refuse what parts of a batch, or several processes, cannot do."""
    batch, parts = chosen.schedule.batch, chosen.schedule.parts
    if batch < count:
        raise UserError(
            f"A batch of {batch} cannot be shared by {count} processes: "
            f"take at most {batch} (--processes, or GPUs of the job)."
        )
    if count == 1 and parts == 1:
        return
    method = chosen.make_method()
    why = f"Method {name!r} compares the samples of a batch, so it needs all of them in one place"
    if count > 1 and not method.in_processes:
        raise UserError(
            f"{why} and {count} processes cannot share it: train it with --processes 1, on one GPU."
        )
    if parts > 1 and not method.in_parts:
        raise UserError(f"{why}: set `parts: 1` in train.yaml, in place of {parts}.")


def _train(
    task: TrainingTask,
    chosen: Chosen,
    open_clips: "Callable[[Schedule], ClipReader]",
    inputs: dict[str, Path],
    facts: dict[str, Any],
    group: Group,
) -> None:
    """Be one of the processes of a training, or its only one."""
    reader = open_clips(chosen.schedule)
    import torch

    from noisyvos.training import checkpoint
    from noisyvos.training.batches import check_sizes
    from noisyvos.training.clip_readers import VideoClips

    check_sizes(reader, chosen.schedule)
    device = choose_device(task.device, group.rank)
    torch.set_num_threads(task.threads)
    if task.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
        torch.use_deterministic_algorithms(True)
    method = chosen.make_method()
    if method.teacher and task.init is None:
        raise UserError(
            f"Method {task.method!r} needs a trained network to start from, its teacher: "
            "give weights (--init)."
        )
    if method.relabelling is not None and not isinstance(reader, VideoClips):
        raise UserError(
            f"Method {task.method!r} relabels videos: it cannot be used in `noisyvos pretrain`."
        )
    learner = _start(task, chosen, device, group)
    if task.init is not None:
        inputs = inputs | {"init": task.init}
    settings: dict[str, Any] = {
        "stage": task.stage,
        "model": {"name": task.model} | chosen.model,
        "method": {"name": task.method} | chosen.method,
        "schedule": {"name": task.schedule} | chosen.schedule.result_settings(),
        "seed": task.seed,
        "device": device.type,
    }
    settings |= {"deterministic": True} if task.deterministic else {}
    # The number of processes is not part of the fingerprint: another number can go on.
    origin: dict[str, Any] = {}
    if group.leads:
        entries = {"models": chosen.model, "methods": chosen.method}
        entries["train"] = chosen.schedule.model_dump()
        stage = task.stage
        if task.recipe:  # its code makes the clips during the training
            entries["synth"] = _entry(task.params, "synth", task.recipe)
            stage = "pretrain_live"
        origin = checkpoint.provenance(inputs, stage, entries)
    fingerprint = group.broadcast(
        checkpoint.fingerprint(settings | {"threads": task.threads}, origin)
    )
    tracked = task if group.leads else replace(task, track=False)
    with _tracked(tracked, settings | facts, origin, inputs) as watch:
        learner, curve, biases = _train_rounds(task, chosen, learner, reader, fingerprint, watch)
        if not group.leads:
            return
        if method.relabelling is not None:
            clean_masks = method.relabelling.clean_masks
            facts = facts | {"relabelling": {"clean_masks": clean_masks, "bias": biases}}
        shared = {"processes": group.size} if group.size > 1 else {}
        # before the tracked run ends: a server that hangs must not withhold the results
        _write(task, learner.networks[0], curve, settings | shared | facts | origin)
    for index in range(len(biases)):
        for suffix in (".zip", ".json"):
            task.checkpoint.with_name(f"labels-{index}{suffix}").unlink(missing_ok=True)
    checkpoint.discard(task.checkpoint)


def _start(task: TrainingTask, chosen: Chosen, device: "torch.device", group: Group) -> "Learner":
    """Return a learner at the start of the training."""
    from noisyvos import models
    from noisyvos.models.pretrained import load_init
    from noisyvos.training.step import make_learner

    model = models.build(
        chosen.model["kind"],
        seed=task.seed,
        **(_without_kind(chosen.model) | chosen.schedule.network),
    )
    if task.init is not None:
        load_init(model, task.init, task.seed)
    return make_learner(model, chosen.make_method(), chosen.schedule, task.seed, device, group)


def _train_rounds(
    task: TrainingTask,
    chosen: Chosen,
    learner: "Learner",
    reader: "ClipReader",
    fingerprint: str,
    watch: "Watch",
) -> "tuple[Learner, Curve, list[float]]":
    """Train, and with a method that relabels, train anew on corrected labels.

    Return the last learner, its curve, and the bias in pixels that each round corrected.
    """
    from noisyvos.losses.boundary_bias import LEAST_BIAS
    from noisyvos.training import checkpoint, loop
    from noisyvos.training.clip_readers import VideoClips
    from noisyvos.training.relabel import kept_bias, relabel

    group, relabelling = learner.group, learner.method.relabelling
    biases: list[float] = []
    while True:
        labels = task.checkpoint.with_name(f"labels-{len(biases)}.zip")
        own = f"{fingerprint}-{len(biases)}" if biases else fingerprint
        bias = group.broadcast(kept_bias(labels, own) if group.leads else None)
        if bias is None:
            curve, progress = loop.train(
                learner,
                reader,
                name=task.cell,
                file=task.checkpoint,
                fingerprint=own,
                watch=watch,
                trace=task.profile,
                weights=task.weights,
            )
            if group.leads:
                watch(progress.report(learner.device), progress.total)
            if not isinstance(reader, VideoClips) or relabelling is None:
                return learner, curve, biases
            if len(biases) == relabelling.rounds:
                return learner, curve, biases
            if group.leads:
                bias = relabel(learner.networks[0], reader, relabelling, task.seed, labels, own)
            bias = group.broadcast(bias)
        biases.append(bias)
        if abs(bias) < LEAST_BIAS:
            return learner, curve, biases
        if group.leads:
            checkpoint.discard(task.checkpoint)
        assert isinstance(reader, VideoClips)
        frames = frames_needed(chosen.schedule.sampler, chosen.schedule.clip_length)
        reader = reader.with_labels(labels, frames)
        learner = _start(task, chosen, learner.device, group)


def _write(
    task: TrainingTask, model: "VideoModel", curve: "Curve", settings: dict[str, Any]
) -> None:
    """Write weights, curve and summary; the summary holds no times and no machine."""
    from noisyvos import models
    from noisyvos.training import checkpoint

    summary = settings | {
        "cell": task.cell,
        "preset": task.preset,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "final": curve.final(),
        "diagnostics": curve.diagnostics,
    }
    try:
        models.save_weights(model, task.weights)
        write_text(task.curve, curve.csv())
        write_json(task.summary, summary)
    except OSError as error:
        raise UserError(
            f"The training is done, but its outputs could not be written ({error}). "
            f"{checkpoint.what_is_kept(task.checkpoint)}"
        ) from error


@contextmanager
def _tracked(
    task: TrainingTask, settings: dict[str, Any], origin: dict[str, Any], inputs: dict[str, Path]
) -> "Iterator[Watch]":
    """Yield what takes rows of the curve: to MLflow, or nowhere if tracking is off or missing."""
    if not task.track:
        yield lambda row, step: None
        return
    try:
        from noisyvos.tracking import mlflow as tracking
        from noisyvos.tracking.journal import NAME as JOURNAL
    except Exception as error:  # a training must not depend on tracking
        print(
            f"noisyvos: warning: this run is not tracked ({type(error).__name__}: {error}).",
            file=sys.stderr,
        )
        yield lambda row, step: None
        return
    with tracking.run(
        cell=task.cell,
        stage=task.stage,
        params=settings,
        origin=origin,
        sources={role: str(path) for role, path in inputs.items()},
        preset=task.preset,
        block=task.block,
        journal=task.weights.with_name(JOURNAL),
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
