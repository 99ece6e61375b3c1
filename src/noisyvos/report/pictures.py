"""Figures of images: videos with every method's masks, label noise, and clips of pretraining."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noisyvos.analysis.results import Results
from noisyvos.datasets.layout import VideoDataset
from noisyvos.io.masks import MaskCollection
from noisyvos.media.contact_sheets import spread
from noisyvos.media.material import COLUMNS, EXAMPLES, reduced, reduced_frame, shown_frames
from noisyvos.media.overlays import Row, sheet
from noisyvos.report.figures import COLOURS
from noisyvos.synth.clip import SynthClip
from noisyvos.synth.shards import ClipShards
from noisyvos.synth.statistics import clip_facts

_CLIPS_SHOWN = 6
# Areas and motion come from a sample of the clips: meta.json has only their quartiles.
_CLIPS_MEASURED = 200


def ranked_sequences(results: Results, evaluation: str, count: int = 2) -> dict[str, str]:
    """Return {label: sequence} for the `count` best and worst videos by mean J&F of all cells."""
    means = (
        results.trained(evaluation)
        .groupby("sequence")["JF"]
        .mean()
        .sort_values(ascending=False, kind="stable")
    )
    names = [str(name) for name in means.index]
    count = min(count, len(names) // 2) or 1
    best = {f"best_{rank + 1}": name for rank, name in enumerate(names[:count])}
    worst = {f"worst_{rank + 1}": name for rank, name in enumerate(names[::-1][:count])}
    return best | {label: name for label, name in worst.items() if name not in best.values()}


def example_cells(results: Results, evaluation: str) -> dict[str, str]:
    """Return {label: scored cell}: baselines, then each line's least and most noisy first seed."""
    shown = {}
    for label, rows in results.baselines(evaluation).items():
        shown[label] = str(rows["key"].iloc[0])
    trained = results.trained(evaluation, own_labels=True)
    for line, group in trained.groupby("line", sort=False):
        order = (
            group.groupby("noise", sort=False)["q_achieved"]
            .mean()
            .sort_values(ascending=False, kind="stable")
        )
        for noise in dict.fromkeys([order.index[0], order.index[-1]]):
            cells = group[group["noise"] == noise].sort_values("seed", kind="stable")
            shown[f"{line}\n{noise}"] = str(cells["key"].iloc[0])
    return shown


def sequence_figure(results: Results, evaluation: str, sequence: str, title: str) -> Figure:
    """Return frames, truth and predictions of one video as rows of a sheet."""
    dataset = VideoDataset(results.converted / evaluation)
    entry = dataset.sequences[sequence]
    masked = set(entry.masks)
    picks = shown_frames([frame for frame in entry.frames if frame in masked])
    frames = [reduced_frame(dataset.read_frame(sequence, frame)) for frame in picks]
    rows = [
        Row("frame", [None] * len(picks)),
        Row("truth", [reduced(dataset.read_mask(sequence, frame)) for frame in picks]),
    ]
    for label, key in example_cells(results, evaluation).items():
        examples = results.scores_of(key) / EXAMPLES
        if not examples.is_file():
            continue
        with MaskCollection(examples) as masks:
            known = set(masks.frames(sequence))
            shown = [masks.read(sequence, frame) if frame in known else None for frame in picks]
            rows.append(Row(label, shown))
    return labelled(frames, rows, title, [f"frame {frame}" for frame in picks])


def labelled(frames: list[np.ndarray], rows: list[Row], title: str, columns: list[str]) -> Figure:
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
    _without_frame(axis)
    axis.set_title(title, fontsize=10, pad=18)
    return figure


