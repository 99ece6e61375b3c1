"""Command `track`: bring MLflow in step with the results, also where no run was tracked (another machine, no network)."""

from pathlib import Path
from typing import Any

import pandas as pd

from noisyvos.analysis.results import Results, load_results, sweep_name
from noisyvos.pipeline.grid import block_of
from noisyvos.tracking import mlflow as tracking


def run(*, cells: Path, results: Path, predictions: Path, converted: Path) -> None:
    """Write the runs and sweeps of the preset in `cells` from its results."""
    loaded = load_results(cells, results, predictions, converted)
    record(loaded)
    count = len(loaded.score_cells) - len(loaded.missing)
    print(
        f"{count} scored cells of preset {loaded.preset['name']} are in MLflow; see them with `mlflow ui`."
    )


def record(results: Results) -> None:
    """Write every scored cell to its run, and every sweep as a parent run."""
    tracking.record(results.preset["name"], scored_cells(results), sweep_points(results))


def scored_cells(results: Results) -> list[tracking.Scored]:
    """Return one entry a run: the scores on all evaluation sets, and what training wrote of it."""
    metrics: dict[str, dict[str, float]] = {}
    artifacts: dict[str, list[tuple[Path, str]]] = {}
    trained: dict[str, str | None] = {}
    evaluations: dict[str, list[str]] = {}
    for key, group in results.objects.groupby("key", sort=False):
        cell = results.score_cells[key]
        name = cell.get("run", key)
        means = {
            f"{cell['evaluation']}/{column}": float(group[column].mean())
            for column in ("JF", "J", "F", "area_ratio")
        }
        metrics[name] = metrics.get(name, {}) | means
        artifacts.setdefault(name, []).append(
            (results.results / "scores" / key / "objects.csv", f"scores/{cell['evaluation']}")
        )
        evaluations.setdefault(name, []).append(cell["evaluation"])
        trained[name] = cell.get("train_key")
    entries = []
    for name, values in metrics.items():
        key = trained[name]
        tags = {"data.eval": ", ".join(evaluations[name])}
        files = (*artifacts[name], *_manifest(results, key))
        block = block_of(results.cells, key) if key else ""
        entries.append(
            tracking.Scored(
                name, values, results.summary(key), tags, _curve(results, key), files, block
            )
        )
    return entries


def _manifest(results: Results, train_key: str | None) -> list[tuple[Path, str]]:
    """Return the noise manifest of a cell, where it is on this machine: it lies beside the converted data."""
    noisy = results.train_cells[train_key].get("noise_key", "") if train_key else ""
    path = results.converted.parent / "noisy" / f"{noisy}.json"
    return [(path, "noise")] if noisy and path.is_file() else []


def _curve(results: Results, train_key: str | None) -> tuple[tuple[int, dict[str, float]], ...]:
    curve = results.curve(train_key) if train_key else None
    if curve is None:
        return ()
    rows = []
    for row in curve.to_dict("records"):
        rows.append(
            (
                int(row["iteration"]),
                {
                    f"train/{name}": float(value)
                    for name, value in row.items()
                    if name != "iteration" and pd.notna(value)
                },
            )
        )
    return tuple(rows)


def sweep_points(results: Results) -> list[tracking.SweepPoint]:
    """Return one point a trained cell, sweep and block; a clean cell opens every sweep it is compared with, whatever its block."""
    points = []
    for evaluation in results.evaluations:
        trained = results.trained(evaluation)
        trained = trained.assign(
            sweep=[sweep_name(*names) for names in zip(trained["noise"], trained["kind"])]
        )
        cells = {key: group for key, group in trained.groupby("key", sort=False)}
        sweeps: dict[tuple[str, str], list[pd.DataFrame]] = {}
        for key, group in cells.items():
            for block in _blocks(results, key) if group["kind"].iloc[0] != "clean" else ():
                sweeps.setdefault((block, _parent(group.iloc[0])), []).append(group)
        for (block, parent), members in sweeps.items():
            first = members[0].iloc[0]
            clean = [
                group
                for group in cells.values()
                if group["kind"].iloc[0] == "clean" and _line(group.iloc[0]) == _line(first)
            ]
            name = parent + (f"|{evaluation}" if len(results.evaluations) > 1 else "")
            tags = {
                "data.eval": evaluation,
                "data.train": first["dataset"],
                "noise.kind": first["kind"],
            }
            tags |= {column: str(first[column]) for column in ("method", "model", "seed")}
            for group in [*clean, *members]:
                row = group.iloc[0]
                train_key = results.score_cells[row["key"]]["train_key"]
                points.append(
                    tracking.SweepPoint(
                        train_key, name, _percent(row), _metrics(group), tags, block
                    )
                )
    return points


def _blocks(results: Results, key: str) -> list[str]:
    """Return the experiments a cell's sweeps are shown in: its blocks, or the one of a preset of one block."""
    train_key = results.score_cells[key]["train_key"]
    return results.train_cells[train_key]["blocks"] if block_of(results.cells, train_key) else [""]


def _line(row: Any) -> tuple[Any, ...]:
    return row["method"], row["dataset"], row["model"], row["seed"], row["noise_seed"]


def _parent(row: Any) -> str:
    """Return the name of the sweep of a cell: <method>|<noise>|<training set>|<model>|s<seed>."""
    return "|".join(
        [row["method"], row["sweep"], row["dataset"], row["model"], f"s{row['seed']}{_labels(row)}"]
    )


def _labels(row: Any) -> str:
    """Return what marks a training on labels of another seed than its own, as in the keys of cells."""
    return "" if row["noise_seed"] == row["seed"] else f"-n{row['noise_seed']}"


def _percent(row: Any) -> int:
    """Return the noise in percent; settings without a target (morphology, say) stand at what they achieved."""
    q = row["q_achieved"] if pd.isna(row["q"]) else row["q"]
    return round(100 * (1 - float(q)))


def _metrics(group: pd.DataFrame) -> dict[str, float]:
    means = {
        name: float(group[column].mean()) for name, column in (("jf", "JF"), ("j", "J"), ("f", "F"))
    }
    return means | {"q_achieved": float(group["q_achieved"].iloc[0])}
