"""Stage `tables`: scores, paired differences and sweeps as Markdown, LaTeX and CSV, and the sweeps for MLflow."""

from pathlib import Path

from noisyvos.analysis.results import load_results
from noisyvos.io.atomic import atomic_directory
from noisyvos.report import tables as build
from noisyvos.report.comparisons import Comparison, comparisons
from noisyvos.stages import track

VIEWS = {
    "interval": "J&F in percent with its 95 % interval over videos (BCa bootstrap, seeds averaged)",
    "seeds": "J&F in percent, mean and standard deviation over training seeds",
    "area": "Median ratio of predicted to true object area; 1 is unbiased, above 1 the network learnt to draw too large",
}


def run(*, cells: Path, results: Path, predictions: Path, converted: Path, out: Path) -> None:
    """Write the tables of the preset in `cells` to the folder `out`."""
    loaded = load_results(cells, results, predictions, converted)
    with atomic_directory(out) as folder:
        build.cell_table(loaded).to_csv(folder / "cells.csv", index=False, lineterminator="\n")
        for evaluation in loaded.evaluations:
            table = build.score_table(loaded, evaluation)
            table.to_csv(folder / f"scores-{evaluation}.csv", index=False, lineterminator="\n")
            markdown, latex = [], []
            for view, caption in VIEWS.items():
                caption = loaded.heading(f"{evaluation}: {caption}")
                wide = build.wide(table, loaded, view)
                markdown.append(build.to_markdown(wide, caption))
                latex.append(build.to_latex(wide, caption, f"tab:{evaluation}-{view}"))
            (folder / f"scores-{evaluation}.md").write_text(
                "\n".join(markdown), encoding="utf-8", newline="\n"
            )
            (folder / f"scores-{evaluation}.tex").write_text(
                "\n".join(latex), encoding="utf-8", newline="\n"
            )
            print(markdown[0])
            for comparison in comparisons(loaded, evaluation):
                _write(folder, f"{comparison.name}-{evaluation}", comparison)
    if loaded.missing:
        print(f"Missing, shown as such: {', '.join(loaded.missing)}")
    track.record(loaded)


def _write(folder: Path, stem: str, comparison: Comparison) -> None:
    """Write one comparison as CSV (all numbers), Markdown and LaTeX (what people read)."""
    comparison.numbers.to_csv(folder / f"{stem}.csv", index=False, lineterminator="\n")
    markdown = [
        build.to_markdown(view.table, view.caption)
        + "\n"
        + "\n".join(f"{note}\n" for note in view.notes)
        for view in comparison.views
    ]
    latex = [
        build.to_latex(view.table, view.caption, f"tab:{stem}-{number}")
        for number, view in enumerate(comparison.views, start=1)
    ]
    (folder / f"{stem}.md").write_text("\n".join(markdown), encoding="utf-8", newline="\n")
    (folder / f"{stem}.tex").write_text("\n".join(latex), encoding="utf-8", newline="\n")
