"""Commands that say where a result comes from, what changed since, and whether it repeats."""

from pathlib import Path
from typing import Annotated

import typer

from noisyvos.cli.app import app

Cell = Annotated[
    str,
    typer.Argument(
        help="A cell's key, a job's name as in DVC, an output or a run's folder.",
        show_default=False,
    ),
]
Preset = Annotated[
    str, typer.Option("--preset", help="Default: the active one, then all that have results.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with every hash and setting.")]


@app.command()
def trace(
    what: Annotated[
        str,
        typer.Argument(
            help="A number of a table such as 62.3, a cell's key, an output or a run's folder."
        ),
    ],
    preset: Preset = "",
    place: Annotated[
        int, typer.Option(min=0, help="Which of several places of a number, from 1.")
    ] = 0,
    mlflow: Annotated[bool, typer.Option("--mlflow/--no-mlflow", help="Look up the run.")] = True,
    as_json: AsJson = False,
) -> None:
    """Show everything that a number or cell was made from, back to the raw files."""
    from noisyvos.tracing import commands

    commands.trace(what, preset=preset, place=place, mlflow=mlflow, as_json=as_json)


@app.command()
def why(cell: Cell, preset: Preset = "", as_json: AsJson = False) -> None:
    """Say what changed since a cell was made: code by module, parameters, data or weights."""
    from noisyvos.tracing import commands

    commands.why(cell, preset=preset, as_json=as_json)


@app.command()
def verify(
    cell: Cell,
    preset: Preset = "",
    chain: Annotated[
        bool,
        typer.Option(
            "--chain", help="Run all that the cell depends on again, from the raw material on."
        ),
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Keep the second run in this new folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a cell again in a clean temporary folder and compare its outputs byte by byte."""
    from noisyvos.tracing import commands

    if not commands.verify(cell, preset=preset, chain=chain, keep=keep, as_json=as_json):
        raise typer.Exit(1)
