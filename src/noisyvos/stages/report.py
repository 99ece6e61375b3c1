"""Stage `report`: one self-contained HTML page of a preset."""

from pathlib import Path

import pandas as pd

from noisyvos.analysis.results import Results, load_results
from noisyvos.report import tables as build
from noisyvos.report.comparisons import Comparison, comparisons
from noisyvos.report.page import Section, write_page
from noisyvos.stages.tables import VIEWS

TITLES = {
    "tuning": "Tuning",
    "hypotheses": "Pre-registered hypotheses",
    "differences": "Paired differences",
    "sweeps": "Loss under noise",
    "controls": "A/A control",
    "prompts": "Noisy prompts at test time",
    "corruptions": "Corrupted images at test time",
    "realisations": "Label noise or training seed",
}
DIAGNOSES = {
    "memorisation": "What networks predict, while they learn, on pixels whose label is wrong: the wrong label (memorised), the truth "
    "(corrected), or something else. A robust method corrects more than it memorises.",
    "memorisation-directions": "The same by the direction of the error: objects that are called background (as erosion does) and "
    "background that is called object (as dilation does).",
    "hard-pixels": "Share of wrong labels among the pixels with the highest loss, those that mining trains on, and, dashed, among those "
    "that two networks keep for their small losses; dotted, the share among all pixels. Above the dotted line a method picks out wrong "
    "labels, below it avoids them; one that takes all pixels keeps to that line.",
    "teacher": "Overlap of the frozen teacher's masks with clean and with given labels, in methods that have a teacher, and SMART's "
    "sigma, its trust in the given labels. A teacher helps as long as it agrees with the clean labels more.",
}


def run(
    *, cells: Path, results: Path, predictions: Path, converted: Path, figures: Path, out: Path
) -> None:
    """Write the page `out` from the scores, tables and figures of the preset in `cells`."""
    loaded = load_results(cells, results, predictions, converted)
    sections = [
        section
        for evaluation in loaded.evaluations
        for section in _evaluation(loaded, evaluation, figures)
    ]
    sections += [
        Section(
            "Label noise",
            pictures=_pictures(
                figures,
                "label-noise-*.png",
                "What the labels look like in training; validation labels are never touched.",
            ),
        ),
        Section(
            "Clips of pretraining",
            pictures=_pictures(
                figures,
                "clips-*.png",
                "Objects per clip, their area and motion from frame to frame, what pasted objects hide; below, six clips.",
            ),
        ),
        Section(
            "Training",
            pictures=_pictures(
                figures,
                "training.png",
                "Training loss of every method and noise setting, mean over seeds.",
            )
            + tuple(
                picture
                for name, caption in DIAGNOSES.items()
                for picture in _pictures(figures, f"{name}.png", caption)
            ),
        ),
        Section(
            "Every cell",
            (
                "A row a scored cell, with the first digits of the hashes of labels, data, initial weights and code; summary.json has all.",
            ),
            tables=((loaded.heading("Scores as fractions of 1"), build.cell_table(loaded)),),
            folded=True,
        ),
    ]
    write_page(
        out,
        title=f"noisyvos: {loaded.preset.get('title', loaded.preset['name'])}",
        subtitle=f"preset {loaded.preset['name']} · {len(loaded.train_cells)} training cells · {len(loaded.missing)} missing",
        synthetic=bool(loaded.preset.get("synthetic")),
        sections=[section for section in sections if section.tables or section.pictures],
    )
    print(f"{out}: open it in a browser")


def _evaluation(results: Results, evaluation: str, figures: Path) -> list[Section]:
    table = build.score_table(results, evaluation)
    return [
        Section(
            f"Scores on {evaluation}",
            (
                "First mask copied repeats the given mask in every frame; pretrained only had no main training. "
                "A method that stays near the second one was not robust, it hardly learnt.",
                *findings(table),
            ),
            tables=tuple(
                (results.heading(caption), build.wide(table, results, view))
                for view, caption in VIEWS.items()
            ),
            pictures=_pictures(
                figures,
                f"noise-curves-{evaluation}.png",
                "J&F against the noise the labels really had; bands are 95 % over videos.",
            ),
            anchor=f"scores-{evaluation}",
        ),
        *(_comparison(comparison, evaluation) for comparison in comparisons(results, evaluation)),
        Section(
            f"Examples from {evaluation}",
            pictures=_pictures(
                figures,
                f"example-{evaluation}-*.png",
                "Frame, truth and predictions; the videos with the highest and lowest mean J&F.",
            ),
            anchor=f"examples-{evaluation}",
        ),
    ]


def _comparison(comparison: Comparison, evaluation: str) -> Section:
    alone = (
        len(comparison.views) == 1
    )  # explained above its table; several are explained each in its caption
    captions = [
        view.caption if alone else f"{view.caption}. {' '.join(view.notes)}"
        for view in comparison.views
    ]
    return Section(
        f"{TITLES[comparison.name]} on {evaluation}",
        comparison.views[0].notes if alone else (),
        tables=tuple(
            (caption, view.table) for caption, view in zip(captions, comparison.views, strict=True)
        ),
        anchor=f"{comparison.name}-{evaluation}",
    )


def findings(table: pd.DataFrame) -> list[str]:
    """Return plain sentences on what the table shows, the disappointing ones included: they are computed, not chosen."""
    sentences = []
    trained = table[table["noise"] != "-"]
    pretrained = table[table["line"].str.startswith("pretrained only")]
    clean = trained[trained["noise"] == "clean"]
    if len(pretrained) and len(clean):
        gain = 100 * (clean["JF"].mean() - pretrained["JF"].iloc[0])
        sentences.append(
            f"Main training on clean labels changes J&F by {gain:+.1f} points against pretrained only (mean over methods)."
        )
    for noise, group in trained[trained["noise"] != "clean"].groupby("noise", sort=False):
        best, worst = group.loc[group["JF"].idxmax()], group.loc[group["JF"].idxmin()]
        text = f"{noise}: {best['line']} is highest ({100 * best['JF']:.1f}), {worst['line']} lowest ({100 * worst['JF']:.1f})"
        if len(pretrained):
            above = int((group["JF"] > pretrained["JF"].iloc[0]).sum())
            text += f"; {above} of {len(group)} methods end above pretrained only"
        sentences.append(text + ".")
    return [
        *sentences,
        "Intervals of single cells say little about differences: the paired comparison below does.",
    ]


def _pictures(figures: Path, pattern: str, caption: str) -> tuple[tuple[str, Path], ...]:
    return tuple((caption, path) for path in sorted(figures.glob(pattern)))
