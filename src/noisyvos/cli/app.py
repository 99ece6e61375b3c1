"""The command line's program and the options that several commands share."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from noisyvos.errors import explain

COMMANDS = (  # in the order of the pipeline, then what goes around it
    "generate",
    "download",
    "point",
    "convert",
    "check",
    "describe",
    "synth",
    "noise",
    "noise-preview",
    "start",
    "pretrain",
    "train",
    "infer",
    "score",
    "submit",
    "tables",
    "figures",
    "report",
    "grid",
    "code",
    "plan",
    "measure",
    "check-params",
    "schema",
    "status",
    "trace",
    "why",
    "verify",
    "compare",
    "record",
    "adopt",
    "track",
    "segment",
    "merge",
    "spread",
    "check-submission",
    "start-weights",
)


class Failure(Exception):
    """Carries an error to `main`, past typer, which would word some of them in its own way."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        error.filename = "standard output"
        raise


class PipelineOrder(TyperGroup):
    """Lists the commands in the order of COMMANDS, others after them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        place = {name: index for index, name in enumerate(COMMANDS)}
        return sorted(super().list_commands(ctx), key=lambda name: place.get(name, len(place)))

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a Failure carries every error that `explain` has a sentence for."""
        try:
            result = super().invoke(ctx)
            _flush()  # a full disk shows here and not when Python ends
        except (Exception, KeyboardInterrupt) as error:
            if explain(error) is None:  # a fault of the program, or typer's own
                raise
            raise Failure(error) from error
        return result


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
