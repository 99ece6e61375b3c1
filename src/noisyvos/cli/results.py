"""Commands that turn scores into tables, figures, the report and MLflow runs."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from noisyvos.cli.app import Out, Params, Workers, app
from noisyvos.errors import UserError

Preset = Annotated[
    str, typer.Option("--preset", help="The preset. Default: that of params/cells.yaml.")
]
Cells = Annotated[
    Path | None, typer.Option("--cells", help="The generated grid. Default: that of --preset.")
]
Results = Annotated[
    Path | None,
    typer.Option(
        "--results",
        help="Folder of the preset's scores and training summaries. Default: results/<preset>.",
    ),
]
Predictions = Annotated[
    Path | None,
    typer.Option(
        "--predictions",
        help="Folder of the preset's predicted masks; only their names are looked at. Default: "
        "runs/<preset>/predictions.",
    ),
]
Converted = Annotated[Path, typer.Option("--converted", help="Folder of the converted datasets.")]
Logs = Annotated[
    Path, typer.Option("--logs", help="Folder of the logs, which tell why a cell is missing.")
]
Clips = Annotated[Path, typer.Option(help="Folder of the sets of still-image clips.")]
SYNTH = Path("data/synth")


@app.command()
def tables(
    out: Out,
    results: Results = None,
    predictions: Predictions = None,
    preset: Preset = "",
    cells: Cells = None,
    converted: Converted = Path("data/converted"),
    logs: Logs = Path("logs"),
) -> None:
    """Write the tables of a preset as Markdown, LaTeX and CSV."""
    from noisyvos.stages import tables as stage

    _say_if_old(f"tables of {out}", preset, cells, results)
    stage.run(**_places(preset, cells, results, predictions, converted), out=out, logs=logs)


@app.command()
def figures(
    out: Out,
    results: Results = None,
    predictions: Predictions = None,
    preset: Preset = "",
    cells: Cells = None,
    converted: Converted = Path("data/converted"),
    params: Params = Path("params"),
    clips: Clips = SYNTH,
    workers: Workers = 1,
) -> None:
    """Draw noise curves, training curves and example videos of a preset."""
    from noisyvos.stages import figures as stage

    _say_if_old(f"figures of {out}", preset, cells, results)
    places = _places(preset, cells, results, predictions, converted)
    stage.run(**places, params=params, clips=clips, out=out, workers=workers)


@app.command()
def report(
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The page. Default: results/<preset>/so_far/report.html."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder of the preset's figures; goes with --out.")
    ] = None,
    results: Results = None,
    predictions: Predictions = None,
    preset: Preset = "",
    cells: Cells = None,
    converted: Converted = Path("data/converted"),
    params: Params = Path("params"),
    clips: Clips = SYNTH,
    logs: Logs = Path("logs"),
    unfinished: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of jobs that a run did not get done, with the failed job that each "
            "waits for. What they made earlier counts as missing. The Snakefile writes it."
        ),
    ] = None,
) -> None:
    """Write the self-contained report page of a preset.

    Without --out it can be run at any time, also while a run goes on: tables, figures and page of
    what is scored so far go to results/<preset>/so_far. Missing cells are listed with the reason;
    scores that a run is about to make again count as missing.
    """
    from noisyvos.pipeline.failures import interrupted_jobs, read_unfinished
    from noisyvos.stages import report as stage

    places = _places(preset, cells, results, predictions, converted)
    if unfinished is not None:
        places["unfinished"] = read_unfinished(unfinished)
    elif out is not None:
        _say_if_old(f"numbers of {out}", preset, cells, results)
    elif _by_hand(cells, results):
        from noisyvos.pipeline.dvc_yaml import load

        places["unfinished"] = interrupted_jobs(load(preset=preset))
    if (out is None) != (figures is None):
        raise UserError("--figures and --out go together. Without both, all is made anew.")
    if out is None or figures is None:
        from noisyvos.stages import figures as of_figures
        from noisyvos.stages import tables as of_tables

        so_far = places["results"] / "so_far"
        figures, out = so_far / "figures", so_far / "report.html"
        of_tables.run(**places, out=so_far / "tables", logs=logs, track=False)
        of_figures.run(**places, params=params, clips=clips, out=figures)
    stage.run(**places, figures=figures, out=out, logs=logs)


@app.command()
def track(
    results: Results = None,
    predictions: Predictions = None,
    preset: Preset = "",
    cells: Cells = None,
    converted: Converted = Path("data/converted"),
) -> None:
    """Update MLflow from a preset's results; print the URL of the page that overlays all sweeps."""
    from noisyvos.stages import track as stage

    stage.run(**_places(preset, cells, results, predictions, converted))


def _by_hand(cells: Path | None, results: Path | None) -> bool:
    """Return whether a user asks for a preset of this repository; dvc.yaml names --results."""
    return cells is None and results is None and Path("dvc.yaml").is_file()


def _say_if_old(what: str, preset: str, cells: Path | None, results: Path | None) -> None:
    """Say on stderr that `what` is made of scores that are out of date.

    Snakemake and DVC have made the scores again before their own commands run.
    """
    if _by_hand(cells, results):
        from noisyvos.pipeline.cells import active_preset
        from noisyvos.pipeline.dvc_yaml import load
        from noisyvos.watching.status import of_old_scores

        with suppress(UserError):  # of a grid that edits have broken: nothing to compare with
            said = of_old_scores(load(preset=preset or active_preset(Path("params"))), what)
            if said:
                print(f"noisyvos: {said}", file=sys.stderr)


def _places(
    preset: str,
    cells: Path | None,
    results: Path | None,
    predictions: Path | None,
    converted: Path,
) -> dict[str, Any]:
    """Return the grid of a preset and the folders that its stages read, with their defaults."""
    from noisyvos.pipeline.cells import active_preset, cells_file, read_cells

    if cells is not None:
        name = str(read_cells(cells)["preset"]["name"])
    else:
        name = preset or active_preset(Path("params"))
        cells = cells_file(Path("params"), name)
    return {
        "cells": cells,
        "results": results or Path("results") / name,
        "predictions": predictions or Path("runs") / name / "predictions",
        "converted": converted,
    }
