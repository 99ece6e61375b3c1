"""A lease on GPUs: `python -m noisyvos.pipeline.gpu_lease --need N -- command ...`.

Workflow managers count GPUs, but do not say which one is free. The lease waits for N free GPUs and
becomes the command; without a GPU the command just runs. Each GPU of the machine has one lock file.
The command inherits the locks, so that the kernel releases them however the command ends. Where a
scheduler has set CUDA_VISIBLE_DEVICES, only those ids are leased. In a job of SLURM or Kubernetes
that needs all its GPUs nothing is leased, because the scheduler has chosen them. `--need 0` hides
all GPUs from the command.
"""

import argparse
import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from noisyvos.errors import ExitCode, UserError, explain

POLL_SECONDS = 1.0
_LONGEST_HOLDER = 300  # characters


def visible_gpus() -> list[str]:
    """Return the ids of the GPUs this process may use.

    These are the ids in CUDA_VISIBLE_DEVICES if it is set, else all that nvidia-smi lists.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        ids = [name.strip() for name in given.split(",") if name.strip() and name.strip() != "-1"]
        repeated = sorted({name for name in ids if ids.count(name) > 1})
        if repeated:
            raise UserError(
                f"CUDA_VISIBLE_DEVICES={given}: {repeated[0]} is there twice. Name each GPU once."
            )
        return ids
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
    _check_private(folder)
    chosen: list[str] = []
    locks: list[int] = []
    for name in ids:
        path = folder / f"{name.replace('/', '_')}.lock"
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise UserError(f"{path}: this lock is a link. Remove it.") from None
            raise
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        _sign(lock)
        chosen.append(name)
        locks.append(lock)
        if len(chosen) == need:
            return chosen, locks
    for lock in locks:
        os.close(lock)
    return None


def _sign(lock: int) -> None:
    """Write into a lock who holds it, for `noisyvos status`."""
    holder = f"process {os.getpid()}: {' '.join(sys.argv[1:])}"[:_LONGEST_HOLDER]
    with suppress(OSError):  # a full disk
        os.ftruncate(lock, 0)
        os.pwrite(lock, holder.encode("utf-8", "replace"), 0)


def _check_private(folder: Path) -> None:
    """Make `folder` for this user alone; UserError if it is a link, or open to other users.

    Its name is known to all users of the machine, so another one may have made it first.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise UserError(
            f"{folder}: the leases of GPUs need this folder, and it is a file, a link "
            "or another user's. Remove it, or set TMPDIR to a folder of yours."
        )
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise UserError(
            f"{folder}: other users may write to this folder of GPU leases. Run `chmod 700` on it."
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)


def scheduled() -> bool:
    """Return whether SLURM or Kubernetes runs this job and has chosen its GPUs."""
    return "SLURM_JOB_ID" in os.environ or "KUBERNETES_SERVICE_HOST" in os.environ


def lease(need: int, folder: Path | None = None, poll: float = POLL_SECONDS) -> list[str]:
    """Wait for `need` GPUs, keep them for the life of this process, and return their ids.

    Without any GPU the answer is empty at once, and also in a job of SLURM or Kubernetes that needs
    all GPUs it was given. UserError if `need` is negative or more than there are.
    """
    if need < 0:
        raise UserError(f"--need {need}: give the number of GPUs, 0 or more.")
    ids = visible_gpus()
    if not ids or not need:
        return []
    if need > len(ids):
        raise UserError(
            f"{need} GPUs are wanted, this machine has {len(ids)}. Correct --need, or "
            "CUDA_VISIBLE_DEVICES."
        )
    if scheduled() and need == len(ids):
        return []
    # Where SLURM has set the ids, two of its jobs may call different GPUs by the same number. Where
    # it has not, they are those of the machine, which all jobs share.
    own = "SLURM_JOB_ID" in os.environ and "CUDA_VISIBLE_DEVICES" in os.environ
    job = f"-{os.environ['SLURM_JOB_ID']}" if own else ""
    name = f"noisyvos-gpus-{os.getuid()}{job}".replace("/", "_")
    folder = folder or Path(tempfile.gettempdir()) / name
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
    try:
        chosen = lease(options.need)
    except (UserError, OSError) as error:
        print(f"noisyvos: {explain(error)}", file=sys.stderr)
        raise SystemExit(ExitCode.FAILED) from None
    if chosen or not options.need:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(chosen)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"noisyvos: {command[0]}: {error.strerror}. Check the command.", file=sys.stderr)
        raise SystemExit(ExitCode.FAILED) from None


if __name__ == "__main__":
    main()
