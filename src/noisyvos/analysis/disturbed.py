"""How much worse networks get when something is disturbed at test time: the masks they are given, or the images they see."""

import math

import pandas as pd

from noisyvos.analysis.results import BASELINES, Results
from noisyvos.analysis.statistics.intervals import sequence_interval

MEAN = "mean of all"  # over corruptions, clean images left out
CAPTIONS = {
    "prompt": "J&F in percent with its 95 % interval over videos by the noise of the prompt; in brackets the change from clean",
    "corruption": "J&F in percent with its 95 % interval over videos by the corruption of the images; in brackets the change from clean",
}
NOTES = {
    "prompt": (
        "The mask in which each object first appears, the only one a network is given, has label noise; it is scored against the clean "
        "masks, without the given frame. The noisy prompts are the same for all rows. Trainings are those of the other tables, whose "
        "prompts are clean, as is the first column here.",
        "A network that only carries its prompt along loses as much as the first mask copied.",
    ),
    "corruption": (
        "All frames of the evaluation set are disturbed, the first one as well, before anything else is done to them; masks are clean. "
        "The disturbed images are the same for all rows. Corruptions and levels are those of AOC-Net's robustness benchmark, whose "
        "scores after perturbation and drops are taken to be the plain mean over its corruptions and the change of it: the last column.",
    ),
}


def disturbed_table(results: Results, evaluation: str, axis: str) -> pd.DataFrame:
    """Return a row per line, training noise and disturbance: J&F, J, F as fractions, the interval over videos, the change from clean.

    axis: `prompt` or `corruption`. Empty where the preset has nothing of the kind on `evaluation`.
    """
    if not any(
        cell["evaluation"] == evaluation and axis in cell
        for cell in results.disturbed_cells.values()
    ):
        return pd.DataFrame()
    objects = results.disturbed(evaluation, axis)
    for role, label in BASELINES.items():
        kept = objects["role"] == role
        objects.loc[kept, "line"] = (
            label
            if objects.loc[kept, "model"].nunique() < 2
            else label + ", " + objects.loc[kept, "model"]
        )
    rows = []
    for (line, noise), lines in objects.groupby(["line", "noise"], sort=False):
        disturbed = lines[lines[axis] != "clean"]
        groups = dict(list(lines.groupby(axis, sort=False)))
        if axis == "corruption" and disturbed[axis].nunique() > 1:
            groups[MEAN] = disturbed
        clean = sequence_interval(groups["clean"]).mean if "clean" in groups else math.nan
        for name, group in groups.items():
            interval = sequence_interval(group)
            facts = {
                "line": line,
                "noise": noise or "-",
                axis: name,
                "seeds": group["seed"].nunique(),
            }
            means = {
                "JF": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "J": group["J"].mean(),
                "F": group["F"].mean(),
            }
            rows.append(facts | means | {"change": interval.mean - clean})
    return pd.DataFrame(rows)


def disturbed_view(table: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Return the table as people read it: a row a line and training noise, a column a disturbance, J&F in percent with its interval."""
    columns = sorted(
        dict.fromkeys(table[axis]), key=lambda name: name == MEAN
    )  # stable: the grid's order, the mean last
    names = [
        row.line if row.noise == "-" else f"{row.line}, trained on {row.noise}"
        for row in table.itertuples()
    ]
    out = pd.DataFrame(index=list(dict.fromkeys(names)), columns=columns, dtype=object).fillna(
        "missing"
    )
    for name, row in zip(names, table.to_dict("records"), strict=True):
        text = f"{100 * row['JF']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        out.loc[name, row[axis]] = (
            text if row[axis] == "clean" else f"{text} ({100 * row['change']:+.1f})"
        )
    return out.rename_axis("method")
