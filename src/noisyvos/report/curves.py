"""The figure the pipeline exists for: J&F against the noise that the labels really had, a line a method."""

from pathlib import Path

import matplotlib
import numpy as np

from noisyvos.analysis.results import Results, sweep_name
from noisyvos.analysis.statistics.intervals import sequence_interval
from noisyvos.io.atomic import atomic_file

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#000000",
    "#8c6d31",
)  # told apart by colour-blind readers
MARKERS = "osD^vPX*"
plt.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "noisyvos",
        "figure.dpi": 110,
    }
)


def save(figure: plt.Figure, path: Path, dots: int = 150) -> None:
    """Write a figure as PNG with `dots` per inch and without a date, so that equal results give equal bytes."""
    with atomic_file(path) as temporary:
        figure.savefig(
            temporary, format="png", dpi=dots, bbox_inches="tight", metadata={"Software": None}
        )
    plt.close(figure)


def noise_curves(results: Results, evaluation: str) -> plt.Figure:
    """Return one panel a sweep: mean J&F in percent over objects and seeds against 1 - achieved IoU, with 95 % bands over videos."""
    trained = results.trained(evaluation, own_labels=True)
    trained = trained.assign(
        sweep=[sweep_name(*names) for names in zip(trained["noise"], trained["kind"])]
    )
    sweeps = [sweep for sweep in dict.fromkeys(trained["sweep"]) if sweep != "clean"] or ["clean"]
    figure, axes = plt.subplots(
        1, len(sweeps), figsize=(3.4 * len(sweeps) + 0.6, 3.4), sharey=True, squeeze=False
    )
    for axis, sweep in zip(axes[0], sweeps):
        for index, method in enumerate(dict.fromkeys(trained["method"])):
            cells = trained[(trained["method"] == method) & trained["sweep"].isin([sweep, "clean"])]
            points = []
            for _, group in cells.groupby("noise", sort=False):
                interval = sequence_interval(group)
                points.append(
                    (
                        100 * (1 - group["q_achieved"].mean()),
                        100 * interval.mean,
                        100 * interval.low,
                        100 * interval.high,
                    )
                )
            x, mean, low, high = np.array(sorted(points)).T
            colour = COLOURS[index % len(COLOURS)]
            axis.plot(
                x,
                mean,
                marker=MARKERS[index % len(MARKERS)],
                color=colour,
                label=method,
                linewidth=1.6,
                markersize=4.5,
            )
            axis.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
        for style, (label, rows) in zip(("--", ":"), results.baselines(evaluation).items()):
            axis.axhline(
                100 * sequence_interval(rows).mean,
                color="0.35",
                linestyle=style,
                linewidth=1.1,
                label=label,
            )
        axis.set_title(sweep)
        axis.set_xlabel("label noise: 1 − achieved mean IoU (%)")
        axis.grid(axis="y", color="0.9", linewidth=0.6)
    axes[0][0].set_ylabel("J&F (%)")
    axes[0][-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    figure.suptitle(
        results.heading(f"Segmentation quality against label noise on {evaluation}"), y=1.03
    )
    return figure


def training_curves(results: Results) -> plt.Figure:
    """Return one panel a noise setting: the training loss of each method over iterations (mean over seeds, smoothed over a twentieth)."""
    noises = list(dict.fromkeys(cell["noise"] for cell in results.train_cells.values()))
    columns = min(4, len(noises))
    rows = -(-len(noises) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.0 * columns, 2.4 * rows), sharex=True, squeeze=False
    )
    methods = list(dict.fromkeys(cell["method"] for cell in results.train_cells.values()))
    for axis in axes.flat[len(noises) :]:
        axis.set_visible(False)
    for axis, noise in zip(axes.flat, noises):
        for index, method in enumerate(methods):
            curves = [
                results.curve(key)
                for key, cell in results.train_cells.items()
                if (cell["noise"], cell["method"]) == (noise, method)
            ]
            curves = [curve for curve in curves if curve is not None]
            if not curves:
                continue
            length = min(len(curve) for curve in curves)
            total = np.mean([curve["loss"].to_numpy()[:length] for curve in curves], axis=0)
            window = max(1, length // 20)
            smooth = np.convolve(total, np.ones(window) / window, mode="valid")
            axis.plot(
                curves[0]["iteration"].to_numpy()[window - 1 : length],
                smooth,
                color=COLOURS[index % len(COLOURS)],
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
