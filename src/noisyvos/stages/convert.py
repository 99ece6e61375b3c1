"""Stage `convert`: raw files of one dataset into the layout that all later stages read."""

from contextlib import suppress
from pathlib import Path

from noisyvos.datasets.base import DATASETS, Conversion
from noisyvos.errors import UserError
from noisyvos.io.atomic import output_directory, remove_leftovers
from noisyvos.io.text import read_json
from noisyvos.params.entries import read_entry

_KINDS = ("video", "images")
_NAMES = ("frames", "masks", "images", "instances.json")


def run(name: str, *, raw: Path, out: Path, params: Path, workers: int = 1) -> None:
    """Convert dataset `name` of datasets.yaml from `raw` into `out`, replaced only when complete.

    The raw files of a mix are converted datasets, so its `raw` is the folder that holds them.
    UserError or FileNotFoundError names a file that is missing or cannot be used. UserError too if
    `out` holds another dataset.
    """
    kind, settings = read_entry(params, "datasets", name, DATASETS)
    if not raw.is_dir():
        source = getattr(settings, "source", None)
        wanted = (
            f"Put the raw files of source {source!r} there (a link will do)"
            if source
            else "Convert the parts of this mix first"
        )
        raise FileNotFoundError(f"{raw}: no such folder. {wanted}.")
    _check_name(out, name)
    remove_leftovers(out)
    parts = getattr(settings, "parts", None)  # of a mix
    read = (raw,) if parts is None else tuple(raw / part.dataset for part in parts)
    with output_directory(out, "convert", inputs=read, kinds=_KINDS, names=_NAMES) as folder:
        summary = kind.build(Conversion(name, raw, folder, workers), settings)
    print(f"{name}: {summary} in {out}")


def _check_name(out: Path, name: str) -> None:
    """Raise UserError if `out` is another dataset, which the result would replace."""
    there: str | None = None
    with suppress(OSError, UserError, AttributeError):
        meta = read_json(out / "meta.json")
        there = meta.get("name") if meta.get("kind") in _KINDS else None
    if there not in (None, name):
        raise UserError(
            f"{out}: this folder holds dataset {there!r}, which {name!r} would replace. "
            "Name another folder, or remove this one."
        )
