"""Stage `figures`: scores against noise, training, example videos, label noise and clips."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisyvos.analysis.families import ScoreTables
from noisyvos.analysis.questions.differences import difference_table
from noisyvos.analysis.results import Results, load_results
from noisyvos.analysis.statistics.intervals import INTERVALS, recall
from noisyvos.io.atomic import output_directory, write_json
from noisyvos.params.entries import read_family
from noisyvos.report import figures, pictures, score_figures
from noisyvos.report.players import player

_NAMES = ("*.png", "*.svg", "*.pdf", "*.csv", "*.json")
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
    unfinished: Mapping[str, str] | None = None,
) -> None:
    """Draw the figures of the preset in `cells` into the folder `out`.

    clips: folder of the sets of clips by key; sets that are not on this machine are left out.
    unfinished: as in `Results`.
    """
    loaded = load_results(cells, results, predictions, converted, unfinished)
    recall(out.parent / "tables" / INTERVALS)
    read = (cells, results / "scores", results / "train", predictions, converted, clips)
    with output_directory(out, "figures", inputs=read, names=_NAMES) as folder:
        _draw_training(folder, loaded)
        for evaluation in loaded.evaluations:
            _draw_scores(folder, loaded, evaluation)
            if (converted / evaluation / "meta.json").is_file():
                _draw_examples(folder, loaded, evaluation)
        _draw_noise(folder, loaded, read_family(params, "noise"))
        for key in loaded.cells.get("synth", {}):
            if (clips / key).is_dir():
                figure = pictures.clips_figure(clips / key, loaded.heading(key))
                figures.save(figure, folder / f"clips-{key}.png", _PICTURE_DOTS)
        print(f"{out}: {len(list(folder.glob('*.png')))} figures")


def _draw_training(folder: Path, results: Results) -> None:
    """Draw the figures that need training curves alone."""
    figures.save_drawing(figures.training_curves(results), folder / "training")
    for name, draw in figures.DIAGNOSES.items():
        figure = draw(results)
        if figure is not None:
            figures.save_drawing(figure, folder / name)


def _draw_scores(folder: Path, results: Results, evaluation: str) -> None:
    """Draw the figures that need scores alone."""
    points = score_figures.noise_points(results, evaluation)
    curves = score_figures.noise_curves(results, evaluation, points)
    figures.save_drawing(curves, folder / f"noise-curves-{evaluation}", points)
    heat, means = score_figures.heat_map(results, evaluation)
    figures.save_drawing(heat, folder / f"grid-{evaluation}", means)
    scores = ScoreTables(results, evaluation)
    table = difference_table(scores)
    figure = score_figures.differences(scores, table)
    if figure is not None:
        figures.save_drawing(figure, folder / f"differences-{evaluation}", table)
    videos = score_figures.scatter_points(scores)
    figure = score_figures.scatter(scores, videos)
    if figure is not None:
        figures.save_drawing(figure, folder / f"videos-{evaluation}", videos)


def _draw_examples(folder: Path, results: Results, evaluation: str) -> None:
    """Draw the best and worst videos, and write what the page needs to play them."""
    for label, sequence in pictures.ranked_sequences(results, evaluation).items():
        example = pictures.Example.read(results, evaluation, sequence)
        title = results.heading(example.title(label))
        name = f"example-{evaluation}-{label}"
        write_json(folder / f"{name}.json", player(example, title))
        figure = pictures.sequence_figure(example, title)
        figures.save(figure, folder / f"{name}.png", _PICTURE_DOTS)


def _draw_noise(folder: Path, results: Results, settings: dict[str, dict[str, Any]]) -> None:
    """Draw a sheet of label noise for each training set that is on this machine."""
    shown = {
        name: settings[name]
        for name in results.noises
        if settings[name].get("kind") != "drawn"  # its labels are files
    }
    for dataset in dict.fromkeys(cell["dataset"] for cell in results.train_cells.values()):
        root = results.converted / dataset
        if not (root / "meta.json").is_file():
            continue  # scores may be on another machine than the data
        figure = pictures.noise_figure(root, shown, results.heading(f"Label noise on {dataset}"))
        if figure is not None:
            figures.save(figure, folder / f"label-noise-{dataset}.png", _PICTURE_DOTS)
