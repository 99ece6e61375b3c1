"""Example pictures: the easiest and hardest videos with every method's masks, and what the label noise looks like."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from noisyvos.analysis.results import Results
from noisyvos.datasets.layout import VideoDataset
from noisyvos.io.masks import MaskCollection
from noisyvos.media.overlays import Row, sheet

_COLUMNS = 5


def ranked_sequences(results: Results, evaluation: str, count: int = 2) -> dict[str, str]:
    """Return {label: sequence} for the `count` best and worst videos by mean J&F over all trained cells."""
    means = (
        results.trained(evaluation)
        .groupby("sequence")["JF"]
        .mean()
        .sort_values(ascending=False, kind="stable")
    )
    count = min(count, len(means) // 2) or 1
    best = {f"best_{rank + 1}": name for rank, name in enumerate(means.index[:count])}
    worst = {f"worst_{rank + 1}": name for rank, name in enumerate(means.index[::-1][:count])}
    return best | {label: name for label, name in worst.items() if name not in best.values()}


def example_cells(results: Results, evaluation: str) -> dict[str, str]:
    """Return {label: scored cell} to show: the baselines, then every line at no noise and at its strongest noise, first seed."""
    shown = {}
    for label, rows in results.baselines(evaluation).items():
        shown[label] = rows["key"].iloc[0]
    trained = results.trained(evaluation, own_labels=True)
    for line, group in trained.groupby("line", sort=False):
        order = (
            group.groupby("noise", sort=False)["q_achieved"]
            .mean()
            .sort_values(ascending=False, kind="stable")
        )
        for noise in dict.fromkeys([order.index[0], order.index[-1]]):
            shown[f"{line}\n{noise}"] = (
                group[group["noise"] == noise].sort_values("seed", kind="stable")["key"].iloc[0]
            )
    return shown


def sequence_figure(results: Results, evaluation: str, sequence: str, title: str) -> plt.Figure:
    """Return frames, truth and predictions of one video as rows of a sheet."""
    dataset = VideoDataset(results.converted / evaluation)
    entry = dataset.sequences[sequence]
    annotated = [frame for frame in entry.frames if frame in set(entry.masks)]
    picks = [
        annotated[index]
        for index in np.linspace(0, len(annotated) - 1, min(_COLUMNS, len(annotated)))
        .round()
        .astype(int)
    ]
    frames = [dataset.read_frame(sequence, frame) for frame in picks]
    rows = [
        Row("frame", [None] * len(picks)),
        Row("truth", [dataset.read_mask(sequence, frame) for frame in picks]),
    ]
    for label, key in example_cells(results, evaluation).items():
        with MaskCollection(results.predictions / f"{key}.zip") as masks:
            rows.append(Row(label, [masks.read(sequence, frame) for frame in picks]))
    return labelled(frames, rows, title, [f"frame {frame}" for frame in picks])


def labelled(
    frames: list[np.ndarray], rows: list[Row], title: str, columns: list[str]
) -> plt.Figure:
    """Return a sheet with its row labels on the left and column labels on top."""
    picture, centres = sheet(frames, rows)
    height, width = picture.shape[:2]
    figure, axis = plt.subplots(figsize=(9, 9 * height / width + 0.4))
    axis.imshow(picture, interpolation="nearest")
    axis.set_yticks(centres, [row.label for row in rows], fontsize=8)
    axis.set_xticks(
        [(index + 0.5) * width / len(columns) for index in range(len(columns))], columns, fontsize=7
    )
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    axis.set_title(title, fontsize=10, pad=18)
    return figure


def noise_figure(
    dataset: Path, settings: dict[str, dict[str, Any]], title: str
) -> plt.Figure | None:
    """Return what each noise setting does to the labels of one training frame a column; None if nothing can be shown."""
    from noisyvos.noise import corrupt

    data = VideoDataset(dataset)
    chosen = [entry for entry in data.sequences.values() if entry.masks]
    chosen = sorted(chosen, key=lambda entry: (-len(entry.objects), entry.name))[:_COLUMNS]
    if not chosen:
        return None
    picks = [(entry.name, entry.masks[len(entry.masks) // 2]) for entry in chosen]
    frames = [data.read_frame(*pick) for pick in picks]
    masks = [data.read_mask(*pick) for pick in picks]
    if (
        len({frame.shape for frame in frames}) > 1
    ):  # a sheet needs equal sizes: keep those of the first
        keep = [index for index, frame in enumerate(frames) if frame.shape == frames[0].shape]
        picks, frames, masks = (
            [items[index] for index in keep] for items in (picks, frames, masks)
        )
    rows = [Row("clean", masks)]
    for name, setting in settings.items():
        if setting["kind"] != "clean":
            noisy = [
                corrupt(mask, seed=0, key=(dataset.name, *pick), **setting)
                for mask, pick in zip(masks, picks)
            ]
            rows.append(Row(name, noisy))
    return labelled(frames, rows, title, [f"{sequence} {frame}" for sequence, frame in picks])
