"""A lease on GPUs: `python -m noisyvos.pipeline.gpu_lease --need N -- command ...`.

Workflow managers count GPUs, but do not say which one is free. The lease waits for N free GPUs and
becomes the command; without a GPU the command just runs. Each GPU of the machine has one lock file.
The command inherits the locks, so that the kernel releases them however the command ends. Where a
scheduler has set CUDA_VISIBLE_DEVICES, only those ids are leased.
"""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

POLL_SECONDS = 1.0


def visible_gpus() -> list[str]:
    """Return the ids of the GPUs this process may use.

    These are the ids in CUDA_VISIBLE_DEVICES if it is set, else all that nvidia-smi lists.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() and name.strip() != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [
        str(index)
        for index, _ in enumerate(
            line for line in listed.stdout.splitlines() if line.startswith("GPU ")
        )
    ]


def try_lease(ids: Sequence[str], need: int, folder: Path) -> tuple[list[str], list[int]] | None:
    """Return `need` free ids and the descriptors of their locks; None if there are too few."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen: list[str] = []
    locks: list[int] = []
    for name in ids:
        lock = os.open(folder / f"{name.replace('/', '_')}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        chosen.append(name)
        locks.append(lock)
        if len(chosen) == need:
            return chosen, locks
    for lock in locks:
        os.close(lock)
    return None


def lease(need: int, folder: Path | None = None, poll: float = POLL_SECONDS) -> list[str]:
    """Wait for `need` GPUs, keep them for the life of this process, and return their ids.

    Without any GPU the answer is empty at once; more than there are is a ValueError.
    """
    ids = visible_gpus()
    if not ids or not need:
        return []
    if need > len(ids):
        raise ValueError(f"{need} GPUs are wanted, this machine has {len(ids)}")
    folder = folder or Path(tempfile.gettempdir()) / f"noisyvos-gpus-{os.getuid()}"
    told = False
    while (found := try_lease(ids, need, folder)) is None:
        if not told:
            print(
                f"noisyvos: waiting for {need} of the GPUs {', '.join(ids)}",
                file=sys.stderr,
                flush=True,
            )
            told = True
        time.sleep(poll)
    chosen, locks = found
    for lock in locks:
        os.set_inheritable(lock, True)
    return chosen


def main() -> None:
    """Lease GPUs and become the command."""
    parser = argparse.ArgumentParser(
        prog="noisyvos.pipeline.gpu_lease", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--need", type=int, default=1)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("a command is needed")
    chosen = lease(options.need)
    if chosen:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(chosen)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
