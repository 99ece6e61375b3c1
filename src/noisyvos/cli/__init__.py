"""The command line: one subcommand a stage. Options only; the work is in `noisyvos.stages`.

Nothing heavy is imported here, so that `noisyvos --help` and the light stages start at once.
"""

import os
import select
import sys
import traceback

from noisyvos.cli import (
    comparing,
    data,
    grids,
    inference,
    outside,
    results,
    runs,
    tracing,
    watching,
)
from noisyvos.cli.app import Failure, app
from noisyvos.errors import ExitCode, explain
from noisyvos.garbage import search_less

__all__ = [
    "app",
    "comparing",
    "data",
    "grids",
    "inference",
    "main",
    "outside",
    "results",
    "runs",
    "tracing",
    "watching",
]


_LONGEST = 1000  # characters of a line of a message


def main() -> None:
    """Run the command line and end the program with a code of `ExitCode`.

    An error of the user or of the operating system becomes one sentence on stderr; the environment
    variable NOISYVOS_DEBUG=1 adds the traceback. A fault of the program keeps its traceback.
    """
    search_less()
    try:
        app()
    except SystemExit as ended:
        code = ended.code
    except Failure as failure:
        code = _report(failure.error)
    else:
        code = ExitCode.DONE
    _leave(code)


def _report(error: BaseException) -> int:
    """Print what went wrong and return the exit code; raise `error` again if it is a fault."""
    if isinstance(error, BrokenPipeError) and _reader_is_gone():
        return ExitCode.BROKEN_PIPE
    sentence = explain(error)
    if sentence is None:
        raise error
    if os.environ.get("NOISYVOS_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error)
    lines = (_shortened(line) for line in sentence.split("\n"))
    print(f"noisyvos: {chr(10).join(lines)}", file=sys.stderr)
    return ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.FAILED


def _shortened(line: str) -> str:
    """Return a line without its middle if it shows a value of thousands of characters."""
    return line if len(line) <= _LONGEST else f"{line[:700]} [...] {line[-250:]}"


def _reader_is_gone() -> bool:
    """Return whether stdout is a pipe that nobody reads."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # replaced by something that is not a file, or closed
        return False
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _leave(code: object) -> None:
    """End the program; under torchrun at once, as its threads can abort a process that ends."""
    try:
        sys.stdout.flush()
    except OSError:  # the reason is on stderr; Python would try again and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if "TORCHELASTIC_RUN_ID" in os.environ and (code is None or isinstance(code, int)):
        sys.stderr.flush()
        os._exit(code or 0)
    sys.exit(code)  # type: ignore[arg-type]
