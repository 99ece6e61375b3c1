"""Errors that the user can put right, and one sentence for each error of the operating system."""

import difflib
import errno
import os
import re
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """Every exit code of the command line."""

    DONE = 0
    FAILED = 1  # one sentence on stderr says what is wrong
    USAGE = 2  # unknown command or option
    INTERRUPTED = 130  # Ctrl-C
    BROKEN_PIPE = 141  # whoever read the output closed it, as in `noisyvos plan | head`
    STOPPED = 143  # SIGTERM; a training has written a checkpoint and resumes from it


class UserError(ValueError):
    """An error that the user can put right: the message says what is wrong, where, what to do."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that is not in `known`; it suggests the nearest known name."""
    names = sorted(str(entry) for entry in known)
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UserError(f"Unknown {what} {name!r}.{hint} Known: {', '.join(names) or 'none'}.")


def explain(error: BaseException) -> str | None:
    """Return one sentence or two about `error` for the user; None for a fault of the program."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted."
    if isinstance(error, OSError):
        return _explain_system(error)
    kind = type(error).__name__
    if kind == "OutOfMemoryError":  # of torch, which this module does not import
        return (
            "The GPU ran out of memory. Use a smaller `size` in eval.yaml or `--videos-at-once 1`"
            " for inference, more `parts` in train.yaml for training, or a larger GPU."
        )
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return f"This machine ran out of memory. {_LESS_MEMORY}"
    if kind in ("BrokenProcessPool", "BrokenExecutor"):
        return f"A worker process was killed, most often because memory ran out. {_LESS_MEMORY}"
    return None


_LESS_MEMORY = "Use fewer workers, a smaller batch or smaller frames, and run the command again."
_SYSTEM = {
    errno.ENOENT: "no such file or folder. Check the path.",
    errno.EACCES: "permission denied. Ask for access to it, or choose another path.",
    errno.EPERM: "the system does not permit this. Ask for access to it, or choose another path.",
    errno.EROFS: "this file system is read-only. Choose another path.",
    errno.ENOSPC: "no space is left on this disk. Make room and run the command again.",
    errno.EDQUOT: "your disk quota is used up. Make room and run the command again.",
    errno.EFBIG: "the file is larger than this system permits. Choose another disk.",
    errno.EISDIR: "this is a folder and not a file. Choose another path.",
    errno.ENOTDIR: "a part of this path is a file and not a folder. Choose another path.",
    errno.EEXIST: "this exists already. Move it away, or choose another path.",
    errno.ENOTEMPTY: "this folder is not empty. Move it away, or choose another path.",
    errno.ENAMETOOLONG: "this name is too long for the file system. Choose a shorter one.",
    errno.ELOOP: "the links in this path lead in a circle. Correct them.",
    errno.EMFILE: "too many files are open. Raise the limit (`ulimit -n`) or use fewer workers.",
    errno.ENFILE: "too many files are open on this machine. Close other programs.",
    errno.EIO: "the disk reports an error. Check the disk, then run the command again.",
    errno.ENOMEM: f"this machine ran out of memory. {_LESS_MEMORY}",
    errno.EPIPE: "the process at the other end is gone. Run the command again.",
}
_TEMPORARY = re.compile(r"\.(.+)\.\d+\.(?:tmp|old)")  # as noisyvos.io.atomic names its files


def _explain_system(error: OSError) -> str:
    if error.errno is None:  # raised with a sentence, here or in a library
        return str(error) or type(error).__name__
    said = _SYSTEM.get(error.errno)
    if said is None:
        reason = error.strerror or os.strerror(error.errno)
        said = f"{reason}. Correct this and run the command again."
    names = [_readable(name) for name in (error.filename, error.filename2) if name is not None]
    where = " -> ".join(dict.fromkeys(names)) or "A file or connection"
    return f"{where}: {said}"


def _readable(name: object) -> str:
    """Return a path as the user knows it: without the names of temporary files, and shortened."""
    text = os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else str(name)
    folder, slash, last = text.rpartition("/")
    match = _TEMPORARY.fullmatch(last)
    text = folder + slash + (match[1] if match else last)
    return text if len(text) <= 200 else f"{text[:100]}...{text[-60:]}"
