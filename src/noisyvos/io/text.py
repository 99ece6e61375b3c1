"""The reader of lists, JSON and CSV files that users, publishers or earlier stages wrote."""

import codecs
import json
import re
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from noisyvos.errors import UserError
from noisyvos.io.files import check_regular
from noisyvos.io.names import plain_name

if TYPE_CHECKING:
    import pandas

AGAIN = "Fetch, copy or export it again."
# the marks of UTF-32 begin like those of UTF-16, so they are tried first
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PICTURE = r"\.(?:jpe?g|png|bmp)"
_PATH = rf"(\S.*?[/\\].*?{_PICTURE})"
_FRAME = re.compile(rf"{_PATH}(?:\s+{_PATH}(?:\s+[\d\s]+)?)?", re.I)  # an image, perhaps its mask


def read_text(path: str | Path) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    The mark is left out and line ends become `\\n`. FileNotFoundError or UserError names a file
    that is missing or is not text.
    """
    check_regular(path)
    data = Path(path).read_bytes()
    encoding = next((name for mark, name in _ENCODINGS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: this is not a text file in UTF-8 (byte {error.start} does not fit). "
            "Save it as UTF-8 in your editor."
        ) from None
    if "\0" in text:
        raise UserError(
            f"{path}: this is not a text file in UTF-8: it holds zero bytes, as UTF-16 without a "
            "byte order mark or a damaged file does. Save it as UTF-8 in your editor."
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: str | Path) -> list[str]:
    """Return the lines of a text file without surrounding white space; blank lines are left out."""
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]


def read_names(path: str | Path) -> list[str]:
    """Return the sequences that a list names, in order and each once; UserError if none is named.

    A line is a name, which may hold spaces and slashes. As in the DAVIS 2016 package, a line may
    instead name an image, or an image and its mask: the folder of the image is then the sequence.
    A name that is listed twice counts once, with a warning.
    """
    names: dict[str, None] = {}
    repeated: dict[str, None] = {}
    for line in read_lines(path):
        name, is_frame = _sequence(line)
        if name in names and not is_frame:
            repeated[name] = None
        names[plain_name(name, path, "sequence")] = None
    if not names:
        raise UserError(
            f"{path}: this list names no sequence. Write one name on each line, or make it again."
        )
    if repeated:
        print(
            f"noisyvos: warning: {path} lists {', '.join(map(repr, repeated))} more than once; "
            "each counts once.",
            file=sys.stderr,
        )
    return list(names)


def _sequence(line: str) -> tuple[str, bool]:
    """Return the sequence that a line of a list names, and whether it names a frame of it."""
    match = _FRAME.fullmatch(line)
    if match is None:
        return line.rstrip("/") or line, False
    return PurePosixPath(match[1].replace("\\", "/")).parent.name, True


def same_name(name: str, present: Iterable[str]) -> str | None:
    """Return the entry of `present` that is `name`, None if there is none.

    Accented letters compare equal in both of their Unicode forms: file systems and editors differ.
    """
    if not isinstance(present, set | frozenset | dict):
        present = list(present)
    if name in present:
        return name
    wanted = unicodedata.normalize("NFC", name)
    return next((other for other in present if unicodedata.normalize("NFC", other) == wanted), None)


def read_json(path: str | Path, again: str = AGAIN) -> Any:
    """Return the content of a JSON file.

    UserError names a file that is empty, cut off or not JSON; `again` tells how to make it again.
    """
    text = read_text(path)
    if not text.strip():
        raise UserError(f"{path}: this JSON file is empty. {again}")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        cut = not text[error.pos :].strip() or error.msg.startswith("Unterminated string")
        problem = (
            f"this JSON file is cut off after {len(text):,} characters"
            if cut
            else f"this file is not valid JSON ({error})"
        )
        raise UserError(f"{path}: {problem}. {again}") from None
    except RecursionError:
        raise UserError(f"{path}: this JSON file is nested too deeply to be one. {again}") from None


def read_table(
    path: str | Path, columns: Iterable[str], again: str = AGAIN, **options: Any
) -> "pandas.DataFrame":
    """Return a CSV file with a header as a table; `options` are those of `pandas.read_csv`.

    UserError names a file that is empty, lacks one of `columns`, has more fields in a row than in
    its header, or ends inside its last row;
    `again` tells how to make it again.
    """
    import io

    import pandas

    text = read_text(path)
    if not text.strip():
        raise UserError(f"{path}: this CSV file is empty. {again}")
    try:
        table = pandas.read_csv(io.StringIO(text), **options)
    except ValueError as error:  # a parser error, a wrong type
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path}: this is not a CSV file of this kind ({reason}). {again}"
        ) from None
    if not isinstance(table.index, pandas.RangeIndex):  # pandas took the first column for names
        raise UserError(f"{path}: a row of this CSV file has more fields than its header. {again}")
    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise UserError(
            f"{path}: this CSV file lacks the column{'s' * (len(absent) > 1)} "
            f"{', '.join(absent)}. {again}"
        )
    if not text.endswith("\n"):
        raise UserError(f"{path}: this CSV file is cut off in its last row. {again}")
    return table
