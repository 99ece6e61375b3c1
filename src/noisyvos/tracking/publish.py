"""What MLflow shows of a preset's results: a run per training, its sweeps, and the best networks.

Everything comes from files: summary and curve of a training, its journal, scores, predictions'
neighbours. MLflow can therefore be deleted and made again. A run that is complete is left alone,
one with gaps is filled, and one that holds anything else is made anew.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from noisyvos.analysis.results import Results
from noisyvos.io.forms import Summary, read_form
from noisyvos.io.text import read_table
from noisyvos.pipeline.cells import block_of
from noisyvos.pipeline.chains import PRETRAINING
from noisyvos.tracking import journal as journals
from noisyvos.tracking import store as stores
from noisyvos.tracking.inputs import Input, of_evaluation, of_training
from noisyvos.tracking.journal import Point
from noisyvos.tracking.mlflow import check_server, content_of, enabled, forgiving
from noisyvos.tracking.registry import Network, networks, register
from noisyvos.tracking.store import CURVE_HASH, NOTE, Content, Store, lock, same_training
from noisyvos.tracking.sweeps import PARENT, SweepPoint, sweep_points, sweeps_page, write_sweeps
from noisyvos.tracking.tags import cell_tags, config_hash, settings_of
from noisyvos.watching.progress import read_progress

if TYPE_CHECKING:
    from mlflow.entities import Run

_UI = "http://127.0.0.1:5000"
_AGAIN = "Delete it and run the pipeline again."
_SAME = 1e-9  # scores that differ by less are equal


@dataclass(frozen=True)
class ScoredCell:
    """The contents of a cell's run.

    metrics: scores by name; params: the summary of its training; tags: what scoring adds;
    curve: (iteration, values) of training; artifacts: (file, folder of the run); block: the block
    whose experiment it belongs to, empty for that of the preset; inputs: evaluation sets;
    sources: paths of the training's inputs, by role; weights: file of the trained network, beside
    which the journal is; alive: the training seems to run now.
    """

    cell: str
    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    curve: tuple[tuple[int, dict[str, float]], ...] = ()
    artifacts: tuple[tuple[Path, str], ...] = ()
    block: str = ""
    inputs: tuple[Input, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    weights: Path | None = None
    alive: bool = False
    written: int = 0  # when the summary was written, in milliseconds since 1970


def publish(results: Results) -> bool:
    """Write every training to its run, every sweep, and the best networks; return as `record`."""
    if not enabled():
        return False
    scored = results.any_scored
    return record(
        results.preset["name"],
        scored_cells(results),
        sweep_points(results) if scored else [],
        networks(results) if scored else [],
    )


def scored_cells(results: Results) -> list[ScoredCell]:
    """Return one entry per run: its training, finished or not, and its scores on all sets."""
    scores = _scores(results)
    entries = []
    for stage in ("train", *PRETRAINING):
        folder = "train" if stage == "train" else "pretrain"
        for key, facts in results.cells.get(stage, {}).items():
            entry = _training(results, folder, key, facts, stage)
            metrics, tags, artifacts, inputs = scores.pop(key, ({}, {}, (), ()))
            if entry is None and not metrics:
                continue
            found = entry or ScoredCell(key, block=block_of(results.cells, key))
            manifest = _manifest(results, facts)
            files = (*artifacts, *manifest) if metrics else ()
            entries.append(
                ScoredCell(
                    **vars(found)
                    | {"metrics": metrics, "tags": tags, "artifacts": files, "inputs": inputs}
                )
            )
    for key, (metrics, tags, artifacts, inputs) in scores.items():  # of no training
        entries.append(ScoredCell(key, metrics, {}, tags, (), artifacts, "", inputs))
    return entries


_Scores = tuple[dict[str, float], dict[str, Any], tuple[tuple[Path, str], ...], tuple[Input, ...]]


def _scores(results: Results) -> dict[str, _Scores]:
    """Return metrics, tags, artifacts and evaluation sets by run."""
    if not results.any_scored:
        return {}
    keys: dict[str, list[str]] = {}  # scored cells by run
    for key in dict.fromkeys(results.objects["key"]):
        keys.setdefault(results.score_cells[key].get("run", key), []).append(key)
    groups = {str(key): group for key, group in results.objects.groupby("key", sort=False)}
    sets: dict[str, Input | None] = {}
    found: dict[str, _Scores] = {}
    for name, scored in keys.items():
        metrics: dict[str, float] = {}
        artifacts: list[tuple[Path, str]] = []
        inputs: list[Input] = []
        for key in scored:
            evaluation = results.score_cells[key]["evaluation"]
            for column in ("JF", "J", "F", "area_ratio"):
                mean = float(groups[key][column].mean())
                metrics |= {} if math.isnan(mean) else {f"{evaluation}/{column}": mean}
            artifacts.append((results.scores_of(key) / "objects.csv", f"scores/{evaluation}"))
            if evaluation not in sets:
                protocol = results.score_cells[key].get("protocol", "")
                sets[evaluation] = of_evaluation(results.converted / evaluation, protocol)
            one = sets[evaluation]
            inputs += [one] if one is not None else []
        shown = ", ".join(results.score_cells[key]["evaluation"] for key in scored)
        found[name] = metrics, {"data.eval": shown}, tuple(artifacts), tuple(inputs)
    return found


def _training(
    results: Results, folder: str, key: str, facts: Mapping[str, Any], stage: str
) -> ScoredCell | None:
    """Return what the files of a training say; None without any."""
    place = results.results / folder / key
    weights = results.predictions.parent / folder / key / "weights.safetensors"
    summary: dict[str, Any] = {}
    written = 0
    if (place / "summary.json").is_file():
        summary = read_form(place / "summary.json", Summary, _AGAIN)
        written = int(1000 * (place / "summary.json").stat().st_mtime)
    elif not weights.with_name(journals.NAME).is_file():
        return None
    data = results.converted.parent
    sources = {"dataset": str(results.converted / str(facts.get("dataset", "")))}
    if "noise_key" in facts:
        sources["masks"] = str(data / "noisy" / f"{facts['noise_key']}.zip")
    if "clips" in facts:
        sources["clips"] = str(data / "synth" / str(facts["clips"]))
    if "images" in facts:
        sources["images"] = str(results.converted / str(facts["images"]))
    running = read_progress(Path(), results.preset["name"], f"{stage}@{key}")
    return ScoredCell(
        key,
        params=summary,
        curve=_curve(place / "curve.csv", str(summary.get("stage", "train"))),
        block=block_of(results.cells, key),
        sources=sources,
        weights=weights,
        alive=running is not None and running.fresh,
        written=written,
    )


def _manifest(results: Results, facts: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """Return the noise manifest of a cell if it is on this machine, beside the converted data."""
    path = results.converted.parent / "noisy" / f"{facts.get('noise_key', '')}.json"
    return [(path, "noise")] if path.is_file() else []


def _curve(path: Path, stage: str) -> tuple[tuple[int, dict[str, float]], ...]:
    if not path.is_file():
        return ()
    rows = read_table(path, ("iteration",), _AGAIN).to_dict("records")
    return tuple(
        (
            int(row["iteration"]),
            {
                str(name) if "/" in str(name) else f"{stage}/{name}": float(value)
                for name, value in row.items()
                if name != "iteration" and pd.notna(value)
            },
        )
        for row in rows
    )


def record(
    preset: str,
    cells: list[ScoredCell],
    points: list[SweepPoint],
    best: list[Network] | None = None,
) -> bool:
    """Write cells to their runs, points to their sweeps, and register the best networks.

    The URL of each block's sweeps is printed. Return whether all of it is in MLflow. A failure
    prints a warning.
    """
    if not enabled():
        return False
    with forgiving("the scores"):
        check_server()
        stores.load()
        with lock():
            store = Store(stores.connect(), preset)
            store.experiment("")
        with lock("publish"):
            _record(store, cells, points, best or [])
        return True
    return False


def _record(
    store: Store, cells: list[ScoredCell], points: list[SweepPoint], best: list[Network]
) -> None:
    blocks = dict.fromkeys([*(cell.block for cell in cells), *(point.block for point in points)])
    known: dict[str, Run] = {}
    for block in blocks:
        known |= {run.info.run_id: run for run in store.current(store.experiment(block))}
    present: dict[tuple[str, str], Run] = {}
    for run in known.values():
        if "cell" in run.data.tags:
            present.setdefault((run.info.experiment_id, run.data.tags["cell"]), run)
    runs: dict[str, tuple[str, str, str]] = {}
    for cell in cells:
        found = present.get((store.experiment(cell.block), cell.cell))
        run_id = _write_cell(store, cell, found)
        runs[cell.cell] = (run_id, cell.block, config_hash(cell.params))
    for block in dict.fromkeys(point.block for point in points):
        members = [point for point in points if point.block == block]
        shown = write_sweeps(store, block, members, runs, known)
        experiment = store.experiment(block)
        page = sweeps_page(experiment, shown)
        store.describe(experiment, f"**[All sweeps of J&F in one chart]({page})**\n\n{NOTE}")
        print(f"grid/{block or store.preset}: start `mlflow ui` and open {_UI}/{page}")
    register(store, best, {name: run[0] for name, run in runs.items()})


def _content(cell: ScoredCell) -> tuple[Content, journals.Journal | None]:
    """Return what a cell's run holds of its training, and the journal if it is of this training.

    The curve's rows are added where the journal lacks them.
    """
    path = cell.weights.with_name(journals.NAME) if cell.weights is not None else None
    journal = journals.read(path) if path is not None else None
    own = cell_tags(cell.params).get("training_hash")
    if journal is not None and own is not None and journal.identity != own:
        journal = None  # of an earlier training
    if journal is None:
        tags = cell_tags(cell.params)
        # the commit checked out now may differ from that of the training
        tags |= {"git_sha": "unknown"} if cell.params else {}
        inputs = of_training(cell.params, cell.sources)
        content = Content(settings_of(cell.params), tags, (), inputs, cell.written)
    else:
        content = content_of(journal)
    there = {(point.name, point.step) for point in content.points}
    end = cell.written or journals.now()
    missing = [
        Point(name, value, step, end)
        for step, row in cell.curve
        for name, value in row.items()
        if (name, step) not in there
    ]
    points = (*content.points, *missing)
    return Content(content.params, content.tags, points, content.inputs, content.began), journal


def _write_cell(store: Store, cell: ScoredCell, found: "Run | None") -> str:
    """Return the id of the cell's run after writing all that it lacks."""
    content, journal = _content(cell)
    had = found.data.tags if found is not None else {}
    rescored = found is not None and any(
        name in found.data.metrics and abs(found.data.metrics[name] - value) > _SAME
        for name, value in cell.metrics.items()
    )
    whole = found is not None and same_training(found, content) and not rescored
    if cell.alive and found is not None and journal is not None and not cell.params:
        return found.info.run_id  # the training writes to it itself
    if found is not None and whole:
        whole = store.complete(found.info.run_id, content, had)
    tags = {"cell": cell.cell} | dict(content.tags) | cell.tags
    known = found.data.metrics if found is not None and whole else {}
    new = {name: value for name, value in cell.metrics.items() if name not in known}
    scored = [Point(name, value, 0, journals.now()) for name, value in new.items()]
    inputs = (*content.inputs, *cell.inputs)
    if found is not None and whole:
        run_id = found.info.run_id
        if had.get("git_sha") and tags.get("git_sha") == "unknown":
            del tags["git_sha"]
        changed = {name: value for name, value in tags.items() if had.get(name) != str(value)}
        own = found.inputs.dataset_inputs if found.inputs is not None else []
        there = {(each.dataset.name, each.dataset.digest) for each in own}
        lacking = [each for each in inputs if (each.name, each.short) not in there]
        params = {} if found.data.params else content.params
        store.write(run_id, points=scored, tags=changed, params=params, inputs=lacking)
    else:
        with lock():
            if journal is None or not journal.left:
                tags |= {"rebuilt": "yes"}
            experiment = store.experiment(cell.block)
            run_id = store.create(experiment, cell.cell, tags, content.began)
        points = (*content.points, *scored)
        store.write(run_id, points=points, params=content.params, inputs=inputs)
        if content.points:
            store.write(run_id, tags={CURVE_HASH: journals.points_hash(content.points)})
        if found is not None:
            if PARENT in had:
                store.write(run_id, tags={PARENT: had[PARENT]})
            store.supersede(found.info.run_id)
    if new:
        for path, folder in cell.artifacts:
            store.attach(run_id, path, folder)
    _close(store, cell, run_id, journal, None if found is None or not whole else found)
    return run_id


def _close(
    store: Store,
    cell: ScoredCell,
    run_id: str,
    journal: journals.Journal | None,
    found: "Run | None",
) -> None:
    """Give a run the status of its training; one without a summary was killed, unless it runs."""
    if cell.alive and not cell.params:
        return
    if cell.params or journal is None:
        status = "FINISHED"
    else:
        status = "KILLED" if journal.status == "RUNNING" else journal.status
    if found is not None and found.info.status == status:
        return
    ended = journal.ended if journal is not None else cell.written
    store.close(run_id, status, ended)