def noise_figure(dataset: Path, settings: dict[str, dict[str, Any]], title: str) -> Figure | None:
    """Return training labels under each noise setting, a column per frame; None without labels."""
    from noisyvos.noise import corrupt

    data = VideoDataset(dataset)
    chosen = [entry for entry in data.sequences.values() if entry.masks]
    chosen = sorted(chosen, key=lambda entry: (-len(entry.objects), entry.name))[:COLUMNS]
    picks = [(entry.name, entry.masks[len(entry.masks) // 2]) for entry in chosen]
    # a sheet needs equal sizes: keep the frames with the size of the first
    sizes = [data.sequences[name].size for name, _ in picks]
    picks = [pick for pick, size in zip(picks, sizes) if size == sizes[0]]
    if not picks:
        return None
    frames = [reduced_frame(data.read_frame(*pick)) for pick in picks]
    masks = [data.read_mask(*pick) for pick in picks]
    rows = [Row("clean", [reduced(mask) for mask in masks])]
    for name, setting in settings.items():
        if setting["kind"] != "clean":
            noisy = [
                reduced(corrupt(mask, seed=0, key=(dataset.name, *pick), **setting))
                for mask, pick in zip(masks, picks)
            ]
            rows.append(Row(name, noisy))
    return labelled(frames, rows, title, [f"{sequence} {frame}" for sequence, frame in picks])


def clips_figure(root: Path, title: str) -> Figure:
    """Return histograms of the clips that `synth` wrote to `root`, and six clips below."""
    clips = ClipShards(root)
    numbers = spread(len(clips), _CLIPS_MEASURED)
    facts = [
        clip_facts(SynthClip(*clips.read(number), pasted=0, hidden=(0, 0, 0))) for number in numbers
    ]
    picture, centres = _contact(clips)
    ratio = picture.shape[0] / picture.shape[1]
    figure = plt.figure(figsize=(9, 2.9 + 8.2 * ratio))
    grid = figure.add_gridspec(2, 4, height_ratios=(2, 8.2 * ratio), hspace=0.3, wspace=0.55)
    statistics = clips.meta["statistics"]
    axes = [figure.add_subplot(grid[0, column]) for column in range(4)]
    counts = {int(number): count for number, count in statistics["objects_per_clip"].items()}
    axes[0].bar(
        list(counts), [100 * count / len(clips) for count in counts.values()], color=COLOURS[0]
    )
    axes[0].set_xticks(list(counts))
    _histogram(axes[1], [area for fact in facts for area in fact.areas])
    _histogram(axes[2], [step for fact in facts for step in fact.motion])
    axes[3].bar(
        [1, 2, 3], [100 * share for share in statistics["hidden_share_per_frame"]], color=COLOURS[0]
    )
    axes[3].set_xticks([1, 2, 3])
    axes[3].set_ylim(0, max(1, axes[3].get_ylim()[1]))  # a range also where nothing is hidden
    labels = ("objects of a clip", "area (% of frame)", "motion (% of side)", "frame")
    for axis, label, name in zip(
        axes, labels, ("clips (%)", "objects (%)", "steps (%)", "own area hidden (%)")
    ):
        axis.set_xlabel(label, fontsize=8)
        axis.set_ylabel(name, fontsize=8)
        axis.tick_params(labelsize=7)
    contact = figure.add_subplot(grid[1, :])
    contact.imshow(picture, interpolation="antialiased")
    contact.set_yticks(centres, ["frame 1", "frame 2", "frame 3"], fontsize=8)
    contact.set_xticks([])
    _without_frame(contact)
    figure.suptitle(f"{title}: {len(clips)} clips of {clips.crop} pixels", y=0.94)
    return figure


def _histogram(axis: Axes, shares: list[float]) -> None:
    values = 100 * np.asarray(shares)
    if len(values):
        weights = np.full(len(values), 100 / len(values))
        axis.hist(values, bins=20, weights=weights, color=COLOURS[0])


def _contact(clips: ClipShards) -> tuple[np.ndarray, list[int]]:
    """Return a picture, a column per clip and a row per frame, and the rows' vertical centres."""
    shown = [clips.read(number) for number in spread(len(clips), _CLIPS_SHOWN)]
    rows = [
        sheet(
            [frames[time] for frames, _ in shown], [Row("", [masks[time] for _, masks in shown])]
        )[0]
        for time in range(3)
    ]
    padded = [np.pad(row, ((0, 4), (0, 0), (0, 0)), constant_values=255) for row in rows]
    height = padded[0].shape[0]
    return np.concatenate(padded), [time * height + height // 2 for time in range(3)]


def _without_frame(axis: Axes) -> None:
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
