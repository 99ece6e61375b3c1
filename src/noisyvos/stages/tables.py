"""Stage `tables`: scores by method and noise as Markdown, LaTeX and CSV, and the sweeps for MLflow."""

from pathlib import Path

import pandas as pd

from noisyvos import tracking
from noisyvos.io.atomic import atomic_directory
from noisyvos.report import tables as build
from noisyvos.report.results import Results, load_results

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
            (folder / f"scores-{evaluation}.md").write_text("\n".join(markdown), encoding="utf-8", newline="\n")
            (folder / f"scores-{evaluation}.tex").write_text("\n".join(latex), encoding="utf-8", newline="\n")
            print(markdown[0])
    if loaded.missing:
        print(f"Missing, shown as such: {', '.join(loaded.missing)}")
    tracking.record_sweeps(loaded.preset["name"], sweep_points(loaded))


def sweep_points(results: Results) -> list[dict]:
    """Return one point a trained cell and sweep; a clean cell opens the sweep of every noise kind it is compared with."""
    points = []
    for evaluation in results.evaluations:
        trained = results.trained(evaluation)
        kinds = [kind for kind in dict.fromkeys(trained["kind"]) if kind != "clean"]
        for key, group in trained.groupby("key", sort=False):
            first = group.iloc[0]
            for kind in kinds if first["kind"] == "clean" else [first["kind"]]:
                name = "|".join([first["method"], kind, first["dataset"], first["model"], f"s{first['seed']}"])
                if len(results.evaluations) > 1:
                    name += f"|{evaluation}"
                points.append(
                    {
                        "cell": results.score_cells[key]["train_key"],
                        "sweep": name,
                        "q": float(
                            first["q_achieved"] if pd.isna(first["q"]) else first["q"]
                        ),  # clean labels and some kinds have no target
                        "jf": float(group["JF"].mean()),
                        "j": float(group["J"].mean()),
                        "f": float(group["F"].mean()),
                        "q_achieved": float(first["q_achieved"]),
                    }
                )
    return points
