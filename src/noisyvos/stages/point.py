"""Stage `point`: make a folder that is already on this machine the material of a source."""

import os
from pathlib import Path

from noisyvos.errors import UserError, unknown_name
from noisyvos.params.entries import read_family


def run(source: str, *, to: Path, raw: Path, params: Path) -> None:
    """Link `raw`/<source> to the folder `to`, in place of an earlier link.

    An existing folder is not touched: UserError.
    """
    sources = read_family(params, "sources")
    if source not in sources:
        raise unknown_name("source", source, sources)
    if sources[source].get("kind") not in ("by_hand", "archives"):
        raise UserError(
            f"{source}: this source is generated. "
            f"Choose a source of kind by_hand or archives in {params}/sources.yaml."
        )
    if not to.is_dir():
        raise FileNotFoundError(
            f"{to}: no such folder. Give the folder that holds the material with --to."
        )
    link = raw / source
    if link.exists() and not link.is_symlink():
        raise UserError(
            f"{link}: a folder is here already, and nothing in it is touched. "
            "Move it away, or use it as it is."
        )
    raw.mkdir(parents=True, exist_ok=True)
    temporary = raw / f".{source}.{os.getpid()}.tmp"
    temporary.symlink_to(to.resolve(), target_is_directory=True)
    os.replace(temporary, link)
    print(f"{link} -> {to}")
