"""How much scores drop when test inputs are disturbed: the given masks (prompts) or the images."""

import math

import pandas as pd

from noisyvos.analysis.comparison import QUESTIONS, Comparison, View
from noisyvos.analysis.families import ScoreTables
from noisyvos.analysis.results import BASELINES, Results, rows_of
from noisyvos.analysis.statistics.intervals import sequence_intervals

_PLACE = ("sequence", "object")
MEAN = "mean of all"  # over corruptions, without clean images
_CAPTION = (
    "J&F in percent with its 95 % interval over videos by {}; in brackets the change from clean"
)
_PROMPT_NOTES = (
    "Label noise is applied to the mask in which each object first appears, the only mask a "
    "network is given. Scores use clean masks and leave out the given frame. All rows use the "
    "same noisy prompts. The trainings are those of the other tables, whose prompts are clean, as "
    "is the first column here.",
    "A network that only propagates its prompt loses as much as the first mask copied.",
)
_DRAWS_NOTE = (
    "Prompts that were drawn several times have the mean over the drawings; ± is the standard "
    "deviation of the mean over objects between the drawings (divisor n - 1)."
)
_CORRUPTION_NOTES = (
    "All frames of the evaluation set are corrupted, including the first, before any other "
    "processing; masks are clean. All rows use the same corrupted images. Corruptions and levels "
    "are those of AOC-Net's robustness benchmark. We take its scores and drops to be plain means "
    "over its corruptions: the last column.",
)


@QUESTIONS.register("prompts")
def prompts(scores: ScoreTables) -> Comparison | None:
    """Return the scores with noisy prompts; None where the preset has none."""
    caption = _CAPTION.format("the noise of the prompt")
    return _comparison(
        scores, "prompt", "Noisy prompts at test time", caption, _PROMPT_NOTES, place=70
    )


@QUESTIONS.register("corruptions")
def corruptions(scores: ScoreTables) -> Comparison | None:
    """Return the scores on corrupted images; None where the preset has none."""
    caption = _CAPTION.format("the corruption of the images")
    return _comparison(
        scores, "corruption", "Corrupted images at test time", caption, _CORRUPTION_NOTES, place=80
    )


def _comparison(
    scores: ScoreTables, axis: str, title: str, caption: str, notes: tuple[str, ...], place: int
) -> Comparison | None:
    table = disturbed_table(scores.results, scores.evaluation, axis)
    if not len(table):
        return None
    if "draws" in table and (table["draws"] > 1).any():
        notes = (*notes, _DRAWS_NOTE)
    view = View(scores.heading(caption), disturbed_view(table, axis), notes)
    return Comparison(title, table, (view,), place)


def disturbed_table(results: Results, evaluation: str, axis: str) -> pd.DataFrame:
    """Return a row per line, training noise and disturbance; scores are fractions of 1.

    The columns are J&F with its interval over videos, J, F, and the change from clean. Prompts also
    have the number of drawings and the standard deviation of J&F between them.
    axis: `prompt` or `corruption`. Empty where the preset disturbs nothing on `evaluation`.
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
    objects = objects[["line", "noise", axis, "prompt_seed", "seed", *_PLACE, "JF", "J", "F"]]
    intervals = sequence_intervals(objects, ["line", "noise", axis])
    if axis == "corruption":
        disturbed = objects[objects[axis] != "clean"].assign(**{axis: MEAN})
        intervals |= sequence_intervals(disturbed, ["line", "noise", axis])
    rows = []
    for (line, noise), lines in objects.groupby(["line", "noise"], sort=False):
        groups = {str(name): group for name, group in lines.groupby(axis, sort=False)}
        if axis == "corruption" and len(groups.keys() - {"clean"}) > 1:
            groups[MEAN] = lines[lines[axis] != "clean"]
        clean = intervals[line, noise, "clean"].mean if "clean" in groups else math.nan
        for name, group in groups.items():
            interval = intervals[line, noise, name]
            drawn = group.groupby("prompt_seed")["JF"].mean()
            draws = {"draws": len(drawn), "spread": drawn.std(ddof=1)} if axis == "prompt" else {}
            rows.append(
                {
                    "line": line,
                    "noise": noise or "-",
                    axis: name,
                    "seeds": group["seed"].nunique(),
                    "JF": interval.mean,
                    "low": interval.low,
                    "high": interval.high,
                    "J": group["J"].mean(),
                    "F": group["F"].mean(),
                    "change": interval.mean - clean,
                    **draws,
                }
            )
    return pd.DataFrame(rows)


def disturbed_view(table: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Return the table as people read it, in percent.

    It has a row per line and training noise, and a column per disturbance.
    """
    # the sort is stable: the grid's order, with the mean last
    columns = sorted(dict.fromkeys(table[axis]), key=lambda name: name == MEAN)
    names = [
        row.line if row.noise == "-" else f"{row.line}, trained on {row.noise}"
        for row in rows_of(table)
    ]
    out = pd.DataFrame(index=list(dict.fromkeys(names)), columns=columns, dtype=object).fillna(
        "missing"
    )
    for name, row in zip(names, table.to_dict("records"), strict=True):
        text = f"{100 * row['JF']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        if row.get("draws", 1) > 1:
            text += f" ±{100 * row['spread']:.1f}"
        out.loc[name, row[axis]] = (
            text if row[axis] == "clean" else f"{text} ({100 * row['change']:+.1f})"
        )
    return out.rename_axis("method")
