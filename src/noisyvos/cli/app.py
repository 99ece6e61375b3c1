"""The command line's program and the options that several commands share."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from noisyvos.errors import UserError, explain
from noisyvos.limits import MOST_WORKERS

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


OUTPUTS = frozenset(
    ("out", "inventory", "manifest", "summary", "curve", "movie", "viz", "profile", "destination")
)
_FILES = frozenset(("--summary", "--curve", "--weights", "--manifest", "--inventory", "--movie"))
_TRAINED = frozenset(("pretrain", "train"))  # their option --weights is an output
# the command adds to what --out and --scratch name, or only looks at it
_SHARED = frozenset(("scratch", "archives", "params", "expect", "converted"))


def check_outputs(command: str, values: Mapping[str, Any], opts: Mapping[str, str]) -> None:
    """Raise UserError if an output of a command is one of its inputs, or two outputs are one.

    values: what the options were given; opts: how each option is written. Only files and folders
    that exist can be lost, and only an input that is the output itself, or inside of it, is.
    """
    outputs = {name for name in values if name in OUTPUTS}
    outputs |= (
        {"weights", "save_probabilities"}
        & values.keys()
        & ({"weights"} if command in _TRAINED else {"save_probabilities"})
    )
    written: dict[str, str] = {}
    for name in sorted(outputs):
        if values[name] is None:
            continue
        if not str(values[name]).strip() or "\0" in str(values[name]):
            raise UserError(f"{opts[name]}: a path is needed here.")
        place = os.path.realpath(values[name])
        if place in written:
            raise UserError(f"{opts[name]} and {written[place]} name the same: {values[name]}.")
        written[place] = opts[name]
    for place, option in written.items():
        inside = next((each for each in written if each.startswith(f"{place}{os.sep}")), None)
        if inside is not None and option in _FILES:
            raise UserError(f"{option} is a file, and {written[inside]} would be inside of it.")
    for name, value in values.items():
        if name in outputs or name in _SHARED:
            continue
        for given in value if isinstance(value, list | tuple) else (value,):
            place = os.path.realpath(given) if isinstance(given, Path | str) and given else ""
            if place in written and os.path.lexists(place):
                raise UserError(
                    f"{given}: {written[place]} would replace this input ({opts[name]}). "
                    "Name another output."
                )


class Command(TyperCommand):
    """A command that takes no empty path, and whose outputs are none of its inputs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; UserError for an empty path, which Python would take for the current folder."""
        raw = list(args)
        rest = super().parse_args(ctx, args)
        here = any(word.rpartition("=")[2] in (".", "./") for word in raw)
        for param in self.params:
            given = ctx.get_parameter_source(param.name)
            value = ctx.params.get(param.name)
            values = value if isinstance(value, list | tuple) else (value,)
            if given is not None and given.name == "COMMANDLINE" and not here and Path() in values:
                raise UserError(f"{param.opts[0]}: a path is needed here.")
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Check the paths, then run."""
        opts = {each.name: each.opts[0] for each in self.params if each.name}
        check_outputs(str(ctx.info_name), ctx.params, opts)
        return super().invoke(ctx)


class Program(typer.Typer):
    """A program whose commands are of the class `Command`."""

    def command(self, name: str | None = None, **options: Any) -> Any:
        """Return what registers a function as a command."""
        return super().command(name, cls=Command, **options)


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


app = Program(
    name="noisyvos",
    cls=PipelineOrder,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Experiments on video object segmentation with noisy labels.",
)
convert_app = Program(
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
        max=MOST_WORKERS,
        envvar="NOISYVOS_WORKERS",
        help="Processes; never changes a byte of the output.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0)]
