"""Numbers of methods by label noise as colours."""

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

MOST_NUMBERS = 600  # cells of a matrix that prints them; a larger one has colours only
SEQUENTIAL = "cividis"  # can be read without telling red from green
_MISSING = "0.88"  # grey of a cell without a number


def matrices(tables: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Return a matrix of colours for each table, below one another, on one scale.

    tables: by heading; a row per method and a column per label noise, NaN where there is none.
    """
    rows, columns = next(iter(tables.values())).shape
    figure, axes = plt.subplots(
        len(tables),
        1,
        figsize=(3.2 + 0.24 * columns, (1.5 + 0.2 * rows) * len(tables)),
        squeeze=False,
        layout="constrained",
    )
    known = np.concatenate([table.to_numpy(float).ravel() for table in tables.values()])
    low, high = np.nanmin(known), np.nanmax(known)
    for axis, (heading, table) in zip(axes[:, 0], tables.items()):
        values = np.ma.masked_invalid(table.to_numpy(float))
        picture = axis.imshow(values, cmap=SEQUENTIAL, vmin=low, vmax=high, aspect="auto")
        label_axes(axis, list(table.index), list(table.columns))
        axis.set_title(heading, fontsize=9, loc="left")
    bar = figure.colorbar(picture, ax=list(axes[:, 0]), fraction=0.03, pad=0.01)
    bar.outline.set_visible(False)
    figure.suptitle(title, fontsize=10)
    return figure


def label_axes(axis: Axes, rows: list[str], columns: list[str]) -> None:
    """Name the rows and the columns of a matrix that `imshow` has drawn."""
    axis.set_facecolor(_MISSING)
    long = len(columns) > 6 or max(map(len, columns)) > 10
    axis.set_xticks(
        range(len(columns)), columns, rotation=35 if long else 0, ha="right" if long else "center"
    )
    if len(rows) * len(columns) > MOST_NUMBERS:  # columns too narrow for slanted names
        axis.set_xticks(range(len(columns)), columns, rotation=90, ha="center")
    axis.set_yticks(range(len(rows)), rows)
    axis.tick_params(length=0, labelsize=8)
    for side in axis.spines.values():
        side.set_visible(False)


def write_numbers(
    axis: Axes,
    values: np.ndarray,
    tones: np.ndarray,
    form: str,
    marks: list[list[str]] | None = None,
) -> None:
    """Write each number in the ink that its colour needs; "-" where there is none."""
    for (row, column), value in np.ndenumerate(values):
        known = not math.isnan(value)
        text = form.format(value) if known else "-"
        mark = "" if marks is None else marks[row][column]
        red, green, blue = tones[row, column][:3] if known else to_rgb(_MISSING)
        bright = 0.299 * red + 0.587 * green + 0.114 * blue > 0.55
        axis.text(
            column,
            row,
            text + mark,
            ha="center",
            va="center",
            fontsize=7.5,
            color="#111111" if bright else "#fefefe",
            fontweight="bold" if mark else "normal",
        )
