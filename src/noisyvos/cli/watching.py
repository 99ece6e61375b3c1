"""The command that says how far a preset is."""

from typing import Annotated

import typer

from noisyvos.cli.app import app


@app.command()
def status(
    preset: Annotated[
        str, typer.Option("--preset", help="The preset. Default: that of params/cells.yaml.")
    ] = "",
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again and again until Ctrl-C.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how far a preset is: cells done, running, waiting and failed, GPU leases, disk."""
    from noisyvos.watching import screen

    screen.run(preset=preset, watch=every if watch else 0.0, as_json=as_json)
