"""Names from files and options that become paths: one check for all of them."""

from pathlib import PurePosixPath

from noisyvos.errors import UserError

DEEPEST = 40  # folders in one another
LONGEST = 255  # bytes of one part of a path on the usual file systems


def problem(name: object, folders: bool = True) -> str | None:
    """Return why `name` is not a plain relative path; None if it is one.

    A plain name stays below the folder that it is put in. It may hold spaces, and slashes too
    unless `folders` is False: then it is the name of one file or folder, which is not hidden.
    """
    if not isinstance(name, str):
        return "is not a text"
    parts = name.split("/")
    if not name or name.startswith(("/", "~")) or ".." in name.replace("\\", "/").split("/"):
        return "leads out of its folder" if name else "is empty"
    if name[1:3] in (":\\", ":/") or name.startswith("\\"):
        return "leads out of its folder"
    if not folders and ("/" in name or "\\" in name):
        return "holds a slash"
    if not folders and name.startswith("."):
        return "is hidden"
    if any(0xD800 <= ord(letter) < 0xE000 for letter in name):
        return "is not Unicode text"
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return "holds a control character"
    if not PurePosixPath(name).parts or "." in parts[:-1] or parts[-1] == ".":
        return "is not a name"
    if any(len(part.encode("utf-8", "surrogatepass")) > LONGEST for part in parts):
        return f"is longer than {LONGEST} bytes"
    if len(parts) > DEEPEST:
        return f"is nested more than {DEEPEST} folders deep"
    return None


def plain_name(name: object, where: object, what: str = "name", folders: bool = True) -> str:
    """Return `name` if it is a plain path as `problem` says; else UserError with the file `where`.

    `what` is what the name is of.
    """
    wrong = problem(name, folders)
    if wrong is not None:
        shown = repr(name)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        raise UserError(f"{where}: the {what} {shown} {wrong}. Correct it there.")
    return str(name)
