"""The sections of a preset's report page: what it shows and says, in which order."""

from pathlib import Path

import pandas as pd

from noisyvos.analysis.absent import reasons, summary
from noisyvos.analysis.comparison import Comparison, comparisons
from noisyvos.analysis.results import Results
from noisyvos.report import tables
from noisyvos.report.page import Section

_SCORES = (
    "Every score table includes two baselines: first mask copied repeats the given mask in every "
    "frame; pretrained only has no main training. A method that stays near the second one is not "
    "robust: it hardly learned."
)
_PICTURES = {
    "label-noise-*": "Labels as training sees them; validation labels stay clean.",
    "clips-*": "Objects per clip, their area, their motion between frames, and how much pasted "
    "objects hide; below, six clips.",
    "training": "Training loss of every method and noise setting, mean over seeds.",
    "memorisation": "Predictions, during training, on wrongly labelled pixels: the wrong label "
    "(memorised), the truth (corrected), or something else. A robust method corrects more than it "
    "memorises.",
    "memorisation-directions": "The same by the direction of the error: objects labelled "
    "background (as by erosion) and background labelled object (as by dilation).",
    "hard-pixels": "Share of wrong labels among the pixels with the highest loss, which mining "
    "trains on (solid), among those that two networks keep for their small losses (dashed), and "
    "among all pixels (dotted). Above the dotted line a method selects wrong labels, below it "
    "avoids them. A method that trains on all pixels follows the dotted line.",
    "teacher": "Overlap of the frozen teacher's masks with clean and with given labels, in "
    "methods with a teacher, and SMART's sigma, its trust in the given labels. A teacher helps "
    "while it agrees more with the clean labels.",
}
_TRAINING = ("training", "memorisation", "memorisation-directions", "hard-pixels", "teacher")


def sections(results: Results, figures: Path, logs: Path = Path("logs")) -> list[Section]:
    """Return the sections of the page; those without tables and pictures are left out.

    logs: folder of the jobs' logs, which tell why cells are missing.
    """
    made = [
        section
        for evaluation in results.evaluations
        for section in _evaluation(results, evaluation, figures)
    ]
    made += [
        _gallery("Label noise", figures, "label-noise-*"),
        _gallery("Clips of pretraining", figures, "clips-*"),
        _gallery("Training", figures, *_TRAINING),
        *_missing(results, logs),
    ]
    if not results.any_scored:
        return [section for section in made if section.tables or section.pictures]
    made += [
        Section(
            "Every cell",
            (
                "A row per scored cell, with the first digits of the hashes of labels, data, "
                "initial weights and code; summary.json has the full hashes.",
            ),
            tables=((results.heading("Scores as fractions of 1"), tables.cell_table(results)),),
            folded=True,
        ),
    ]
    return [section for section in made if section.tables or section.pictures]


def _missing(results: Results, logs: Path) -> list[Section]:
    """Return the section of cells without scores; none where all are scored."""
    if not results.missing:
        return []
    cells = len(results.score_cells) + len(results.disturbed_cells)
    return [
        Section(
            "Missing cells",
            (
                f"{len(results.missing)} of {cells} cells have no scores. Each counts under the "
                "first job of its chain that is not done. missing.csv among the tables lists all.",
            ),
            tables=(("Missing cells by reason", summary(reasons(results, logs))),),
        )
    ]


def _gallery(title: str, figures: Path, *patterns: str) -> Section:
    """Return a section of the figures whose names match."""
    found = [
        picture
        for pattern in patterns
        for picture in _pictures(figures, f"{pattern}.png", _PICTURES[pattern])
    ]
    return Section(title, pictures=tuple(found))


def _evaluation(results: Results, evaluation: str, figures: Path) -> list[Section]:
    table = tables.score_table(results, evaluation)
    curves = "J&F against the achieved label noise; bands are 95 % intervals over videos."
    examples = "Frame, truth and predictions of the videos with the highest and lowest mean J&F."
    return [
        Section(
            f"Scores on {evaluation}",
            (_SCORES, *findings(table)),
            tables=tuple(
                (results.heading(caption), tables.wide(table, results, view))
                for view, caption in tables.VIEWS.items()
            ),
            pictures=_pictures(figures, f"noise-curves-{evaluation}.png", curves),
            anchor=f"scores-{evaluation}",
        ),
        *(
            _comparison(name, comparison, evaluation)
            for name, comparison in comparisons(results, evaluation).items()
        ),
        Section(
            f"Examples from {evaluation}",
            pictures=_pictures(figures, f"example-{evaluation}-*.png", examples),
            anchor=f"examples-{evaluation}",
        ),
    ]


def _comparison(name: str, comparison: Comparison, evaluation: str) -> Section:
    """Return the section of one question; notes on several tables go into their captions."""
    alone = len(comparison.views) == 1
    captions = [
        view.caption if alone else f"{view.caption}. {' '.join(view.notes)}"
        for view in comparison.views
    ]
    return Section(
        f"{comparison.title} on {evaluation}",
        comparison.views[0].notes if alone else (),
        tables=tuple(
            (caption, view.table) for caption, view in zip(captions, comparison.views, strict=True)
        ),
        anchor=f"{name}-{evaluation}",
    )


def findings(table: pd.DataFrame) -> list[str]:
    """Return sentences on a score table, computed from it by fixed rules."""
    sentences = []
    trained = table[table["noise"] != "-"]
    pretrained = table[table["line"].str.startswith("pretrained only")]
    clean = trained[trained["noise"] == "clean"]
    if len(pretrained) and len(clean):
        gain = 100 * (clean["JF"].mean() - pretrained["JF"].iloc[0])
        sentences.append(
            f"Main training on clean labels changes J&F by {gain:+.1f} points against pretrained "
            "only (mean over methods)."
        )
    for noise, group in trained[trained["noise"] != "clean"].groupby("noise", sort=False):
        ordered = group.sort_values("JF", ascending=False, kind="stable").to_dict("records")
        best, worst = ordered[0], ordered[-1]
        text = (
            f"{noise}: {best['line']} is highest ({100 * best['JF']:.1f}), "
            f"{worst['line']} lowest ({100 * worst['JF']:.1f})"
        )
        if len(pretrained):
            above = int((group["JF"] > pretrained["JF"].iloc[0]).sum())
            text += f"; {above} of {len(group)} methods end above pretrained only"
        sentences.append(text + ".")
    return [
        *sentences,
        "To judge differences, use the paired comparison below, not the intervals of single cells.",
    ]


def _pictures(figures: Path, pattern: str, caption: str) -> tuple[tuple[str, Path], ...]:
    return tuple((caption, path) for path in sorted(figures.glob(pattern)))
