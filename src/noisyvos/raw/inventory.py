"""Lists of raw files: path, size and sha256, so that a later stage can tell whether the material is still the same."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

_THREADS = 4  # hashing and reading release the interpreter


def take_inventory(root: Path, paths: Sequence[str]) -> list[dict[str, Any]]:
    """Return one entry {path, size, sha256} for each of `paths` (relative to `root`), in sorted order."""
    with ThreadPoolExecutor(_THREADS) as pool:
        entries = pool.map(partial(_entry, root), sorted(paths))
        return list(
            tqdm(
                entries, total=len(paths), desc="list files", unit="file", disable=len(paths) < 2000
            )
        )


def _entry(root: Path, path: str) -> dict[str, Any]:
    with (root / path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"path": path, "size": file.tell(), "sha256": digest}
