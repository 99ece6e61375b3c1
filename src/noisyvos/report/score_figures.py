"""Figures of scores: curves over noise, heat map, paired differences, scatter over videos."""

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noisyvos.analysis.families import ScoreTables
from noisyvos.analysis.results import Results, rows_of, sweep_name
from noisyvos.analysis.statistics.intervals import sequence_interval, sequence_intervals
from noisyvos.analysis.statistics.paired import MARGIN
from noisyvos.report import MOST_LINES
from noisyvos.report.figures import (
    GREY,
    MOST_COLUMNS,
    colour,
    lowest,
    marker,
    methods_of,
    panels,
)
from noisyvos.report.matrices import MOST_NUMBERS, SEQUENTIAL, label_axes, write_numbers

MOST_IN_FOREST = 40  # comparisons that are drawn with intervals; more become a table of colours
_MOST_SCATTERED = 12  # panels
_LEVEL = 0.05
_LEAST_NOISE = 1.0  # points of IoU that the axis of a sweep shows at least
_NAME = 0.075  # inches a letter of a row's or column's name
_DIVERGING = "PuOr"  # can be read without telling red from green


def noise_points(results: Results, evaluation: str) -> pd.DataFrame:
    """Return a row per (sweep, method, noise): achieved noise, and mean J&F with its spreads.

    All are in percent. `noise_percent` is 1 - achieved mean IoU; `low`, `high` bound the 95 %
    interval over videos; `seeds_low`, `seeds_high` are the lowest and the highest seed. Clean cells
    are in every sweep.
    """
    trained = results.trained(evaluation, own_labels=True)
    trained = trained.assign(
        sweep=[sweep_name(*names) for names in zip(trained["noise"], trained["kind"])]
    )
    sweeps = [sweep for sweep in dict.fromkeys(trained["sweep"]) if sweep != "clean"] or ["clean"]
    intervals = sequence_intervals(trained, ["method", "noise"])
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for (method, noise), group in trained.groupby(["method", "noise"], sort=False):
        interval = intervals[method, noise]
        seeds = 100 * group.groupby("seed")["JF"].mean()
        found[str(method), str(noise)] = {
            "method": method,
            "noise": noise,
            "noise_percent": 100 * (1 - group["q_achieved"].mean()),
            "JF_percent": 100 * interval.mean,
            "low": 100 * interval.low,
            "high": 100 * interval.high,
            "seeds": len(seeds),
            "seeds_low": seeds.min(),
            "seeds_high": seeds.max(),
            "of": group["sweep"].iloc[0],
        }
    rows = [
        {"sweep": sweep, **facts}
        for sweep in sweeps
        for facts in sorted(found.values(), key=lambda facts: facts["noise_percent"])
        if facts["of"] in (sweep, "clean")
    ]
    return pd.DataFrame(rows).drop(columns="of")


