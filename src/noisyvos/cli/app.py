"""The command line's program and the options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

COMMANDS = (  # in the order of the pipeline, then what goes around it
    *(
        "generate",
        "download",
        "point",
        "convert",
        "check",
        "describe",
        "synth",
        "noise",
        "noise-preview",
        "pretrain",
        "train",
        "infer",
    ),
    *(
        "score",
        "tables",
        "figures",
        "report",
        "grid",
        "plan",
        "measure",
        "check-params",
        "record",
        "adopt",
        "track",
    ),
    *("segment", "check-submission", "start-weights"),
)


class PipelineOrder(TyperGroup):
    """Lists the commands in the order of COMMANDS, others after them."""

    def list_commands(self, ctx: object) -> list[str]:
        """Return the names of all commands."""
        place = {name: index for index, name in enumerate(COMMANDS)}
        return sorted(super().list_commands(ctx), key=lambda name: place.get(name, len(place)))


app = typer.Typer(
    name="noisyvos",
    cls=PipelineOrder,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Experiments on video object segmentation with noisy labels.",
)
convert_app = typer.Typer(
    no_args_is_help=True, help="Bring raw data into the one layout that all stages read."
)
app.add_typer(convert_app, name="convert")

Out = Annotated[Path, typer.Option("--out", help="Where to write; replaced only when complete.")]
Params = Annotated[Path, typer.Option("--params", help="Folder of the parameter files.")]
Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        min=1,
        envvar="NOISYVOS_WORKERS",
        help="Processes; never changes a byte of the output.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0)]
