"""What a preset cost: measured seconds and memory of its jobs, by method and by stage."""

from pathlib import Path

import pandas as pd

from noisyvos.analysis.results import Results

_MEASURED = ("s", "max_rss", "cpu_time")  # columns of Snakemake's benchmark files


def by_method(results: Results, logs: Path) -> pd.DataFrame:
    """Return a row per method: trainings, minutes each, peak memory, parameters of the network.

    The measurements are those that Snakemake keeps in logs/benchmark. Empty without them.
    """
    rows = []
    for key, cell in results.train_cells.items():
        measured = _read(logs / "benchmark/train" / f"{key}.tsv")
        if measured is not None:
            summary = results.summary(key)
            rows.append(
                {"method": cell["method"], "model": cell["model"], **measured}
                | {
                    "parameters": summary.get("parameters", 0),
                    "device": summary.get("device", ""),
                }
            )
    if not rows:
        return pd.DataFrame()
    found = {}
    for (method, model), group in pd.DataFrame(rows).groupby(["method", "model"], sort=False):
        minutes = group["s"] / 60
        found[method, model] = {
            "method": method,
            "network": model,
            "trainings": len(group),
            "minutes each": f"{minutes.mean():.1f} ({minutes.min():.1f} to {minutes.max():.1f})",
            "CPU minutes each": f"{group['cpu_time'].mean() / 60:.1f}",
            "peak memory (GB)": f"{group['max_rss'].max() / 1024:.1f}",
            "parameters (millions)": f"{group['parameters'].max() / 1e6:.2f}",
            "device": ", ".join(dict.fromkeys(filter(None, group["device"]))),
        }
    return pd.DataFrame(found.values())


def by_stage(results: Results, logs: Path) -> pd.DataFrame:
    """Return a row per stage with measured jobs of this grid: their number and hours together."""
    rows = []
    for folder in sorted((logs / "benchmark").glob("*")):
        wanted = results.cells.get(folder.name, {})
        measured = [_read(path) for path in sorted(folder.glob("*.tsv")) if path.stem in wanted]
        known = [each for each in measured if each is not None]
        if known:
            seconds, processor = (sum(each[name] for each in known) for name in ("s", "cpu_time"))
            rows.append((folder.name, len(known), seconds / 3600, processor / 3600))
    table = pd.DataFrame(rows, columns=["stage", "jobs", "hours", "CPU hours"])
    return table.sort_values("hours", ascending=False, kind="stable").round(3)


def _read(path: Path) -> dict[str, float] | None:
    """Return the measurements of the last run of a job; None without a readable file."""
    try:
        last = pd.read_csv(path, sep="\t").iloc[-1]
        return {name: float(last[name]) for name in _MEASURED}
    except (OSError, ValueError, KeyError, IndexError):
        return None  # a measurement is worth no error
