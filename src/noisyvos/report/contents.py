"""The sections of a preset's report page: what it shows and says, in which order."""

from pathlib import Path

import pandas as pd

from noisyvos.analysis.absent import reasons, summary
from noisyvos.analysis.comparison import Comparison
from noisyvos.analysis.kept import recalled
from noisyvos.analysis.results import Results
from noisyvos.report import MOST_LINES, cost, tables
from noisyvos.report.page import Part, Picture, Player, Section, Table

_MOST_ROWS = 200  # of a table on the page; files hold all
_SCORES = (
    "Every score table includes two baselines: first mask copied repeats the given mask in every "
    "frame; pretrained only has no main training. A method that stays near the second one is not "
    "robust: it hardly learned. Intervals of single cells contain the difficulty of the videos; to "
    "judge differences between methods, use the paired comparison."
)
_CURVES = (
    "J&F against the label noise that was achieved, mean over videos and seeds. Bands reach from "
    "the lowest to the highest seed; bars are 95 % intervals over videos. Dashed and dotted lines "
    "are the two baselines."
)
_PLAYERS = (
    "The videos with the highest and the lowest mean J&F over all trained cells. Coloured outlines "
    "are predictions, a colour per object; dashed white outlines are the truth. Play them or step "
    "through the frames with the slider (arrow keys)."
)
_FIGURES = {
    "grid": (
        "Mean J&F of every method and label noise, seeds averaged; grey: no such cell, or missing.",
        "Heat map of mean J&F, a row per method and a column per label noise.",
    ),
    "differences": (
        "Differences to the reference method in J&F points. Filled marks (or stars): the interval "
        "excludes 0 and p after Holm is below 0.05. Grey band: less than half a point, which does "
        "not matter.",
        "Paired differences of every method to the reference, with 95 % intervals.",
    ),
    "videos": (
        "Every point is a video: its J&F under a method against that under the reference, mean "
        "over seeds. Points above the line: the method is better on this video.",
        "Scatter plot of J&F of each video, method against reference, a panel per label noise.",
    ),
    "label-noise": (
        "Labels as training sees them, with their IoU with the clean labels (dashed white). "
        "Validation labels stay clean.",
        "Frames with noisy labels, a row per noise setting.",
    ),
    "clips": (
        "Objects per clip, their area, their motion between frames, and how much pasted objects "
        "hide; below, six clips.",
        "Histograms of clips, and six clips of three frames.",
    ),
    "training": (
        "Training loss of every method and noise setting, mean over seeds.",
        "Curves of the training loss, a panel per label noise.",
    ),
    "memorisation": (
        "Predictions, during training, on wrongly labelled pixels: the wrong label (memorised), "
        "the truth (corrected), or something else. A robust method corrects more than it "
        "memorises.",
        "Curves of memorised and corrected wrong labels, a panel per label noise.",
    ),
    "memorisation-directions": (
        "The same by the direction of the error: objects labelled background (as by erosion) and "
        "background labelled object (as by dilation).",
        "Curves of memorised and corrected wrong labels by the direction of the error.",
    ),
    "hard-pixels": (
        "Share of wrong labels among the pixels with the highest loss, which mining trains on "
        "(solid), among those that two networks keep for their small losses (dashed), and among "
        "all pixels (dotted). Above the dotted line a method selects wrong labels, below it "
        "avoids them. A method that trains on all pixels follows the dotted line.",
        "Curves of the share of wrong labels among the pixels that are trained on.",
    ),
    "teacher": (
        "Overlap of the frozen teacher's masks with clean and with given labels, in methods with a "
        "teacher, and SMART's sigma, its trust in the given labels. A teacher helps while it "
        "agrees more with the clean labels.",
        "Curves of the teacher's overlap with clean and given labels.",
    ),
}
_TRAINING = ("training", "memorisation", "memorisation-directions", "hard-pixels", "teacher")
_MATRICES = (
    "The preset has more methods than lines of a figure can be told apart. Each figure therefore "
    "is a matrix, a row per method and a column per label noise, with the mean over the last tenth "
    "of the training instead of a curve. curve.csv of a training has its whole curve."
)
_COST = (
    "Measured by Snakemake on the machine of each job while other jobs ran beside it: a guide to "
    "what a rerun takes, not a comparison of speeds."
)


