"""Stage `figures`: scores against noise, training, example videos, label noise and clips."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from noisyvos.analysis.families import ScoreTables
from noisyvos.analysis.questions.differences import difference_table
from noisyvos.analysis.results import Results, load_results
from noisyvos.analysis.statistics.intervals import INTERVALS, recall
from noisyvos.io.atomic import output_directory, write_json
from noisyvos.parallel import ordered_map
from noisyvos.params.entries import read_family
from noisyvos.report import figures, pictures, score_figures
from noisyvos.report.players import player

_NAMES = ("*.png", "*.svg", "*.pdf", "*.csv", "*.json")
_PICTURE_DOTS = 100  # per inch; pictures of frames need fewer than line drawings
# Draws the files of one task into a folder. The results are those that `run` loaded.
Draw = Callable[[Path, Results], None]
_loaded: list[Results] = []  # what every process draws from


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
    workers: int = 1,
) -> None:
    """Draw the figures of the preset in `cells` into the folder `out`.

    clips: folder of the sets of clips by key; sets that are not on this machine are left out.
    unfinished: as in `Results`. workers: processes that draw.
    """
    loaded = load_results(cells, results, predictions, converted, unfinished)
    read = (cells, results / "scores", results / "train", predictions, converted, clips)
    with output_directory(out, "figures", inputs=read, names=_NAMES) as folder:
        tasks = list(_tasks(loaded, params, clips))
        known = out.parent / "tables" / INTERVALS
        given = (loaded, known)
        for _ in ordered_map(partial(_draw, folder), tasks, workers, "figures", _take, given):
            pass
        print(f"{out}: {len(list(folder.glob('*.png')))} figures")


def _take(loaded: Results, known: Path) -> None:
    """Give a process what it draws from."""
    _loaded[:] = [loaded]
    recall(known)


def _draw(folder: Path, task: Draw) -> None:
    task(folder, _loaded[0])


def _tasks(results: Results, params: Path, clips: Path) -> Iterator[Draw]:
    """Yield what is to be drawn, in the order of the time that it takes: the longest first."""
    yield partial(_draw_noise, params=params)
    for key in results.cells.get("synth", {}):
        if (clips / key).is_dir():
            yield partial(_draw_clips, clips=clips, key=key)
    for evaluation in results.evaluations:
        if (results.converted / evaluation / "meta.json").is_file():
            for label, sequence in pictures.ranked_sequences(results, evaluation).items():
                yield partial(_draw_example, evaluation=evaluation, label=label, sequence=sequence)
        for draw in (_draw_curves, _draw_heat_map, _draw_differences, _draw_videos):
            yield partial(draw, evaluation=evaluation)
    yield _draw_training
    for name in figures.DIAGNOSES:
        yield partial(_draw_diagnosis, name=name)


def _draw_training(folder: Path, results: Results) -> None:
    figures.save_drawing(figures.training_curves(results), folder / "training")


def _draw_diagnosis(folder: Path, results: Results, name: str) -> None:
    figure = figures.DIAGNOSES[name](results)
    if figure is not None:
        figures.save_drawing(figure, folder / name)


def _draw_curves(folder: Path, results: Results, evaluation: str) -> None:
    points = score_figures.noise_points(results, evaluation)
    curves = score_figures.noise_curves(results, evaluation, points)
    figures.save_drawing(curves, folder / f"noise-curves-{evaluation}", points)


def _draw_heat_map(folder: Path, results: Results, evaluation: str) -> None:
    heat, means = score_figures.heat_map(results, evaluation)
    figures.save_drawing(heat, folder / f"grid-{evaluation}", means)


def _draw_differences(folder: Path, results: Results, evaluation: str) -> None:
    scores = ScoreTables(results, evaluation)
    table = difference_table(scores)
    figure = score_figures.differences(scores, table)
    if figure is not None:
        figures.save_drawing(figure, folder / f"differences-{evaluation}", table)


def _draw_videos(folder: Path, results: Results, evaluation: str) -> None:
    scores = ScoreTables(results, evaluation)
    videos = score_figures.scatter_points(scores)
    figure = score_figures.scatter(scores, videos)
    if figure is not None:
        figures.save_drawing(figure, folder / f"videos-{evaluation}", videos)


def _draw_example(
    folder: Path, results: Results, evaluation: str, label: str, sequence: str
) -> None:
    """Draw one of the best or worst videos, and write what the page needs to play it."""
    example = pictures.Example.read(results, evaluation, sequence)
    title = results.heading(example.title(label))
    name = f"example-{evaluation}-{label}"
    write_json(folder / f"{name}.json", player(example, title))
    figure = pictures.sequence_figure(example, title)
    figures.save(figure, folder / f"{name}.png", _PICTURE_DOTS)


def _draw_clips(folder: Path, results: Results, clips: Path, key: str) -> None:
    figure = pictures.clips_figure(clips / key, results.heading(key))
    figures.save(figure, folder / f"clips-{key}.png", _PICTURE_DOTS)


def _draw_noise(folder: Path, results: Results, params: Path) -> None:
    """Draw a sheet of label noise for each training set that is on this machine."""
    settings = read_family(params, "noise")
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
