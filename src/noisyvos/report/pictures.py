"""Figures of images: videos with every method's masks, label noise, and clips of pretraining."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noisyvos.analysis.results import Results
from noisyvos.datasets.layout import VideoDataset
from noisyvos.io.masks import MaskCollection
from noisyvos.io.text import read_table
from noisyvos.media.contact_sheets import spread
from noisyvos.media.material import (
    COLUMNS,
    EXAMPLES,
    reduced,
    reduced_frame,
    shown_frames,
    stored_frames,
)
from noisyvos.report.figures import COLOURS
from noisyvos.report.outlines import Colours, Row, object_colours, objects_of, sheet
from noisyvos.synth.clip import SynthClip
from noisyvos.synth.shards import ClipShards
from noisyvos.synth.statistics import clip_facts

_LABEL = {"boxstyle": "square,pad=0.15", "facecolor": "black", "alpha": 0.65, "edgecolor": "none"}
_FRAMES = ("sequence", "frame", "J", "F")  # columns of frames.csv
_CLIPS_SHOWN = 6
_MOST_DOTS = 8000  # height of a sheet above which it is drawn from a smaller picture
_SMALLER = 1200  # its width
_MOST_TRAINED = 8  # cells of trainings that a video is shown with
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


@dataclass(frozen=True)
class Example:
    """One video of an evaluation set: its frames, its truth, and the cells shown beside them.

    frames: (H, W, 3) uint8, reduced; truths: (H, W); cells: {label: scored cell}.
    """

    results: Results
    evaluation: str
    sequence: str
    names: list[str]
    frames: list[np.ndarray]
    truths: list[np.ndarray]
    cells: dict[str, str]

    @classmethod
    def read(cls, results: Results, evaluation: str, sequence: str) -> "Example":
        """Return the frames whose masks scoring has stored, with the cells of `example_cells`."""
        dataset = VideoDataset(results.converted / evaluation)
        entry = dataset.sequences[sequence]
        masked = set(entry.masks)
        names = stored_frames([frame for frame in entry.frames if frame in masked])
        return cls(
            results,
            evaluation,
            sequence,
            names,
            [reduced_frame(dataset.read_frame(sequence, frame)) for frame in names],
            [reduced(dataset.read_mask(sequence, frame)) for frame in names],
            example_cells(results, evaluation),
        )

    @cached_property
    def _stored(self) -> dict[str, str]:
        """The cells whose scoring has stored masks."""
        return {
            label: key
            for label, key in self.cells.items()
            if (self.results.scores_of(key) / EXAMPLES).is_file()
        }

    @cached_property
    def shown(self) -> dict[str, str]:
        """The cells that are shown: baselines, and trainings of highest and lowest J&F if many."""
        stored = self._stored
        trained = [label for label in stored if "\n" in label]
        if len(trained) > _MOST_TRAINED:
            ranked = sorted(trained, key=self.score)
            half = _MOST_TRAINED // 2
            kept = {*ranked[:half], *ranked[-half:]}
            trained = [label for label in trained if label in kept]
        baselines = [label for label in stored if "\n" not in label]
        return {label: stored[label] for label in [*baselines, *trained]}

    @property
    def left_out(self) -> int:
        """How many cells have stored masks and are not shown."""
        return len(self._stored) - len(self.shown)

    @cached_property
    def colours(self) -> Colours:
        """The colours of the video's objects."""
        return object_colours(self.frames, self.truths)

    @cached_property
    def predictions(self) -> dict[str, list[np.ndarray | None]]:
        """The masks of each shown cell by label, None for frames without one."""
        found: dict[str, list[np.ndarray | None]] = {}
        for label, key in self.shown.items():
            with MaskCollection(self.results.scores_of(key) / EXAMPLES) as masks:
                known = set(masks.frames(self.sequence))
                found[label] = [
                    masks.read(self.sequence, name) if name in known else None
                    for name in self.names
                ]
        return found

    @cached_property
    def _rows(self) -> pd.DataFrame:
        """The rows of the video's objects, of all cells."""
        rows = self.results.objects
        kept = (rows["evaluation"] == self.evaluation) & (rows["sequence"] == self.sequence)
        return rows.loc[kept, ["key", "role", "JF"]]

    def score(self, label: str) -> float:
        """Return the mean J&F of a cell on this video, a fraction of 1; NaN without any."""
        return float(self._rows.loc[self._rows["key"] == self.cells[label], "JF"].mean())

    @cached_property
    def frame_scores(self) -> dict[str, dict[str, float]]:
        """The mean J&F over objects by label and frame; frames that are not scored are left out."""
        found: dict[str, dict[str, float]] = {}
        for label in self.predictions:
            path = self.results.scores_of(self.cells[label]) / "frames.csv"
            found[label] = {}
            if path.is_file():
                table = read_table(path, _FRAMES, dtype={"sequence": str, "frame": str})
                rows = table[table["sequence"] == self.sequence]
                means = rows.groupby("frame")[["J", "F"]].mean().mean(axis=1)
                found[label] = {str(frame): float(value) for frame, value in means.items()}
        return found

    @property
    def mean_score(self) -> float:
        """The mean J&F of the video over all trained cells, by which videos are ranked."""
        return float(self._rows.loc[self._rows["role"] == "trained", "JF"].mean())

    def title(self, label: str) -> str:
        """Return the video's name, its rank and its mean J&F."""
        return (
            f"{self.sequence} ({label.replace('_', ' ')} video of {self.evaluation}): "
            f"mean J&F {100 * self.mean_score:.1f}"
        )


