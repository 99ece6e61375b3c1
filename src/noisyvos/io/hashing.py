"""Hashes of files and folders, by which results say what they were made from."""

import hashlib
from pathlib import Path

from noisyvos.io.files import check_regular

_WHOLE = 256 * 2**20  # bytes; larger folders are hashed by the names and sizes of their files


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text; UserError for a pipe or a device."""
    check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def input_hash(path: Path) -> str:
    """Return a hash of the content of a file or folder.

    Of a large folder only names, sizes and the content of meta.json count.
    """
    if path.is_file():
        return file_hash(path)
    files = files_below(path)
    sizes = [file.stat().st_size for file in files]
    whole = sum(sizes) <= _WHOLE
    digest = hashlib.sha256()
    for file, size in zip(files, sizes, strict=True):
        content = file_hash(file) if whole or file.name == "meta.json" else ""
        digest.update(f"{file.relative_to(path).as_posix()}\0{size}\0{content}\n".encode())
    return digest.hexdigest()


def files_below(folder: Path) -> list[Path]:
    """Return the files below a folder, sorted; hidden ones are time stamps of workflow engines."""
    return sorted(
        file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".")
    )
