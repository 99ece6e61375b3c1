"""Tuning: which value of a method's main setting scores best on held-out videos.

Only here does a score decide what is run.
"""

import math

import pandas as pd

from noisyvos.analysis.comparison import QUESTIONS, Comparison, View
from noisyvos.analysis.families import ScoreTables
from noisyvos.analysis.results import Results, rows_of

_CAPTION = "J&F in percent of every value of each method's main setting"
_NOTE = (
    "The published (or default) value stays unless another scores higher. Enter the best value in "
    "methods.yaml and keep it for all other presets. The last network of each training is scored, "
    "never a selected one, and no other table selects by scores. A block with a missing cell has "
    "no best value."
)


@QUESTIONS.register("tuning")
def comparison(scores: ScoreTables) -> Comparison | None:
    """Return the values tried; None unless the preset is for tuning."""
    table = tuning_table(scores.results, scores.evaluation)
    if not len(table):
        return None
    view = View(scores.heading(_CAPTION), tuning_view(table), (_NOTE,))
    return Comparison("Tuning", table, (view,), place=20)


def tuning_table(results: Results, evaluation: str) -> pd.DataFrame:
    """Return a row per value tried, in the preset's order; empty unless the preset is for tuning.

    Columns: block, method (the entry of methods.yaml), JF (fraction of 1, mean over objects and
    seeds; NaN where a cell is missing), `default` (whether it is the block's reference), `best`.
    """
    if not results.preset.get("tuning"):
        return pd.DataFrame()
    planned: dict[str, dict[str, list[str]]] = {}
    for key, cell in results.score_cells.items():
        if cell["role"] != "trained" or cell["evaluation"] != evaluation:
            continue
        for block in results.train_cells[cell["train_key"]]["blocks"]:
            planned.setdefault(block, {}).setdefault(cell["method"], []).append(key)
    rows = [row for block, methods in planned.items() for row in _block(results, block, methods)]
    return pd.DataFrame(rows)


def _block(results: Results, block: str, methods: dict[str, list[str]]) -> list[dict[str, object]]:
    default = results.preset["references"][block]
    means: dict[str, float] = {}
    for method, keys in methods.items():
        rows = results.objects[results.objects["key"].isin(keys)]
        means[method] = math.nan if set(keys) & set(results.missing) else float(rows["JF"].mean())
    best = None
    if not any(math.isnan(mean) for mean in means.values()):
        best = max(means, key=lambda method: (means[method], method == default))
    return [
        {
            "block": block,
            "method": method,
            "JF": mean,
            "default": method == default,
            "best": method == best,
        }
        for method, mean in means.items()
    ]


def tuning_view(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as people read it: a row per method, values with scores, and the best."""
    view = {}
    for block, group in table.groupby("block", sort=False):
        texts = [
            f"{row.method} {'missing' if math.isnan(row.JF) else f'{100 * row.JF:.1f}'}"
            for row in rows_of(group)
        ]
        chosen = group.loc[group["best"], "method"]
        default = group.loc[group["default"], "JF"]
        gain = (
            100 * (group["JF"].max() - default.iloc[0])
            if len(chosen) and len(default)
            else math.nan
        )
        view[block] = {
            "values": "; ".join(texts),
            "best": chosen.iloc[0] if len(chosen) else "missing",
            "above the default": "-" if math.isnan(gain) else f"{gain:+.1f}",
        }
    return pd.DataFrame.from_dict(view, orient="index").rename_axis("method")
