"""Commands that turn scores into tables, figures, the report and MLflow runs."""

from pathlib import Path
from typing import Annotated

import typer

from noisyvos.cli.app import Out, Params, app

Preset = Annotated[
    str, typer.Option("--preset", help="The preset. Default: that of params/cells.yaml.")
]
Cells = Annotated[
    Path | None, typer.Option("--cells", help="The generated grid. Default: that of --preset.")
]
Results = Annotated[
    Path, typer.Option("--results", help="Folder of the preset's scores and training summaries.")
]
Predictions = Annotated[
    Path, typer.Option("--predictions", help="Folder of the preset's predicted masks.")
]
Converted = Annotated[Path, typer.Option("--converted", help="Folder of the converted datasets.")]


@app.command()
def tables(
    results: Results,
    predictions: Predictions,
    out: Out,
    preset: Preset = "",
    cells: Cells = None,
    converted: Converted = Path("data/converted"),
) -> None:
    """Write the tables of a preset as Markdown, LaTeX and CSV."""
    from noisyvos.stages import tables as stage

    cells = cells or _grid(preset)
    stage.run(cells=cells, results=results, predictions=predictions, converted=converted, out=out)


@app.command()
def figures(
    results: Results,
    predictions: Predictions,
    out: Out,
    preset: Preset = "",
    cells: Cells = None,
    converted: Converted = Path("data/converted"),
    params: Params = Path("params"),
    clips: Annotated[Path, typer.Option(help="Folder of the sets of still-image clips.")] = Path(
        "data/synth"
    ),
) -> None:
    """Draw noise curves, training curves and example videos of a preset."""
    from noisyvos.stages import figures as stage

    cells = cells or _grid(preset)
    stage.run(
        cells=cells,
        results=results,
        predictions=predictions,
        converted=converted,
        params=params,
        clips=clips,
        out=out,
    )


@app.command()
def report(
    results: Results,
    predictions: Predictions,
    figures: Annotated[Path, typer.Option(help="Folder of the preset's figures.")],
    out: Out,
    preset: Preset = "",
    cells: Cells = None,
    converted: Converted = Path("data/converted"),
) -> None:
    """Write the self-contained report page of a preset."""
    from noisyvos.stages import report as stage

    cells = cells or _grid(preset)
    stage.run(
        cells=cells,
        results=results,
        predictions=predictions,
        converted=converted,
        figures=figures,
        out=out,
    )


@app.command()
def track(
    results: Annotated[
        Path | None, typer.Option(help="Folder of the preset's scores. Default: results/<preset>.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Folder of its masks. Default: runs/<preset>/predictions.")
    ] = None,
    preset: Preset = "",
    cells: Cells = None,
    converted: Converted = Path("data/converted"),
) -> None:
    """Update MLflow from a preset's results; print the URL of the page that overlays all sweeps."""
    from noisyvos.pipeline.cells import read_cells
    from noisyvos.stages import track as stage

    cells = cells or _grid(preset)
    preset = read_cells(cells)["preset"]["name"]
    results, predictions = (
        results or Path("results") / preset,
        predictions or Path("runs") / preset / "predictions",
    )
    stage.run(cells=cells, results=results, predictions=predictions, converted=converted)


def _grid(preset: str) -> Path:
    """Return the file that holds the grid of a preset."""
    from noisyvos.pipeline.cells import cells_file

    return cells_file(Path("params"), preset)