def sections(results: Results, figures: Path, logs: Path = Path("logs")) -> list[Section]:
    """Return the sections of the page; those without tables and pictures are left out.

    figures: folder of the figures, beside that of the tables. logs: folder of the jobs' logs, which
    tell why cells are missing and what jobs cost.
    """
    found = figures.parent / "tables"
    methods = {cell["method"] for cell in results.train_cells.values()}
    trainings = [_MATRICES] if len(methods) > MOST_LINES else []
    made = [
        section
        for evaluation in results.evaluations
        for section in _evaluation(results, evaluation, figures, found)
    ]
    made += [
        Section("Training", (*trainings, *_gallery(figures, *_TRAINING))),
        Section("Label noise", _gallery(figures, "label-noise-*")),
        Section("Clips of pretraining", _gallery(figures, "clips-*")),
        _cost(results, logs),
        _missing(results, logs, found),
    ]
    if results.any_scored:
        text = (
            "A row per scored cell, with the first digits of the hashes of labels, data, initial "
            "weights and code; summary.json has the full hashes."
        )
        caption = results.heading("Scores as fractions of 1")
        table = _table(caption, tables.cell_table(results), found / "cells")
        made.append(Section("Every cell", (text, table), folded=True))
    return [section for section in made if section.shows]


def _table(caption: str, frame: pd.DataFrame, stem: Path) -> Table:
    """Return a table with its files, cut to what a page can hold."""
    files = tuple(stem.with_name(stem.name + ending) for ending in (".csv", ".md", ".tex"))
    if len(frame) > _MOST_ROWS:
        caption += f" (the first {_MOST_ROWS} of {len(frame)} rows; the files have all)"
    return Table(caption, frame.head(_MOST_ROWS), files)


def _cost(results: Results, logs: Path) -> Section:
    made = {
        "Trainings by method": cost.by_method(results, logs),
        "All jobs by stage": cost.by_stage(results, logs),
    }
    parts = [Table(caption, table) for caption, table in made.items() if len(table)]
    return Section("Cost", (_COST, *parts))


def _missing(results: Results, logs: Path, found: Path) -> Section:
    """Return the section of cells without scores; it shows nothing where all are scored."""
    if not results.missing:
        return Section("Missing cells")
    cells = len(results.score_cells) + len(results.disturbed_cells)
    text = (
        f"{len(results.missing)} of {cells} cells have no scores. Each counts under the first job "
        "of its chain that is not done. missing.csv among the tables lists all."
    )
    table = summary(reasons(results, logs))
    return Section(
        "Missing cells", (text, _table("Missing cells by reason", table, found / "missing"))
    )


def _gallery(figures: Path, *patterns: str) -> tuple[Part, ...]:
    """Return the figures whose names match."""
    made: list[Part] = []
    for pattern in patterns:
        caption, alt = _FIGURES[pattern.removesuffix("-*")]
        for path in sorted(figures.glob(f"{pattern}.png")):
            made.append(Picture(caption, path, alt))
    return tuple(made)


def _evaluation(results: Results, evaluation: str, figures: Path, found: Path) -> list[Section]:
    """Return the sections of one evaluation set: scores first, then one for each question."""
    table = tables.score_table(results, evaluation)
    planned = results.planned(evaluation)
    interval, *others = (
        _table(
            results.heading(caption),
            tables.wide(table, results, view, planned),
            found / f"scores-{evaluation}",
        )
        for view, caption in tables.VIEWS.items()
    )
    curves = figures / f"noise-curves-{evaluation}.png"
    alt = f"Line plots of J&F on {evaluation} against label noise, a panel per kind of noise."
    drawn = (Picture(_CURVES, curves, alt),) if curves.is_file() else ()
    players = [Player(path) for path in sorted(figures.glob(f"example-{evaluation}-*.json"))]
    return [
        Section(
            f"Scores on {evaluation}",
            (*drawn, interval, _SCORES, *_of(figures, "grid", evaluation), *others),
            anchor=f"scores-{evaluation}",
        ),
        *(
            _comparison(name, comparison, evaluation, figures, found)
            for name, comparison in recalled(found, results, evaluation).items()
            if not comparison.empty
        ),
        Section(
            f"Best and worst videos of {evaluation}",
            (_PLAYERS, *players),
            anchor=f"examples-{evaluation}",
        ),
    ]


def _of(figures: Path, name: str, evaluation: str) -> tuple[Part, ...]:
    """Return the figure of this name of an evaluation set, nothing if it was not drawn."""
    path = figures / f"{name}-{evaluation}.png"
    caption, alt = _FIGURES[name]
    return (Picture(caption, path, alt),) if path.is_file() else ()


def _comparison(
    name: str, comparison: Comparison, evaluation: str, figures: Path, found: Path
) -> Section:
    """Return the section of one question: its figures, then each table with its notes below."""
    parts: list[Part] = []
    if name == "differences":
        parts += _of(figures, "differences", evaluation)
    for view in comparison.views:
        parts += [_table(view.caption, view.table, found / f"{name}-{evaluation}"), *view.notes]
    if name == "differences":
        parts += _of(figures, "videos", evaluation)
    return Section(
        f"{comparison.title} on {evaluation}", tuple(parts), anchor=f"{name}-{evaluation}"
    )
