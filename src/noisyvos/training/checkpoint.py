"""Checkpoints in the scratch folder, and the fingerprint that says whether one belongs to this very training.

The last few are kept, each under its iteration (`checkpoint-00000150.pt`): a power cut can damage the newest after the
system has reported it as written.
"""

import hashlib
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from noisyvos.io.atomic import atomic_file
from noisyvos.pipeline.code_deps import code_hash

_WHOLE = (
    256 * 2**20
)  # inputs up to this size are hashed by content, larger folders by the names and sizes of their files


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def input_hash(path: Path) -> str:
    """Return a hash of a file, or of a folder: by content, or by names and sizes and meta.json where the folder is large."""
    if path.is_file():
        return file_hash(path)
    files = sorted(
        file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")
    )  # engines leave stamps
    sizes = [file.stat().st_size for file in files]
    whole = sum(sizes) <= _WHOLE
    digest = hashlib.sha256()
    for file, size in zip(files, sizes, strict=True):
        content = file_hash(file) if whole or file.name == "meta.json" else ""
        digest.update(f"{file.relative_to(path).as_posix()}\0{size}\0{content}\n".encode())
    return digest.hexdigest()


def provenance(
    inputs: dict[str, Path], stage: str, entries: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return what a result can be traced to: hashes of the input files by role, hash of the code, release of torch.

    entries: family -> the entry of the parameter file that is used, as in `noisyvos.pipeline.code_deps.code_hash`.
    """
    return {
        "inputs": {name: input_hash(path) for name, path in inputs.items()},
        "code": code_hash(stage, entries),
        "torch": torch.__version__,
    }


def fingerprint(settings: dict[str, Any], origin: dict[str, Any]) -> str:
    """Return the hash of all that a training's result depends on: its settings and its provenance."""
    return hashlib.sha256(
        json.dumps({"settings": settings} | origin, sort_keys=True).encode()
    ).hexdigest()


def save(file: Path, mark: str, state: dict[str, Any], keep: int) -> bool:
    """Write the checkpoint of state["iteration"] atomically and remove all but the last `keep`; return whether it was written.

    Where the disk refuses, say so and leave the older ones alone.
    """
    path = _numbered(file, state["iteration"])
    try:
        with atomic_file(path) as temporary:
            torch.save({"fingerprint": mark, "state": state}, temporary)
    except (
        OSError,
        RuntimeError,
    ) as error:  # torch reports a full disk as a RuntimeError of its writer
        print(f"noisyvos: warning: checkpoint {path} was not written ({error}).", file=sys.stderr)
        return False
    older = [other for other in _all(file) if other < path]
    for other in [
        *older[: max(0, len(older) - keep + 1)],
        *(other for other in _all(file) if other > path),
    ]:
        other.unlink(missing_ok=True)
    return True


def load(file: Path, mark: str) -> dict[str, Any] | None:
    """Return the newest state saved for this fingerprint, or None; a line says why a checkpoint was passed over, which is removed."""
    _remove_leftovers(file)
    for path in reversed(_all(file)):
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            if found["fingerprint"] == mark:
                return found["state"]
            why = "is of other settings, inputs or code"
        except Exception as error:  # whatever is wrong with a scratch file, an older one or a new start is the answer
            why = f"cannot be read ({type(error).__name__})"
        older = "trying the one before" if path != _all(file)[0] else "starting over"
        print(f"noisyvos: checkpoint {path} {why}; {older}.", file=sys.stderr)
        path.unlink(missing_ok=True)
    return None


def discard(file: Path) -> None:
    """Remove the checkpoints of a finished training, and their folder if nothing else is in it."""
    for path in _all(file):
        path.unlink(missing_ok=True)
    _remove_leftovers(file)
    with suppress(OSError):
        file.parent.rmdir()


def _numbered(file: Path, iteration: int) -> Path:
    return file.with_name(f"{file.stem}-{iteration:08d}{file.suffix}")


def _all(file: Path) -> list[Path]:
    """Return the checkpoints there are, oldest first."""
    return sorted(file.parent.glob(f"{file.stem}-{'[0-9]' * 8}{file.suffix}"))


def _remove_leftovers(file: Path) -> None:
    """Remove what a process left that was killed while it wrote."""
    for leftover in file.parent.glob(f".{file.stem}-*.tmp"):
        leftover.unlink(missing_ok=True)
