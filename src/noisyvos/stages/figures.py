"""Stage `figures`: J&F against achieved noise, training curves and diagnostics, example videos, label noise, clips of pretraining."""

from pathlib import Path

from noisyvos.analysis.results import load_results
from noisyvos.io.atomic import atomic_directory
from noisyvos.params.entries import read_family
from noisyvos.report import curves, diagnosis, examples
from noisyvos.report.clips import clips_figure


def run(
    *,
    cells: Path,
    results: Path,
    predictions: Path,
    converted: Path,
    params: Path,
    clips: Path,
    out: Path,
) -> None:
    """Draw the figures of the preset in `cells` into the folder `out`.

    `clips` holds the sets of clips by key; one that is not there (made elsewhere) has no figure.
    """
    loaded = load_results(cells, results, predictions, converted)
    with atomic_directory(out) as folder:
        curves.save(curves.training_curves(loaded), folder / "training.png")
        for name, draw in diagnosis.FIGURES.items():
            figure = draw(loaded)
            if figure is not None:
                curves.save(figure, folder / f"{name}.png")
        for evaluation in loaded.evaluations:
            curves.save(
                curves.noise_curves(loaded, evaluation), folder / f"noise-curves-{evaluation}.png"
            )
            for label, sequence in examples.ranked_sequences(loaded, evaluation).items():
                title = loaded.heading(f"{label.replace('_', ' ')}: {sequence}")
                figure = examples.sequence_figure(loaded, evaluation, sequence, title)
                curves.save(figure, folder / f"example-{evaluation}-{label}.png", dots=100)
        settings = read_family(params, "noise")
        for dataset in dict.fromkeys(cell["dataset"] for cell in loaded.train_cells.values()):
            shown = {name: settings[name] for name in loaded.noises}
            figure = examples.noise_figure(
                converted / dataset, shown, loaded.heading(f"Label noise on {dataset}")
            )
            if figure is not None:
                curves.save(figure, folder / f"label-noise-{dataset}.png", dots=100)
        for key in loaded.cells.get("synth", {}):
            if (clips / key).is_dir():
                curves.save(
                    clips_figure(clips / key, loaded.heading(key)),
                    folder / f"clips-{key}.png",
                    dots=100,
                )
        print(f"{out}: {len(list(folder.iterdir()))} figures")
