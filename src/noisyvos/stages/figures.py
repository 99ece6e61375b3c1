"""Stage `figures`: scores against noise, training, example videos, label noise and clips."""

from pathlib import Path

from noisyvos.analysis.results import Results, load_results
from noisyvos.analysis.statistics.intervals import INTERVALS, recall
from noisyvos.io.atomic import output_directory
from noisyvos.params.entries import read_family
from noisyvos.report import figures, pictures

_PICTURE_DOTS = 100  # per inch; pictures of frames need fewer than line drawings


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

    clips: folder of the sets of clips by key; sets that are not on this machine are left out.
    """
    loaded = load_results(cells, results, predictions, converted)
    recall(out.parent / "tables" / INTERVALS)
    read = (cells, results / "scores", results / "train", predictions, converted, clips)
    with output_directory(out, "figures", inputs=read, names=("*.png",)) as folder:
        _draw_numbers(folder, loaded)
        for evaluation in loaded.evaluations:
            for label, sequence in pictures.ranked_sequences(loaded, evaluation).items():
                title = loaded.heading(f"{label.replace('_', ' ')}: {sequence}")
                figure = pictures.sequence_figure(loaded, evaluation, sequence, title)
                figures.save(figure, folder / f"example-{evaluation}-{label}.png", _PICTURE_DOTS)
        settings = read_family(params, "noise")
        for dataset in dict.fromkeys(cell["dataset"] for cell in loaded.train_cells.values()):
            shown = {
                name: settings[name]
                for name in loaded.noises
                if settings[name].get("kind") != "drawn"  # its labels are files
            }
            title = loaded.heading(f"Label noise on {dataset}")
            if not (converted / dataset / "meta.json").is_file():
                continue  # scores may be on another machine than the data
            noise = pictures.noise_figure(converted / dataset, shown, title)
            if noise is not None:
                figures.save(noise, folder / f"label-noise-{dataset}.png", _PICTURE_DOTS)
        for key in loaded.cells.get("synth", {}):
            if (clips / key).is_dir():
                figure = pictures.clips_figure(clips / key, loaded.heading(key))
                figures.save(figure, folder / f"clips-{key}.png", _PICTURE_DOTS)
        print(f"{out}: {len(list(folder.iterdir()))} figures")


def _draw_numbers(folder: Path, results: Results) -> None:
    """Draw the figures that need scores and training curves alone."""
    figures.save(figures.training_curves(results), folder / "training.png")
    for name, draw in figures.DIAGNOSES.items():
        figure = draw(results)
        if figure is not None:
            figures.save(figure, folder / f"{name}.png")
    for evaluation in results.evaluations:
        curves = figures.noise_curves(results, evaluation)
        figures.save(curves, folder / f"noise-curves-{evaluation}.png")
