"""Command `track`: bring MLflow in step with the results, also where no run was tracked (another machine, no network)."""

from pathlib import Path
from typing import Any

import pandas as pd

from noisyvos import tracking
from noisyvos.report.results import Results, load_results, sweep_name


def run(*, cells: Path, results: Path, predictions: Path, converted: Path) -> None:
    """Write the runs and sweeps of the preset in `cells` from its results."""
    loaded = load_results(cells, results, predictions, converted)
    record(loaded)
    count = len(loaded.score_cells) - len(loaded.missing)
    print(f"{count} scored cells of preset {loaded.preset['name']} are in MLflow; see them with `mlflow ui`.")


def record(results: Results) -> None:
    """Write every scored cell to its run, and every sweep as a parent run."""
    tracking.record(results.preset["name"], scored_cells(results), sweep_points(results))


def scored_cells(results: Results) -> list[tracking.Scored]:
    """Return one entry a run: the scores on all evaluation sets, and what training wrote of it."""
    metrics: dict[str, dict[str, float]] = {}
    artifacts: dict[str, list[Path]] = {}
    trained: dict[str, str | None] = {}
    for key, group in results.objects.groupby("key", sort=False):
        cell = results.score_cells[key]
        name = cell.get("run", key)
        means = {f"{cell['evaluation']}/{column}": float(group[column].mean()) for column in ("JF", "J", "F", "area_ratio")}
        metrics[name] = metrics.get(name, {}) | means
        artifacts.setdefault(name, []).append(results.results / "scores" / key / "objects.csv")
        trained[name] = cell.get("train_key")
    entries = []
    for name, values in metrics.items():
        summary = results.summary(trained[name])
        tags = tracking.flatten({k: v for k, v in summary.items() if k in ("noise", "method", "model", "seed", "dataset")})
        entries.append(tracking.Scored(name, values, summary, tags, _curve(results, trained[name]), tuple(artifacts[name])))
    return entries


def _curve(results: Results, train_key: str | None) -> tuple[tuple[int, dict[str, float]], ...]:
    curve = results.curve(train_key) if train_key else None
    if curve is None:
        return ()
    rows = []
    for row in curve.to_dict("records"):
        rows.append(
            (
                int(row["iteration"]),
                {f"train/{name}": float(value) for name, value in row.items() if name != "iteration" and pd.notna(value)},
            )
        )
    return tuple(rows)


def sweep_points(results: Results) -> list[tracking.SweepPoint]:
    """Return one point a trained cell and sweep; a clean cell opens every sweep it is compared with."""
    points = []
    for evaluation in results.evaluations:
        trained = results.trained(evaluation)
        trained = trained.assign(sweep=[sweep_name(*names) for names in zip(trained["noise"], trained["kind"])])
        sweeps = [sweep for sweep in dict.fromkeys(trained["sweep"]) if sweep != "clean"]
        for key, group in trained.groupby("key", sort=False):
            first = group.iloc[0]
            for sweep in sweeps if first["kind"] == "clean" else [first["sweep"]]:
                name = [first["method"], sweep, first["dataset"], first["model"], f"s{first['seed']}{_labels(first)}"]
                name += [evaluation] if len(results.evaluations) > 1 else []
                points.append(tracking.SweepPoint(results.score_cells[key]["train_key"], "|".join(name), _percent(first), _metrics(group)))
    return points


def _labels(row: Any) -> str:
    """Return what marks a training on labels of another seed than its own, as in the keys of cells."""
    return "" if row["noise_seed"] == row["seed"] else f"-n{row['noise_seed']}"


def _percent(row: Any) -> int:
    """Return the noise in percent; settings without a target (morphology, say) stand at what they achieved."""
    q = row["q_achieved"] if pd.isna(row["q"]) else row["q"]
    return round(100 * (1 - float(q)))


def _metrics(group: pd.DataFrame) -> dict[str, float]:
    means = {name: float(group[column].mean()) for name, column in (("jf", "JF"), ("j", "J"), ("f", "F"))}
    return means | {"q_achieved": float(group["q_achieved"].iloc[0])}
