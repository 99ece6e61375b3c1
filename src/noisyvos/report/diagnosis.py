"""Figures of what networks do with wrong labels while they learn: the noise diagnostics of training, over iterations."""

import math
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from noisyvos.analysis.results import Results
from noisyvos.report.curves import COLOURS

_FATES = {"memorised": "-", "corrected": "--", "other": ":"}
_COLUMNS = 4


def memorisation(results: Results) -> plt.Figure | None:
    """Return shares of memorised, corrected and otherwise predicted pixels among those wrongly labelled; None without any."""
    return _figure(
        results,
        _FATES,
        "share of wrongly labelled pixels",
        "What becomes of wrong labels in training",
    )


def directions(results: Results) -> plt.Figure | None:
    """Return the shares memorised and corrected by the direction of the error; None without any wrong label."""
    names = {
        "memorised_fg_bg": "object called background: memorised",
        "corrected_fg_bg": "object called background: corrected",
        "memorised_bg_fg": "background called object: memorised",
        "corrected_bg_fg": "background called object: corrected",
    }
    styles = dict(zip(names, ("-", "--", "-.", ":"), strict=True))
    return _figure(
        results,
        styles,
        "share of such pixels",
        "What becomes of wrong labels, by the direction of the error",
        names,
    )


def hard_pixels(results: Results) -> plt.Figure | None:
    """Return the share of wrong labels among the hardest pixels, among those two networks keep, and among all; None without any."""
    styles = {"mislabelled_top": "-", "mislabelled_kept": "--", "mislabelled": ":"}
    names = {
        "mislabelled_top": "among those mined",
        "mislabelled_kept": "among those two networks keep",
        "mislabelled": "among all pixels",
    }
    return _figure(
        results,
        styles,
        "share of wrong labels",
        "Wrong labels among the pixels that are learned from",
        names,
    )


def teacher(results: Results) -> plt.Figure | None:
    """Return the mean IoU of the teacher's objects with clean and given labels, and SMART's sigma; None if no method has a teacher."""
    styles = {"teacher_iou_clean": "-", "teacher_iou_given": "--", "sigma": ":"}
    names = {
        "teacher_iou_clean": "IoU with clean labels",
        "teacher_iou_given": "IoU with given labels",
        "sigma": "sigma, trust in given labels",
    }
    return _figure(results, styles, "overlap of the teacher", "Teacher against labels", names)


FIGURES: dict[str, Callable[[Results], plt.Figure | None]] = {
    "memorisation": memorisation,
    "memorisation-directions": directions,
    "hard-pixels": hard_pixels,
    "teacher": teacher,
}


def mean_curves(
    results: Results, noise: str, method: str, columns: Sequence[str]
) -> pd.DataFrame | None:
    """Return the mean of some columns over the seeds of one (noise, method), indexed by iteration; None if no training has any.

    A value that no seed has at an iteration is nan there: not every frame has pixels of every kind.
    """
    keys = [
        key
        for key, cell in results.train_cells.items()
        if (cell["noise"], cell["method"]) == (noise, method)
    ]
    curves = [curve for curve in (results.curve(key) for key in keys) if curve is not None]
    present = [column for column in columns if any(column in curve for curve in curves)]
    if not present:
        return None
    rows = pd.concat(curve.reindex(columns=["iteration", *present]) for curve in curves).dropna(
        how="all", subset=present
    )
    return rows.groupby("iteration").mean() if len(rows) else None


def _figure(
    results: Results,
    styles: dict[str, str],
    axis_label: str,
    title: str,
    names: dict[str, str] | None = None,
) -> plt.Figure | None:
    """Return one panel a noise setting: a colour a method, a line style a column of the training curve."""
    methods = list(dict.fromkeys(cell["method"] for cell in results.train_cells.values()))
    panels = {}
    for noise in results.noises:
        curves = {method: mean_curves(results, noise, method, list(styles)) for method in methods}
        panels[noise] = {method: curve for method, curve in curves.items() if curve is not None}
    panels = {
        noise: curves
        for noise, curves in panels.items()
        if any((curve > 0).any(axis=None) for curve in curves.values())
    }
    if not panels:
        return None
    columns = len(panels) if len(panels) <= 3 else min(_COLUMNS, math.ceil(math.sqrt(len(panels))))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(3.2 * columns + 1.2, 2.7 * rows),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (noise, curves) in zip(axes.flat, panels.items()):
        _panel(axis, noise, curves, methods, styles)
    axes.flat[0].set_ylim(
        bottom=0
    )  # of all panels, and only now: a limit once set no longer follows what is drawn
    for axis in axes[:, 0]:
        axis.set_ylabel(axis_label)
    for axis in axes.flat[max(0, len(panels) - columns) : len(panels)]:
        axis.set_xlabel("iteration")
        axis.tick_params(labelbottom=True)
    shown = [method for method in methods if any(method in curves for curves in panels.values())]
    handles = [Line2D([], [], color=_colour(methods, method), label=method) for method in shown]
    handles += [
        Line2D([], [], color="0.35", linestyle=style, label=(names or {}).get(column, column))
        for column, style in styles.items()
    ]
    figure.suptitle(results.heading(title))
    figure.tight_layout()
    figure.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def _panel(
    axis: Axes,
    noise: str,
    curves: dict[str, pd.DataFrame],
    methods: list[str],
    styles: dict[str, str],
) -> None:
    for method, curve in curves.items():
        for column, style in styles.items():
            known = curve[column].dropna() if column in curve else ()
            if len(known):
                axis.plot(
                    known.index,
                    known,
                    color=_colour(methods, method),
                    linestyle=style,
                    linewidth=1.4,
                )
    axis.set_title(noise)
    axis.grid(axis="y", color="0.9", linewidth=0.6)


def _colour(methods: list[str], method: str) -> str:
    return COLOURS[methods.index(method) % len(COLOURS)]