def noise_curves(results: Results, evaluation: str, points: pd.DataFrame) -> Figure:
    """Return one panel per sweep of `noise_points`: mean J&F against achieved noise by method.

    Bands reach from the lowest to the highest seed; bars are 95 % intervals over videos. More
    methods than a reader can tell apart have rows of panels of their own, the first method in each.
    """
    methods = [method for method in methods_of(results) if method in set(points["method"])]
    groups = told_apart(methods)
    sweeps = list(dict.fromkeys(points["sweep"]))
    columns = min(MOST_COLUMNS, len(sweeps))
    rows = -(-len(sweeps) // columns)
    count = len(sweeps) if len(groups) == 1 else rows * columns * len(groups)
    figure, axes = panels(
        count, columns, (3.2, 3.1), around=(0.6, 0.3), sharey=True, layout="constrained"
    )
    baselines = {
        label: 100 * sequence_interval(cells).mean
        for label, cells in results.baselines(evaluation).items()
    }
    for place, group in enumerate(groups):
        here = axes[place * rows : (place + 1) * rows]
        for axis, sweep in zip(here.flat, sweeps):
            _sweep_panel(axis, points[points["sweep"] == sweep], group, baselines)
            axis.set_title(sweep)
        for axis in here.flat[len(sweeps) :]:
            axis.set_visible(False)
        for axis in lowest(here, len(sweeps)):
            axis.set_xlabel("label noise: 1 − achieved mean IoU (%)")
        if len(groups) > 1:
            beside = here[0, min(columns, len(sweeps)) - 1]
            known = here.flat[0].get_legend_handles_labels()
            beside.legend(*known, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    for axis in axes[:, 0]:
        axis.set_ylabel("J&F (%)")
    if len(groups) == 1:
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.suptitle(results.heading(f"Segmentation quality against label noise on {evaluation}"))
    return figure


def told_apart(methods: list[str]) -> list[list[str]]:
    """Return the methods in groups that colours tell apart; the first one is in every group."""
    if len(methods) <= MOST_LINES:
        return [methods]
    first, others, size = methods[0], methods[1:], MOST_LINES - 1
    return [[first, *others[at : at + size]] for at in range(0, len(others), size)]


def _sweep_panel(
    axis: Axes, points: pd.DataFrame, methods: list[str], baselines: dict[str, float]
) -> None:
    """Draw the curves of some methods in one sweep, and the baselines."""
    for index, method in enumerate(methods):
        here = points[points["method"] == method]
        if len(here):  # else a method without a cell in this sweep
            _noise_curve(axis, here, index, method)
    for style, (label, level) in zip(("--", ":"), baselines.items()):
        axis.axhline(level, color=GREY, linestyle=style, linewidth=1.1, label=label)
    axis.grid(axis="y", color="0.9", linewidth=0.6)
    left, right = axis.get_xlim()
    if right - left < _LEAST_NOISE:  # every cell at the same noise
        middle = (left + right) / 2
        axis.set_xlim(middle - _LEAST_NOISE / 2, middle + _LEAST_NOISE / 2)


def _noise_curve(axis: Axes, points: pd.DataFrame, index: int, method: str) -> None:
    x, mean, low, high, lowest, highest = (
        points[["noise_percent", "JF_percent", "low", "high", "seeds_low", "seeds_high"]]
        .to_numpy(float)
        .T
    )
    tone = colour(index)
    axis.fill_between(x, lowest, highest, color=tone, alpha=0.2, linewidth=0)
    axis.vlines(x, low, high, color=tone, alpha=0.45, linewidth=1.0)
    axis.plot(
        x,
        mean,
        marker=marker(index),
        color=tone,
        label=method,
        linewidth=1.6,
        markersize=4.5,
    )


def grid_means(results: Results, evaluation: str) -> pd.DataFrame:
    """Return mean J&F in percent, a row per line and a column per label noise, in grid order.

    Seeds are averaged first. NaN: the grid has no such cell, or it has no scores.
    """
    rows = results.trained(evaluation, own_labels=True)
    objects = rows.groupby(["line", "noise", "sequence", "object"], sort=False)["JF"].mean()
    means = 100 * objects.groupby(level=["line", "noise"], sort=False).mean().unstack("noise")
    lines = list(dict.fromkeys(rows["line"]))
    return means.reindex(index=lines, columns=[n for n in results.noises if n in means.columns])


def heat_map(results: Results, evaluation: str) -> tuple[Figure, pd.DataFrame]:
    """Return the mean J&F of every (line, label noise) as colours with numbers, and its data."""
    means = grid_means(results, evaluation)
    rows, columns = means.shape
    numbered = rows * columns <= MOST_NUMBERS
    wide, high = (0.75, 0.36) if numbered else (0.24, 0.2)
    names = _NAME * max(map(len, means.index)), _NAME * max(map(len, means.columns))
    size = 1.2 + names[0] + wide * columns, 0.7 + names[1] + high * rows
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    values = means.to_numpy(float)
    picture = axis.imshow(np.ma.masked_invalid(values), cmap=SEQUENTIAL, aspect="auto")
    label_axes(axis, list(means.index), list(means.columns))
    if numbered:
        write_numbers(axis, values, picture.to_rgba(np.nan_to_num(values)), "{:.1f}")
    bar = figure.colorbar(picture, ax=axis, fraction=0.03, pad=0.02)
    bar.set_label("J&F (%)")
    bar.outline.set_visible(False)
    axis.set_title(results.heading(f"Mean J&F on {evaluation}"), fontsize=10, pad=10)
    data = means.rename_axis("line").reset_index()
    return figure, data.melt("line", var_name="noise", value_name="JF_percent").dropna()


def differences(scores: ScoreTables, table: pd.DataFrame) -> Figure | None:
    """Return the paired differences of `difference_table`: intervals, or colours where many.

    None where the table has no difference.
    """
    known = table[table["difference"].notna()] if len(table) else table
    if not len(known):
        return None
    return _forest(scores, known) if len(known) <= MOST_IN_FOREST else _matrices(scores, known)


def _forest(scores: ScoreTables, table: pd.DataFrame) -> Figure:
    """Return a row per comparison: the difference with its two-way interval, and p after Holm."""
    methods = methods_of(scores.results)
    figure, axis = plt.subplots(figsize=(7.2, 0.9 + 0.32 * len(table)))
    axis.axvspan(-MARGIN, MARGIN, color="0.5", alpha=0.15, linewidth=0)
    axis.axvline(0, color="0.35", linewidth=0.9)
    for place, row in enumerate(rows_of(table)):
        index = methods.index(row.method)
        shown = _significant(row)
        axis.plot([row.low, row.high], [place, place], color=colour(index), linewidth=1.8)
        axis.plot(
            [row.difference],
            [place],
            marker=marker(index),
            color=colour(index),
            markerfacecolor=colour(index) if shown else "none",
            markersize=6,
        )
        p = "p not printed" if math.isnan(row.p_holm) else f"p (Holm) {row.p_holm:.4f}"
        axis.text(1.02, place, p, transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    labels = [f"{_where(table, row)}{row.method} − {row.reference}" for row in rows_of(table)]
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(table) - 0.5, -0.5)
    axis.set_xlabel("difference in J&F points (95 % interval over videos and seeds)")
    axis.grid(axis="x", color="0.9", linewidth=0.6)
    axis.set_title(scores.heading("difference to the reference method"), fontsize=10)
    return figure


def _where(table: pd.DataFrame, row: Any) -> str:
    parts = [
        str(getattr(row, name))
        for name in ("block", "dataset", "model", "schedule")
        if table[name].nunique() > 1
    ]
    return ", ".join([*parts, str(row.noise)]) + ": "


def _significant(row: Any) -> bool:
    """Return whether the interval excludes 0 and p after Holm, if printed, is below 0.05."""
    return (row.low > 0 or row.high < 0) and not row.p_holm >= _LEVEL


def _matrices(scores: ScoreTables, table: pd.DataFrame) -> Figure:
    """Return a panel per block and setting: a row per method, a column per label noise."""
    groups = list(table.groupby(["block", "dataset", "model", "schedule"], sort=False))
    sizes = [(g["method"].nunique(), g["noise"].nunique()) for _, g in groups]
    heights = [0.3 * rows + 1.3 for rows, _ in sizes]
    width = 2.6 + 0.52 * max(columns for _, columns in sizes)
    figure, axes = plt.subplots(
        len(groups),
        1,
        figsize=(width, sum(heights)),
        squeeze=False,
        gridspec_kw={"height_ratios": [rows for rows, _ in sizes]},
        layout="constrained",
    )
    most = max(float(table["difference"].abs().max()), MARGIN)
    for axis, (names, group) in zip(axes[:, 0], groups):
        values = group.pivot(index="method", columns="noise", values="difference").reindex(
            index=list(dict.fromkeys(group["method"])),
            columns=[noise for noise in scores.noises if noise in set(group["noise"])],
        )
        shown = {(row.method, row.noise) for row in rows_of(group) if _significant(row)}
        array = values.to_numpy(float)
        picture = axis.imshow(
            np.ma.masked_invalid(array), cmap=_DIVERGING, vmin=-most, vmax=most, aspect="auto"
        )
        label_axes(axis, list(values.index), list(values.columns))
        marks = [["*" if (m, n) in shown else "" for n in values.columns] for m in values.index]
        write_numbers(axis, array, picture.to_rgba(np.nan_to_num(array)), "{:+.1f}", marks)
        reference = group["reference"].iloc[0]
        place = ", ".join(str(name) for name in names if name)
        axis.set_title(f"{place}: minus {reference}", fontsize=9, loc="left")
    figure.suptitle(scores.heading("difference to the reference in J&F points"), fontsize=10)
    return figure


def scatter_points(scores: ScoreTables) -> pd.DataFrame:
    """Return mean J&F in percent of each video: a method against the reference of its block.

    A row per (block, noise, method, sequence) of the first block with a second method, in its first
    setting, over the seeds and objects that both share.
    """
    rows: list[dict[str, Any]] = []
    for family in scores.families:
        if not family.methods or rows:
            continue
        first = family.conditions[0][0]
        for setting, noise in family.conditions:
            reference = scores.get(setting, noise, family.reference)
            for method in family.methods if setting == first else ():
                table = scores.get(setting, noise, method)
                if table is None or reference is None:
                    continue
                seeds = table.index.intersection(reference.index)
                if not len(seeds):
                    continue
                pair = [
                    each.loc[seeds].mean().groupby(level="sequence").mean()
                    for each in (table, reference)
                ]
                rows += [
                    {
                        "block": family.block,
                        "noise": noise,
                        "method": method,
                        "reference": family.reference,
                        "sequence": sequence,
                        "JF_percent": pair[0][sequence],
                        "reference_JF_percent": pair[1][sequence],
                    }
                    for sequence in pair[0].index
                ]
    return pd.DataFrame(rows)


def scatter(scores: ScoreTables, points: pd.DataFrame) -> Figure | None:
    """Return a panel per label noise: a point per video and method, reference on the x axis.

    None without points.
    """
    if not len(points):
        return None
    noises = [noise for noise in scores.noises if noise in set(points["noise"])][:_MOST_SCATTERED]
    methods = methods_of(scores.results)
    several = points["method"].nunique() > 1
    columns = min(MOST_COLUMNS, len(noises))
    shared = {"sharex": True, "sharey": True, "layout": "constrained"}
    figure, axes = panels(len(noises), columns, (2.5, 2.6), around=(0.8, 0.5), **shared)
    both = points[["JF_percent", "reference_JF_percent"]].to_numpy()
    low, high = max(0, both.min() - 3), min(100, both.max() + 3)
    for axis, noise in zip(axes.flat, noises):
        axis.plot([low, high], [low, high], color="0.5", linewidth=0.9)
        for index, method in enumerate(methods):
            here = points[(points["noise"] == noise) & (points["method"] == method)]
            if not len(here):
                continue
            better = int((here["JF_percent"] > here["reference_JF_percent"]).sum())
            axis.plot(
                here["reference_JF_percent"].to_numpy(),
                here["JF_percent"].to_numpy(),
                marker=marker(index),
                color=colour(index),
                linestyle="none",
                markersize=4,
                alpha=0.75,
                label=method,
            )
            if not several:
                text = f"higher in {better} of {len(here)} videos"
                axis.text(0.03, 0.97, text, transform=axis.transAxes, va="top", fontsize=7.5)
        axis.set_title(noise)
        axis.set_aspect("equal")
        axis.set_xlim(low, high)
        axis.set_ylim(low, high)
    reference = points["reference"].iloc[0]
    for axis in axes[:, 0]:
        axis.set_ylabel("J&F (%)")
    for axis in lowest(axes, len(noises)):
        axis.set_xlabel(f"J&F of {reference} (%)")
        axis.tick_params(labelbottom=True)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.suptitle(scores.heading(f"each video against {reference}"), fontsize=10)
    return figure
