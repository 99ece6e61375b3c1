"""Which value of a method's main setting is best on held-out videos: the one place where a score decides what is run."""

import math

import pandas as pd

from noisyvos.analysis.results import Results

TUNING_NOTES = (
    "The published (or default) value keeps its place unless another is higher; the best is to be written into methods.yaml and kept "
    "for everything else. The last network of a training is scored, never a chosen one, and no other table selects by scores. "
    "A block with a missing cell has no best value.",
)


def tuning_table(results: Results, evaluation: str) -> pd.DataFrame:
    """Return a row a value tried, in the preset's order: block, method (the entry of methods.yaml), JF (fraction of 1, mean over
    objects and seeds; nan where a cell is missing), `default` (whether it is the block's reference) and `best`.

    Empty unless the preset is one for tuning.
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
    default, means = results.preset["references"][block], {}
    for method, keys in methods.items():
        rows = results.objects[results.objects["key"].isin(keys)]
        means[method] = math.nan if set(keys) & set(results.missing) else float(rows["JF"].mean())
    best = None
    if not any(math.isnan(mean) for mean in means.values()):
        best = max(means, key=lambda method: (means[method], method == default))
    facts = [{"block": block, "method": method, "JF": mean} for method, mean in means.items()]
    return [
        row | {"default": row["method"] == default, "best": row["method"] == best} for row in facts
    ]


def tuning_view(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as people read it: a row a method, its values with their scores in percent, and the best of them."""
    view = {}
    for block, group in table.groupby("block", sort=False):
        texts = [
            f"{row.method} {'missing' if math.isnan(row.JF) else f'{100 * row.JF:.1f}'}"
            for row in group.itertuples()
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
