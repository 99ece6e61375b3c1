"""The one exception that is meant for the user: the command line prints its text and nothing else."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can put right; the message says what is wrong, where, and what to do."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that is not among `known`, with the nearest known name as a suggestion."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UserError(f"Unknown {what} {name!r}.{hint} Known: {', '.join(names) or 'none'}.")
