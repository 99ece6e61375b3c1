"""The command that compares someone's own method with the methods of a preset."""

from pathlib import Path
from typing import Annotated

import typer

from noisyvos.cli.app import app


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def compare(
    context: typer.Context,
    method: Annotated[
        Path, typer.Argument(help="A Python file that registers one method.", show_default=False)
    ],
    preset: Annotated[
        str, typer.Option("--preset", help="The preset. Default: that of params/cells.yaml.")
    ] = "",
) -> None:
    """Train your own method in a preset's conditions and compare it with what is trained.

    Further options go to Snakemake, for example `--cores 8` or `--workflow-profile profiles/slurm`.
    """
    from noisyvos.comparing import compare as module

    module.run(method, preset=preset, options=list(context.args))