def sequence_figure(example: Example, title: str) -> Figure:
    """Return frames, truth and predictions of one video as rows of a sheet, with J&F."""
    wanted = set(shown_frames(example.names))
    places = [place for place, name in enumerate(example.names) if name in wanted]

    def of(values: list) -> list:
        return [values[place] for place in places]

    rows = [
        Row("frame", [None] * len(places)),
        Row("truth", of(example.truths), truth=True),
    ]
    for label, masks in example.predictions.items():
        scores = example.frame_scores[label]
        captions = [
            f"{100 * scores[name]:.1f}" if name in scores else "" for name in of(example.names)
        ]
        mean = 100 * example.score(label)
        rows.append(Row(f"{label}\nJ&F {mean:.1f}", of(masks), captions, truth=True))
    columns = [f"frame {name}" for name in of(example.names)]
    return labelled(
        of(example.frames),
        rows,
        title,
        columns,
        of(example.truths),
        [example.colours] * len(places),
    )


def labelled(
    frames: list[np.ndarray],
    rows: list[Row],
    title: str,
    columns: list[str],
    truths: Sequence[np.ndarray | None],
    colours: list[Colours],
) -> Figure:
    """Return a sheet with row labels on the left, column labels on top and captions in tiles."""
    made = sheet(frames, rows, truths, colours)
    height, width = made.picture.shape[:2]
    figure, axis = plt.subplots(figsize=(9, 9 * height / width + 0.4))
    picture = made.picture
    if height > _MOST_DOTS and width > _SMALLER:
        # matplotlib resamples in floats, which take many times the memory of the picture
        size = (_SMALLER, round(height * _SMALLER / width))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    edges = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(picture, interpolation="antialiased", extent=edges)
    axis.set_yticks(
        [made.middle(place) for place in range(len(rows))],
        [row.label for row in rows],
        fontsize=8,
    )
    axis.set_xticks(
        [(index + 0.5) * width / len(columns) for index in range(len(columns))], columns, fontsize=7
    )
    axis.xaxis.tick_top()
    for place, row in enumerate(rows):
        for column, caption in enumerate(row.captions):
            x, y = made.corner(place, column)
            if caption:
                axis.text(x + 5, y + 5, caption, va="top", fontsize=6.5, color="w", bbox=_LABEL)
    _without_frame(axis)
    axis.set_title(title, fontsize=10, pad=18)
    return figure


def noise_figure(dataset: Path, settings: dict[str, dict[str, Any]], title: str) -> Figure | None:
    """Return training labels under each noise setting, a column per frame; None without labels.

    Each tile is captioned with the mean IoU of its objects with the clean labels.
    """
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
    truths = [reduced(mask) for mask in masks]
    rows = [Row("clean", truths, truth=True)]
    for name, setting in settings.items():
        if setting["kind"] != "clean":
            noisy = [
                corrupt(mask, seed=0, key=(dataset.name, *pick), **setting)
                for mask, pick in zip(masks, picks)
            ]
            captions = [f"IoU {_overlap(*pair):.2f}" for pair in zip(masks, noisy)]
            rows.append(Row(name, [reduced(mask) for mask in noisy], captions, truth=True))
    colours = [object_colours([frame], [mask]) for frame, mask in zip(frames, truths)]
    columns = [f"{sequence} {frame}" for sequence, frame in picks]
    return labelled(frames, rows, title, columns, truths, colours)


def _overlap(clean: np.ndarray, noisy: np.ndarray) -> float:
    """Return the mean IoU of the clean objects with their noisy labels."""
    shares = []
    for number in objects_of(clean):
        true, given = clean == number, noisy == number
        shares.append((true & given).sum() / (true | given).sum())
    return float(np.mean(shares)) if shares else float("nan")


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
    colours = [object_colours(list(frames), list(masks)) for frames, masks in shown]
    rows = []
    for time in range(3):
        masks = [masks[time] for _, masks in shown]
        rows.append(
            sheet([frames[time] for frames, _ in shown], [Row("", masks)], masks, colours).picture
        )
    height = rows[0].shape[0]
    return np.concatenate(rows), [time * height + height // 2 for time in range(3)]


def _without_frame(axis: Axes) -> None:
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
