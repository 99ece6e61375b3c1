"""Figures of trainings: loss and diagnostics; and how figures are coloured and written."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from noisyvos.analysis.results import Results
from noisyvos.io.atomic import atomic_file

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from noisyvos.report import MOST_LINES
from noisyvos.report.matrices import matrices

# colour-blind readers can tell these apart
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
MARKERS = "osD^vPX*"
# vector formats of drawings, with what would hold a date
DRAWN: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
_MARGIN = 0.1  # inches around a drawing
_DOTS = 150  # per inch of a PNG
GREY = "0.35"
_ENDS = "mean of the last tenth"
MOST_COLUMNS = 4
plt.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "noisyvos",
        "figure.dpi": 110,
    }
)


def save(figure: Figure, path: Path, dots: int = _DOTS) -> None:
    """Write a figure as PNG with `dots` per inch and no date, so that its bytes repeat."""
    _write(figure, path, "png", {"Software": None}, dpi=dots)
    plt.close(figure)


def save_drawing(figure: Figure, path: Path, data: pd.DataFrame | None = None) -> None:
    """Write a drawing as PNG, SVG and PDF to `path` with these endings, and what it shows as CSV.

    data: what it shows; None takes the points of all labelled lines, a row per point. Pictures have
    no date, so that their bytes repeat.
    """
    shown = _points(figure) if data is None else data
    figure.set_dpi(_DOTS)  # letters are as wide as in the PNG, so that the box holds them
    figure.canvas.draw()
    figure.set_layout_engine("none")  # arranged and measured once, not again for each format
    box = figure.get_tightbbox().padded(_MARGIN)
    with atomic_file(path.with_suffix(".csv")) as temporary:
        shown.to_csv(temporary, index=False, lineterminator="\n")
    for kind, metadata in DRAWN.items():
        _write(figure, path.with_suffix(f".{kind}"), kind, metadata, box=box)
    _write(figure, path.with_suffix(".png"), "png", {"Software": None}, dpi=_DOTS, box=box)
    plt.close(figure)


def _write(
    figure: Figure,
    path: Path,
    kind: str,
    metadata: dict[str, None],
    *,
    dpi: Any = "figure",
    box: Any = "tight",
) -> None:
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi, bbox_inches=box, metadata=metadata)


def _points(figure: Figure) -> pd.DataFrame:
    """Return a row (panel, line, x, y) for each point of the labelled lines of a figure.

    Of a matrix it is a row per cell: its row, its column and its value.
    """
    tables = [
        pd.DataFrame(
            {
                "panel": axis.get_title(),
                "line": line.get_label(),
                "x": line.get_xdata(),
                "y": line.get_ydata(),
            }
        )
        for axis in figure.axes
        for line in axis.lines
        if not str(line.get_label()).startswith("_")
    ]
    for axis in figure.axes:
        for picture in axis.images:
            drawn = picture.get_array()
            values = np.empty((0, 0)) if drawn is None else np.ma.filled(drawn, np.nan)
            rows, columns = (
                [text.get_text() for text in labels]
                for labels in (axis.get_yticklabels(), axis.get_xticklabels())
            )
            cells = pd.DataFrame(values, rows, columns).rename_axis("line").reset_index()
            cells = cells.melt("line", var_name="x", value_name="y").dropna()
            tables.append(cells.assign(panel=axis.get_title(loc="left")))
    names = ["panel", "line", "x", "y"]
    return pd.concat(tables, ignore_index=True)[names] if tables else pd.DataFrame()


def colour(index: int) -> str:
    """Return the colour of the method with this index in the grid's order."""
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """Return the marker of the method with this index; no 64 share both marker and colour."""
    return MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]


def methods_of(results: Results) -> list[str]:
    """Return the methods in the grid's order, by which they have their colours."""
    return list(dict.fromkeys(cell["method"] for cell in results.train_cells.values()))


