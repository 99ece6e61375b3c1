"""How much worse networks get when the masks they are given at test time are noisy: prompts with label noise, truth as it is."""

import math

import pandas as pd

from noisyvos.report.results import BASELINES, Results
from noisyvos.report.statistics import sequence_interval

NOTES = (
    "The mask in which each object first appears, the only one a network is given, has label noise; it is scored against the clean "
    "masks, without the given frame. The noisy prompts are the same for all rows. Trainings are those of the other tables, whose "
    "prompts are clean, as is the first column here.",
    "A network that only carries its prompt along loses as much as the first mask copied.",
)


def prompt_table(results: Results, evaluation: str) -> pd.DataFrame:
    """Return a row per line, training noise and prompt: J&F, J, F as fractions, the interval over videos, the change from clean prompts.

    Empty where the preset has no noisy prompts on `evaluation`.
    """
    if not any(cell["evaluation"] == evaluation for cell in results.prompt_cells.values()):
        return pd.DataFrame()
    objects = results.prompted(evaluation)
    for role, label in BASELINES.items():
        kept = objects["role"] == role
        objects.loc[kept, "line"] = label if objects.loc[kept, "model"].nunique() < 2 else label + ", " + objects.loc[kept, "model"]
    rows = []
    for (line, noise), lines in objects.groupby(["line", "noise"], sort=False):
        clean = sequence_interval(lines[lines["prompt"] == "clean"]).mean if (lines["prompt"] == "clean").any() else math.nan
        for prompt, group in lines.groupby("prompt", sort=False):
            interval = sequence_interval(group)
            facts = {"line": line, "noise": noise or "-", "prompt": prompt, "seeds": group["seed"].nunique()}
            means = {"JF": interval.mean, "low": interval.low, "high": interval.high, "J": group["J"].mean(), "F": group["F"].mean()}
            rows.append(facts | means | {"change": interval.mean - clean})
    return pd.DataFrame(rows)


def prompt_view(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as people read it: a row a line and training noise, a column a prompt, J&F in percent with its interval."""
    prompts = list(dict.fromkeys(table["prompt"]))
    names = [row.line if row.noise == "-" else f"{row.line}, trained on {row.noise}" for row in table.itertuples()]
    out = pd.DataFrame(index=list(dict.fromkeys(names)), columns=prompts, dtype=object).fillna("missing")
    for name, row in zip(names, table.itertuples(), strict=True):
        text = f"{100 * row.JF:.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}]"
        out.loc[name, row.prompt] = text if row.prompt == "clean" else f"{text} ({100 * row.change:+.1f})"
    return out.rename_axis("method")
