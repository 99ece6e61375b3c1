"""The reader of lists and JSON files that users or publishers wrote."""

import json
from pathlib import Path
from typing import Any

from noisyvos.errors import UserError


def read_text(path: str | Path) -> str:
    """Return the text of a UTF-8 file; FileNotFoundError or UserError names the file."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file.") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(f"{path}: this is not a text file in UTF-8 ({error}).") from None


def read_lines(path: str | Path) -> list[str]:
    """Return the lines of a text file without surrounding white space; blank lines are left out."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file; UserError names a file that is not valid JSON."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: this file is not valid JSON ({error}).") from None
