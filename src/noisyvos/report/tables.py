"""The tables of a preset: scores by method and noise, achieved noise, and every cell with what it came from."""

import math

import pandas as pd

from noisyvos.analysis.results import Results
from noisyvos.analysis.statistics.intervals import seed_interval, sequence_interval

_LATEX = str.maketrans(
    {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "±": r"$\pm$", "−": "-", "–": "--"}
)


def score_table(results: Results, evaluation: str) -> pd.DataFrame:
    """Return a row per (line, noise) of one evaluation set, all numbers fractions of 1.

    `JF`, `J`, `F` are means over objects and seeds; `low`, `high` bound the 95 % interval of JF over videos; `seed_sd`
    is the standard deviation of JF between seeds; `area_ratio` the median of predicted to true area. The two
    baselines come first, with the noise `-`, since no label noise reaches them.
    """
    rows = []
    for label, group in results.baselines(evaluation).items():
        rows.append({"line": label, "noise": "-", "q_achieved": math.nan} | _summary(group))
    trained = results.trained(evaluation)
    for (line, noise), group in trained.groupby(["line", "noise"], sort=False):
        rows.append(
            {"line": line, "noise": noise, "q_achieved": group["q_achieved"].mean()}
            | _summary(group)
        )
    return pd.DataFrame(rows)


def _summary(group: pd.DataFrame) -> dict[str, float]:
    interval = sequence_interval(group)
    by_seed = group.groupby("seed")["JF"].mean()
    return {
        "JF": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "J": float(group["J"].mean()),
        "F": float(group["F"].mean()),
        "seeds": len(by_seed),
        "seed_sd": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else math.nan,
        "seed_low": seed_interval(by_seed.to_numpy()).low,
        "seed_high": seed_interval(by_seed.to_numpy()).high,
        "area_ratio": float(group["area_ratio"].median()),
    }


def wide(table: pd.DataFrame, results: Results, cell: str = "interval") -> pd.DataFrame:
    """Return the score table as people read it: a row a line, a column a noise setting, J&F in percent.

    `cell` chooses what stands beside the mean: `interval` (95 % over videos), `seeds` (± standard deviation between
    seeds) or `area` (the median ratio of predicted to true area instead of J&F).
    """
    noises = [noise for noise in results.noises if noise in set(table["noise"])]
    out = pd.DataFrame(
        index=list(dict.fromkeys(table["line"])), columns=noises, dtype=object
    ).fillna("missing")
    for row in table.itertuples():
        text = _cell(row, cell)
        if row.noise == "-":
            out.loc[row.line] = [text] * len(
                noises
            )  # the same number everywhere: no label noise reaches a baseline
        else:
            out.loc[row.line, row.noise] = text
    return out.rename_axis("method")


def _cell(row: object, cell: str) -> str:
    if cell == "area":
        return f"{row.area_ratio:.2f}"
    mean = f"{100 * row.JF:.1f}"
    if cell == "seeds":
        return mean if math.isnan(row.seed_sd) else f"{mean} ± {100 * row.seed_sd:.1f}"
    return f"{mean} [{100 * row.low:.1f}, {100 * row.high:.1f}]"


def cell_table(results: Results) -> pd.DataFrame:
    """Return a row per scored cell with what it was made from: settings, achieved noise, scores, hashes of labels and initial weights."""
    rows = []
    for key, cell in results.score_cells.items():
        scored = results.objects[results.objects["key"] == key]
        summary = results.summary(cell.get("train_key"))
        row = {
            "cell": key,
            "evaluation": cell["evaluation"],
            "role": cell["role"],
            **{
                name: cell.get(name, "") for name in ("dataset", "noise", "method", "model", "seed")
            },
            "noise_seed": cell.get("noise_seed", cell.get("seed", ""))
            if cell.get("noise", "clean") != "clean"
            else "",
            "q_achieved": scored["q_achieved"].mean() if len(scored) else math.nan,
            "JF": scored["JF"].mean() if len(scored) else math.nan,
            "J": scored["J"].mean() if len(scored) else math.nan,
            "F": scored["F"].mean() if len(scored) else math.nan,
            "objects": len(scored),
            **{role: digest[:12] for role, digest in summary.get("inputs", {}).items()},
            "code": summary.get("code", "")[:12],
        }
        rows.append(row)
    return pd.DataFrame(rows)


def to_markdown(table: pd.DataFrame, caption: str) -> str:
    """Return a table as Markdown with its caption in bold above it."""
    frame = table.reset_index() if table.index.name else table
    lines = ["| " + " | ".join(map(str, frame.columns)) + " |", "|" + " --- |" * len(frame.columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in frame.itertuples(index=False)]
    return f"**{caption}**\n\n" + "\n".join(lines) + "\n"


def to_latex(table: pd.DataFrame, caption: str, label: str) -> str:
    """Return a table as a LaTeX float with rules of the booktabs package."""
    frame = table.reset_index() if table.index.name else table
    escape = lambda value: str(value).translate(_LATEX)  # noqa: E731  (used three lines long)
    body = [
        " & ".join(escape(value) for value in row) + r" \\" for row in frame.itertuples(index=False)
    ]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{escape(caption)}}}\label{{{label}}}",
            r"\begin{tabular}{l" + "r" * (len(frame.columns) - 1) + "}",
            r"\toprule",
            " & ".join(escape(column) for column in frame.columns) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
