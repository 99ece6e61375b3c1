"""The command line: one subcommand a stage. Options only; the work is in `noisyvos.stages`.

Nothing heavy is imported here, so that `noisyvos --help` and the light stages start at once.
"""

import os
import sys

from noisyvos.cli import data, grids, outside, results, runs
from noisyvos.cli.app import app
from noisyvos.errors import UserError

__all__ = ["app", "data", "grids", "main", "outside", "results", "runs"]


def main() -> None:
    """Run the command line; an error meant for the user is one sentence on stderr and exit code 1."""
    try:
        app()
    except (UserError, FileNotFoundError) as error:
        print(f"noisyvos: {error}", file=sys.stderr)
        _leave(1)
    except SystemExit as ended:
        _leave(ended.code)


def _leave(code: object) -> None:
    """End the program; at once under torchrun, whose libraries have threads that can abort a process on its way out."""
    if "TORCHELASTIC_RUN_ID" in os.environ and (code is None or isinstance(code, int)):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)
    sys.exit(code)