def panels(
    count: int,
    columns: int,
    size: tuple[float, float],
    around: tuple[float, float] = (0, 0),
    **options: Any,
) -> tuple[Figure, np.ndarray]:
    """Return a figure with `count` visible panels in so many columns, and its axes (rows, columns).

    size: (width, height) of a panel in inches; around: what the figure has beside all of them;
    options: those of `plt.subplots`.
    """
    rows = -(-count // columns)
    inches = (size[0] * columns + around[0], size[1] * rows + around[1])
    figure, axes = plt.subplots(rows, columns, figsize=inches, squeeze=False, **options)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, axes


def lowest(axes: np.ndarray, count: int) -> Iterable[Axes]:
    """Return the panels with none below them, of `count` visible ones."""
    return axes.flat[max(0, count - axes.shape[1]) : count]


def _curves(results: Results, noise: str, method: str) -> list[pd.DataFrame]:
    """Return the training curves of one (noise, method), one per seed, without missing ones."""
    keys = results.trainings.get((noise, method), [])
    return [curve for key in keys if (curve := results.curve(key)) is not None]


def training_curves(results: Results) -> Figure:
    """Return one panel per noise setting with the training loss of each method over iterations.

    The loss is a mean over seeds and a moving average over a twentieth of the training.
    """
    noises = results.noises
    if len(methods_of(results)) > MOST_LINES:
        return _loss_matrix(results)
    figure, axes = panels(len(noises), min(MOST_COLUMNS, len(noises)), (3.0, 2.4), sharex=True)
    for axis, noise in zip(axes.flat, noises):
        for index, method in enumerate(methods_of(results)):
            curves = _curves(results, noise, method)
            if not curves:
                continue
            length = min(len(curve) for curve in curves)
            total = np.mean([curve["loss"].to_numpy()[:length] for curve in curves], axis=0)
            window = max(1, length // 20)
            smooth = np.convolve(total, np.ones(window) / window, mode="valid")
            axis.plot(
                curves[0]["iteration"].to_numpy()[window - 1 : length],
                smooth,
                color=colour(index),
                label=method,
                linewidth=1.1,
            )
        axis.set_title(noise)
    axes.flat[0].set_ylabel("training loss")
    axes.flat[len(noises) - 1].legend(frameon=False, fontsize=7)
    figure.suptitle(
        results.heading("Training loss (losses of different methods are on different scales)")
    )
    figure.tight_layout()
    return figure


def _loss_matrix(results: Results) -> Figure:
    """Return the loss at the end of each training as a share of that at its start."""
    shares: dict[tuple[str, str], float] = {}
    for noise, method in results.trainings:
        ends = [
            (curve["loss"].head(_tenth(curve)).mean(), curve["loss"].tail(_tenth(curve)).mean())
            for curve in _curves(results, noise, method)
        ]
        if ends:
            first, last = np.mean(ends, axis=0)
            shares[noise, method] = last / first if first else math.nan
    title = results.heading(f"Training loss, {_ENDS} as a share of the first tenth")
    return matrices({"last loss / first loss": _table(results, shares)}, title)


def _tenth(curve: pd.DataFrame) -> int:
    return max(1, len(curve) // 10)


def _table(results: Results, values: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """Return values by (noise, method) as a table, a row per method, both in the grid's order."""
    rows = [
        [values.get((noise, method), math.nan) for noise in results.noises]
        for method in methods_of(results)
    ]
    return pd.DataFrame(rows, methods_of(results), results.noises)


def memorisation(results: Results) -> Figure | None:
    """Return the shares of wrongly labelled pixels predicted as labelled, as true, or otherwise.

    None without any wrong label.
    """
    return _diagnosis(
        results,
        {"memorised": ("-", ""), "corrected": ("--", ""), "other": (":", "")},
        "share of wrongly labelled pixels",
        "What becomes of wrong labels in training",
    )


def directions(results: Results) -> Figure | None:
    """Return the shares memorised and corrected by the direction of the error; None without any."""
    return _diagnosis(
        results,
        {
            "memorised_fg_bg": ("-", "object called background: memorised"),
            "corrected_fg_bg": ("--", "object called background: corrected"),
            "memorised_bg_fg": ("-.", "background called object: memorised"),
            "corrected_bg_fg": (":", "background called object: corrected"),
        },
        "share of such pixels",
        "What becomes of wrong labels, by the direction of the error",
    )


def hard_pixels(results: Results) -> Figure | None:
    """Return the share of wrong labels among the hardest pixels, those kept, and all pixels.

    Kept pixels are those that two networks select for their small losses. None without any.
    """
    return _diagnosis(
        results,
        {
            "mislabelled_top": ("-", "among those mined"),
            "mislabelled_kept": ("--", "among those two networks keep"),
            "mislabelled": (":", "among all pixels"),
        },
        "share of wrong labels",
        "Wrong labels among the pixels that are learned from",
    )


def teacher(results: Results) -> Figure | None:
    """Return the mean IoU of the teacher's objects with clean and given labels, and SMART's sigma.

    None if no method has a teacher.
    """
    return _diagnosis(
        results,
        {
            "teacher_iou_clean": ("-", "IoU with clean labels"),
            "teacher_iou_given": ("--", "IoU with given labels"),
            "sigma": (":", "sigma, trust in given labels"),
        },
        "overlap of the teacher",
        "Teacher against labels",
    )


DIAGNOSES: dict[str, Callable[[Results], Figure | None]] = {
    "memorisation": memorisation,
    "memorisation-directions": directions,
    "hard-pixels": hard_pixels,
    "teacher": teacher,
}


def mean_curves(
    results: Results, noise: str, method: str, columns: Iterable[str]
) -> pd.DataFrame | None:
    """Return the mean of some columns over the seeds of one (noise, method), by iteration.

    A value that no seed has at an iteration is NaN there: some frames have no pixel of a kind.
    None if no training has any of the columns.
    """
    curves = _curves(results, noise, method)
    present = [column for column in columns if any(column in curve for curve in curves)]
    if not present:
        return None
    rows = pd.concat(curve.reindex(columns=["iteration", *present]) for curve in curves).dropna(
        how="all", subset=present
    )
    return rows.groupby("iteration").mean() if len(rows) else None


def _diagnosis(
    results: Results, columns: Mapping[str, tuple[Any, str]], axis_label: str, title: str
) -> Figure | None:
    """Return one panel per noise setting: a colour per method, a line style per column.

    columns: line style and label of each column of the training curve.
    """
    methods = methods_of(results)
    shown: dict[str, dict[str, pd.DataFrame]] = {}
    for noise in results.noises:
        curves = {
            method: curve
            for method in methods
            if (curve := mean_curves(results, noise, method, columns)) is not None
        }
        if any((curve > 0).any(axis=None) for curve in curves.values()):
            shown[noise] = curves
    if not shown:
        return None
    if len(methods_of(results)) > MOST_LINES:
        return _end_matrices(results, shown, columns, title)
    count = len(shown)
    columns_used = count if count <= 3 else min(MOST_COLUMNS, math.ceil(math.sqrt(count)))
    figure, axes = panels(
        count, columns_used, (3.2, 2.7), around=(1.2, 0), sharex=True, sharey=True
    )
    for axis, (noise, curves) in zip(axes.flat, shown.items()):
        for method, curve in curves.items():
            for column, (style, _) in columns.items():
                known = curve[column].dropna() if column in curve else pd.Series(dtype=float)
                if len(known):
                    axis.plot(
                        known.index.to_numpy(),
                        known.to_numpy(),
                        color=colour(methods.index(method)),
                        linestyle=style,
                        linewidth=1.4,
                        label=f"{method}: {column}",
                    )
        axis.set_title(noise)
        axis.grid(axis="y", color="0.9", linewidth=0.6)
    # after drawing: a limit set earlier would no longer follow the data
    axes.flat[0].set_ylim(bottom=0)
    for axis in axes[:, 0]:
        axis.set_ylabel(axis_label)
    for axis in lowest(axes, count):
        axis.set_xlabel("iteration")
        axis.tick_params(labelbottom=True)
    handles = [
        Line2D([], [], color=colour(index), label=method)
        for index, method in enumerate(methods)
        if any(method in curves for curves in shown.values())
    ]
    handles += [
        Line2D([], [], color=GREY, linestyle=style, label=label or column)
        for column, (style, label) in columns.items()
    ]
    figure.suptitle(results.heading(title))
    figure.tight_layout()
    figure.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def _end_matrices(
    results: Results,
    shown: Mapping[str, Mapping[str, pd.DataFrame]],
    columns: Mapping[str, tuple[Any, str]],
    title: str,
) -> Figure:
    """Return a matrix per column of training curves: its value at the end of each training."""
    tables = {}
    for column, (_, label) in columns.items():
        values = {
            (noise, method): curve[column].dropna().tail(_tenth(curve)).mean()
            for noise, curves in shown.items()
            for method, curve in curves.items()
            if column in curve
        }
        if not np.isnan(list(values.values())).all():
            tables[label or column] = _table(results, values)
    return matrices(tables, results.heading(f"{title}: {_ENDS} of training"))
