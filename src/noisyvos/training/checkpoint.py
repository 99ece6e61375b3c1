"""Checkpoints in the scratch folder, and the fingerprint that says whether one belongs to this very training."""

import hashlib
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from noisyvos.io.atomic import atomic_file

_CODE = ("training", "models", "methods", "losses", "inference", "datasets/sampling.py", "datasets/transforms.py", "seeding.py")
_WHOLE = 256 * 2**20  # inputs up to this size are hashed by content, larger folders by the names and sizes of their files


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def input_hash(path: Path) -> str:
    """Return a hash of a file, or of a folder: by content, or by names and sizes and meta.json where the folder is large."""
    if path.is_file():
        return file_hash(path)
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))  # engines leave stamps
    sizes = [file.stat().st_size for file in files]
    whole = sum(sizes) <= _WHOLE
    digest = hashlib.sha256()
    for file, size in zip(files, sizes, strict=True):
        content = file_hash(file) if whole or file.name == "meta.json" else ""
        digest.update(f"{file.relative_to(path).as_posix()}\0{size}\0{content}\n".encode())
    return digest.hexdigest()


def _code_hash() -> str:
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for name in _CODE:
        files = [root / name] if name.endswith(".py") else sorted((root / name).rglob("*.py"))
        for file in files:
            digest.update(f"{file.relative_to(root).as_posix()}\0{file_hash(file)}\n".encode())
    return digest.hexdigest()


def provenance(inputs: dict[str, Path]) -> dict[str, Any]:
    """Return hashes of the input files, by role, and of the code, and the torch release: what a result can be traced to."""
    return {
        "inputs": {name: input_hash(path) for name, path in inputs.items()},
        "code": _code_hash(),
        "torch": torch.__version__,
    }


def fingerprint(settings: dict[str, Any], origin: dict[str, Any]) -> str:
    """Return the hash of all that a training's result depends on: its settings and its provenance."""
    return hashlib.sha256(json.dumps({"settings": settings} | origin, sort_keys=True).encode()).hexdigest()


def save(path: Path, mark: str, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically; where the disk refuses, say so and keep the older one."""
    try:
        with atomic_file(path) as temporary:
            torch.save({"fingerprint": mark, "state": state}, temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError of its writer
        print(f"noisyvos: warning: checkpoint {path} was not written ({error}); training goes on.", file=sys.stderr)


def load(path: Path, mark: str) -> dict[str, Any] | None:
    """Return the state of the checkpoint at `path`, or None where there is none for this fingerprint (with a line that says why)."""
    _remove_leftovers(path)
    if not path.is_file():
        return None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        same = found["fingerprint"] == mark
    except Exception as error:  # whatever is wrong with a scratch file, starting over is the answer
        print(f"noisyvos: checkpoint {path} cannot be read ({type(error).__name__}); starting over.", file=sys.stderr)
        return None
    if not same:
        print(f"noisyvos: checkpoint {path} is of other settings, inputs or code; starting over.", file=sys.stderr)
        return None
    return found["state"]


def discard(path: Path) -> None:
    """Remove the checkpoint of a finished training, and its folder if nothing else is in it."""
    path.unlink(missing_ok=True)
    _remove_leftovers(path)
    with suppress(OSError):
        path.parent.rmdir()


def _remove_leftovers(path: Path) -> None:
    """Remove what a process left that was killed while it wrote."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)
