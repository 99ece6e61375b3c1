"""Checkpoints in the scratch folder, their fingerprint, and weight snapshots.

A checkpoint belongs to a training if their fingerprints agree. The last few are kept, each under
its iteration (`checkpoint-00000150.pt`): a power cut can damage the newest after the system has
reported it as written.
"""

import hashlib
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from noisyvos import models
from noisyvos.io.atomic import atomic_file
from noisyvos.io.hashing import input_hash
from noisyvos.models.base import VideoModel
from noisyvos.pipeline.code_deps import code_hash


def provenance(
    inputs: dict[str, Path], stage: str, entries: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return what a result can be traced to: hashes of inputs (by role) and code, torch's version.

    entries: family -> the entry of the parameter file that is used, as `code_hash` takes them.
    """
    return {
        "inputs": {name: input_hash(path) for name, path in inputs.items()},
        "code": code_hash(stage, entries),
        "torch": torch.__version__,
    }


def fingerprint(settings: dict[str, Any], origin: dict[str, Any]) -> str:
    """Return the hash of all that a training's result depends on: settings and provenance."""
    return hashlib.sha256(
        json.dumps({"settings": settings} | origin, sort_keys=True).encode()
    ).hexdigest()


def save(file: Path, fingerprint: str, state: dict[str, Any], keep: int) -> bool:
    """Write the checkpoint of state["iteration"] and return whether that succeeded.

    The write is atomic. Afterwards all but the last `keep` checkpoints are removed. If the disk
    refuses the write, a warning says so and the older checkpoints stay.
    """
    path = _numbered(file, state["iteration"])
    try:
        with atomic_file(path) as temporary:
            torch.save({"fingerprint": fingerprint, "state": state}, temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        print(f"noisyvos: warning: checkpoint {path} was not written ({error}).", file=sys.stderr)
        return False
    older = [other for other in _numbered_files(file) if other < path]
    newer = [other for other in _numbered_files(file) if other > path]
    for other in [*older[: max(0, len(older) - keep + 1)], *newer]:
        other.unlink(missing_ok=True)
    return True


def load(file: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return the newest state saved for this fingerprint, or None.

    A checkpoint that does not fit or cannot be read is removed, and a line says why.
    """
    _remove_leftovers(file)
    for path in reversed(_numbered_files(file)):
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            if found["fingerprint"] == fingerprint:
                return found["state"]
            why = "is of other settings, inputs or code"
        except Exception as error:  # whatever is wrong with it, an older one or a new start helps
            why = f"cannot be read ({type(error).__name__})"
        is_oldest = path == _numbered_files(file)[0]
        action = "starting over" if is_oldest else "trying the one before"
        print(f"noisyvos: checkpoint {path} {why}; {action}.", file=sys.stderr)
        path.unlink(missing_ok=True)
    return None


def what_is_kept(file: Path) -> str:
    """Return a sentence on how a training that ends now can go on: from its newest checkpoint."""
    found = _numbered_files(file)
    if not found:
        return "It wrote no checkpoint, so the same command starts over."
    return f"The checkpoint {found[-1]} is kept: the same command goes on from it."


def discard(file: Path) -> None:
    """Remove the checkpoints of a finished training, and their folder if it is then empty."""
    for path in _numbered_files(file):
        path.unlink(missing_ok=True)
    _remove_leftovers(file)
    with suppress(OSError):
        file.parent.rmdir()


class WeightSnapshots:
    """Weights of the first network during training, as some published trainings keep them.

    They lie beside the final weights (`weights-00025000.safetensors`), one after every `every`
    iterations. Without a file or an interval nothing is written.
    """

    def __init__(self, weights: Path | None, every: int | None, start: int) -> None:
        self._weights, self._every = weights, every
        if weights is None or every is None:
            return
        for path in _numbered_files(weights):
            if int(path.stem[-8:]) > start:  # of an earlier training, or about to be made again
                path.unlink(missing_ok=True)

    def save(self, iteration: int, network: VideoModel) -> None:
        """Write a snapshot if `iteration` is due; a full disk causes a warning only."""
        if self._weights is None or self._every is None or iteration % self._every:
            return
        path = _numbered(self._weights, iteration)
        try:
            models.save_weights(network, path)
        except OSError as error:
            print(
                f"noisyvos: warning: {path} was not written ({error}); training goes on.",
                file=sys.stderr,
            )


def _numbered(file: Path, iteration: int) -> Path:
    return file.with_name(f"{file.stem}-{iteration:08d}{file.suffix}")


def _numbered_files(file: Path) -> list[Path]:
    """Return the numbered files of this name, oldest iteration first."""
    return sorted(file.parent.glob(f"{file.stem}-{'[0-9]' * 8}{file.suffix}"))


def _remove_leftovers(file: Path) -> None:
    """Remove what a process left that was killed while it wrote."""
    for leftover in file.parent.glob(f".{file.stem}-*.tmp"):
        leftover.unlink(missing_ok=True)
