"""Runs command lines in forked processes, and judges how each ended.

The process that forks has imported everything, so that a command costs little more than its work.
"""

import hashlib
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOST_MEMORY = 6 * 2**30  # bytes of a command; torch and its libraries take one
LONGEST = 2000  # characters of what a command says
_GOOD = {0, 1, 2}


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (None: it was killed at its limit) and what it said."""

    code: int | None
    said: str
    seconds: float

    def fault(self) -> str | None:
        """Return what is wrong with this end; None if it worked or was refused in a sentence."""
        if self.code is None:
            return "hangs"
        if "Traceback (most recent call last)" in self.said or "[Errno" in self.said:
            return "traceback"
        if self.code < 0:
            return f"signal {-self.code}"
        if self.code not in _GOOD:
            return f"exit code {self.code}"
        if self.code == 1 and not self.said.strip():
            return "says nothing"
        if self.code == 1 and len(self.said) > LONGEST:
            return "says too much"
        return None


def import_all() -> None:
    """Import what commands import, and keep libraries to one thread."""
    os.environ.update(OMP_NUM_THREADS="1", NOISYVOS_TRACKING="off", CUDA_VISIBLE_DEVICES="")
    import importlib
    import pkgutil

    import cv2
    import torch

    import noisyvos
    from noisyvos.pipeline.catalog import FAMILIES

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(noisyvos.__path__, "noisyvos."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for family in FAMILIES.values():
        family.load()


def _be(words: list[str], folder: Path, said: Path) -> None:
    """Be the command; never returns."""
    number = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(number, 1)
    os.dup2(number, 2)
    os.setsid()
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.argv = ["noisyvos", *words]
    code = 70
    try:
        from noisyvos.cli import main

        try:
            main()
            code = 0
        except SystemExit as ended:
            value = ended.code
            code = value if isinstance(value, int) else 0 if value is None else 1
            if isinstance(value, str):
                print(value, file=sys.stderr)
        except BaseException:
            import traceback

            traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def run_apart(words: list[str], folder: Path, limit: float) -> Ended:
    """Run a command as people do, in a new Python; as `run`."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "noisyvos", *words],
            cwd=folder,
            timeout=limit,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Ended(None, "", limit)
    text = done.stdout.decode("utf-8", "replace")
    text = "\n".join(line.rpartition("\r")[2] for line in text.splitlines())
    return Ended(done.returncode, text, time.monotonic() - began)


def run(words: list[str], folder: Path, limit: float) -> Ended:
    """Run a command in `folder` and return how it ended; it is killed after `limit` seconds."""
    said = folder.parent / f"{folder.name}.said"
    said.unlink(missing_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    began = time.monotonic()
    child = os.fork()
    if not child:
        _be(words, folder, said)
    code: int | None = None
    pause = 0.002
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() - began > limit:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(pause)
        pause = min(0.05, pause * 1.3)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # workers that it left
    text = said.read_bytes().decode("utf-8", "replace") if said.exists() else ""
    said.unlink(missing_ok=True)
    # progress bars and warnings come before the sentence
    text = "\n".join(line.rpartition("\r")[2] for line in text.splitlines())
    return Ended(code, text, time.monotonic() - began)


def state(root: Path) -> dict[str, str]:
    """Return what every file, link and folder below `root` holds."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            how = os.lstat(path)
            if stat.S_ISLNK(how.st_mode):
                found[os.path.relpath(path, root)] = f"link {os.readlink(path)}"
            elif stat.S_ISREG(how.st_mode):
                with open(path, "rb") as file:
                    found[os.path.relpath(path, root)] = hashlib.file_digest(
                        file, "sha256"
                    ).hexdigest()
            else:
                found[os.path.relpath(path, root)] = str(stat.S_IFMT(how.st_mode))
    return found


_HIDDEN = re.compile(r"(^|/)\.[^/]+\.(tmp|old|unpacking[^/]*)$")


def changes(
    before: dict[str, str], after: dict[str, str], allowed: tuple[str, ...], named: tuple[str, ...]
) -> list[str]:
    """Return what existed and is gone or another one, and what a command left behind.

    It may leave things below `out`, `scratch` and the paths that its words name, if they are new.
    """
    lost = [
        f"lost {name}"
        for name, what in before.items()
        if after.get(name) != what and not name.startswith("scratch/")
    ]
    new = [name for name in after if name not in before]
    places = ("out", "scratch", ".noisyvos", *(name.split("/")[0] for name in named))
    stray = [f"left {name}" for name in new if not name.startswith(places)]
    stray += [f"left {name}" for name in new if _HIDDEN.search(name)]
    return sorted(
        each for each in {*lost, *stray} if not each.split(" ", 1)[1].startswith(allowed or "\0")
    )
