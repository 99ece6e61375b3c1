"""What the clips of pretraining are like: objects, areas, motion and occlusion as histograms, and some clips to look at."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from noisyvos.media.contact_sheets import spread
from noisyvos.media.overlays import Row, sheet
from noisyvos.report.curves import COLOURS
from noisyvos.synth.clip import SynthClip
from noisyvos.synth.shards import ClipShards
from noisyvos.synth.statistics import clip_facts

SHOWN = 6
MEASURED = 200  # clips that areas and motion are taken from; meta.json has all clips, but only quartiles of these


def clips_figure(root: Path, title: str) -> plt.Figure:
    """Return histograms of the clips that `synth` wrote to `root`, and six evenly spread clips, one a column."""
    clips = ClipShards(root)
    numbers = spread(len(clips), MEASURED)
    facts = [
        clip_facts(SynthClip(*clips.read(number), pasted=0, hidden=(0, 0, 0))) for number in numbers
    ]
    picture, centres = _contact(clips)
    figure = plt.figure(figsize=(9, 2.9 + 8.2 * picture.shape[0] / picture.shape[1]))
    grid = figure.add_gridspec(
        2, 4, height_ratios=(2, 8.2 * picture.shape[0] / picture.shape[1]), hspace=0.3, wspace=0.55
    )
    statistics, axes = (
        clips.meta["statistics"],
        [figure.add_subplot(grid[0, column]) for column in range(4)],
    )
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
    axes[3].set_ylim(0, max(1, axes[3].get_ylim()[1]))  # also where nothing is hidden
    labels = ("objects of a clip", "area (% of frame)", "motion (% of side)", "frame")
    for axis, label, name in zip(
        axes, labels, ("clips (%)", "objects (%)", "steps (%)", "own area hidden (%)")
    ):
        axis.set_xlabel(label, fontsize=8)
        axis.set_ylabel(name, fontsize=8)
        axis.tick_params(labelsize=7)
    _show(figure.add_subplot(grid[1, :]), picture, centres)
    figure.suptitle(f"{title}: {len(clips)} clips of {clips.crop} pixels", y=0.94)
    return figure


def _histogram(axis: plt.Axes, shares: list[float]) -> None:
    values = 100 * np.asarray(shares)
    if len(values):
        axis.hist(
            values, bins=20, weights=np.full(len(values), 100 / len(values)), color=COLOURS[0]
        )


def _contact(clips: ClipShards) -> tuple[np.ndarray, list[int]]:
    """Return a picture with a clip a column and a frame a row, and the vertical centres of the rows."""
    shown = [clips.read(number) for number in spread(len(clips), SHOWN)]
    rows = [
        sheet(
            [frames[time] for frames, _ in shown], [Row("", [masks[time] for _, masks in shown])]
        )[0]
        for time in range(3)
    ]
    padded = [np.pad(row, ((0, 4), (0, 0), (0, 0)), constant_values=255) for row in rows]
    height = padded[0].shape[0]
    return np.concatenate(padded), [time * height + height // 2 for time in range(3)]


def _show(axis: plt.Axes, picture: np.ndarray, centres: list[int]) -> None:
    axis.imshow(picture, interpolation="antialiased")
    axis.set_yticks(centres, ["frame 1", "frame 2", "frame 3"], fontsize=8)
    axis.set_xticks([])
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
