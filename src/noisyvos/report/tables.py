"""The tables of a preset: scores by method and noise, every cell with its origin, and formats."""

import math
import re
from typing import Any

import pandas as pd

from noisyvos.analysis.results import Results, rows_of
from noisyvos.analysis.statistics.intervals import (
    Interval,
    seed_interval,
    sequence_interval,
    sequence_intervals,
)

VIEWS = {
    "interval": "J&F in percent with its 95 % interval over videos (BCa bootstrap, seeds averaged)",
    "seeds": "J&F in percent, mean and standard deviation over training seeds",
    "area": "Median ratio of predicted to true object area; 1 is unbiased, above 1 too large",
}
_OF_SCORES = (
    *("line", "noise", "q_achieved", "seed", "sequence", "object"),
    *("JF", "J", "F", "area_ratio"),
)
_LATEX_WIDTH = 90  # characters that fit beside one another on a page of LaTeX
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "-",
    "–": "--",
} | {mark: f"\\{mark}" for mark in "${}_%&#"}


def score_table(results: Results, evaluation: str) -> pd.DataFrame:
    """Return a row per (line, noise) of one evaluation set; scores are fractions of 1.

    `JF`, `J`, `F` are means over objects and seeds; `low`, `high` bound the 95 % interval of JF
    over videos; `seed_sd` is the standard deviation of JF between seeds; `area_ratio` is the median
    of predicted over true area. The two baselines come first, with noise `-`, since label noise
    does not affect them.
    """
    rows = []
    for label, group in results.baselines(evaluation).items():
        facts = {"line": label, "noise": "-", "q_achieved": math.nan}
        rows.append(facts | _summary(group, sequence_interval(group)))
    trained = results.trained(evaluation)[[*_OF_SCORES]]
    intervals = sequence_intervals(trained, ["line", "noise"])
    for (line, noise), group in trained.groupby(["line", "noise"], sort=False):
        facts = {"line": line, "noise": noise, "q_achieved": group["q_achieved"].mean()}
        rows.append(facts | _summary(group, intervals[line, noise]))
    return pd.DataFrame(rows)


def _summary(group: pd.DataFrame, interval: Interval) -> dict[str, float]:
    by_seed = group.groupby("seed")["JF"].mean()
    over_seeds = seed_interval(by_seed.to_numpy())
    return {
        "JF": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "J": float(group["J"].mean()),
        "F": float(group["F"].mean()),
        "seeds": len(by_seed),
        "seed_sd": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else math.nan,
        "seed_low": over_seeds.low,
        "seed_high": over_seeds.high,
        "area_ratio": float(group["area_ratio"].median()),
    }


def wide(
    table: pd.DataFrame,
    results: Results,
    cell: str = "interval",
    planned: set[tuple[str, str]] | None = None,
) -> pd.DataFrame:
    """Return the score table as people read it: a row per line, a column per noise, in percent.

    cell: what a cell shows, a name of VIEWS: J&F with its `interval` over videos, J&F with its
    standard deviation between `seeds`, or the median `area` ratio. planned: the (line, noise) of
    the grid's cells. They are "missing" without scores; others are "-". None: all are planned.
    """
    noises = [noise for noise in results.noises if noise in set(table["noise"])]
    lines = list(dict.fromkeys(table["line"]))
    out = pd.DataFrame(index=lines, columns=noises, dtype=object).fillna("missing")
    for line in {line for line, _ in planned or ()} & set(lines):
        absent = [noise for noise in noises if (line, noise) not in (planned or ())]
        out.loc[line, absent] = "-"
    for row in rows_of(table):
        text = _cell(row, cell)
        if row.noise == "-":  # label noise does not affect a baseline: one number for all columns
            out.loc[row.line] = [text] * len(noises)
        else:
            out.loc[row.line, row.noise] = text
    return out.rename_axis("method")


def _cell(row: Any, cell: str) -> str:
    if cell == "area":
        return f"{row.area_ratio:.2f}"
    mean = f"{100 * row.JF:.1f}"
    if cell == "seeds":
        return mean if math.isnan(row.seed_sd) else f"{mean} ± {100 * row.seed_sd:.1f}"
    return f"{mean} [{100 * row.low:.1f}, {100 * row.high:.1f}]"


def cell_table(results: Results) -> pd.DataFrame:
    """Return a row per scored cell with settings, achieved noise, scores and the inputs' hashes."""
    groups = {str(key): group for key, group in results.objects.groupby("key", sort=False)}
    empty = results.objects.iloc[:0]
    rows = []
    for key, cell in results.score_cells.items():
        scored = groups.get(key, empty)
        summary = results.summary(cell.get("train_key"))
        seed = cell.get("seed", "")
        row = {"cell": key, "evaluation": cell["evaluation"], "role": cell["role"]}
        row |= {name: cell.get(name, "") for name in ("dataset", "noise", "method", "model")}
        row |= {
            "seed": seed,
            "noise_seed": cell.get("noise_seed", seed)
            if cell.get("noise", "clean") != "clean"
            else "",
        }
        row |= {name: scored[name].mean() for name in ("q_achieved", "JF", "J", "F")}
        row["objects"] = len(scored)
        row |= {
            role if role not in row else f"{role}_hash": digest[:12]
            for role, digest in summary.get("inputs", {}).items()
        }
        rows.append(row | {"code": summary.get("code", "")[:12]})
    return pd.DataFrame(rows)


def to_markdown(table: pd.DataFrame, caption: str) -> str:
    """Return a table as Markdown with its caption in bold above it."""
    frame = table.reset_index() if table.index.name else table

    def line(values: Any) -> str:
        return "| " + " | ".join(str(value).replace("|", "\\|") for value in values) + " |"

    lines = [line(frame.columns), "|" + " --- |" * len(frame.columns)]
    lines += [line(row) for row in frame.itertuples(index=False)]
    return f"**{caption}**\n\n" + "\n".join(lines) + "\n"


def to_latex(table: pd.DataFrame, caption: str, label: str) -> str:
    """Return a table as a LaTeX float with the rules of the package booktabs.

    A table too wide for a page is shrunk to its width, which needs the package graphicx.
    """
    frame = table.reset_index() if table.index.name else table

    def line(values: Any) -> str:
        text = " & ".join(map(latex_escape, values)) + r" \\"
        # LaTeX would read a bracket after \\ as the optional argument of the row before
        return f"{{[}}{text[1:]}" if text.startswith("[") else text

    name = re.sub(r"[^A-Za-z0-9_:.-]", "-", label)  # LaTeX takes few marks in a label
    rows = list(frame.itertuples(index=False))
    columns = zip(frame.columns, *rows)
    wide = sum(max(len(str(value)) for value in column) + 2 for column in columns) > _LATEX_WIDTH
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{latex_escape(caption)}}}\label{{{name}}}",
            *[r"\resizebox{\textwidth}{!}{%"] * wide,
            r"\begin{tabular}{l" + "r" * (len(frame.columns) - 1) + "}",
            r"\toprule",
            line(frame.columns),
            r"\midrule",
            *map(line, rows),
            r"\bottomrule",
            r"\end{tabular}" + "}" * wide,
            r"\end{table}",
            "",
        ]
    )


def latex_escape(value: object) -> str:
    r"""Return the text of a value with LaTeX's special characters \ $ { } ~ ^ _ % & # escaped."""
    return "".join(_LATEX.get(mark, mark) for mark in str(value))
