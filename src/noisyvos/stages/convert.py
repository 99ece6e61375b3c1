"""Stage `convert`: raw files of one dataset into the layout that all later stages read."""

from pathlib import Path

from noisyvos.datasets.base import DATASETS, Conversion
from noisyvos.io.atomic import output_directory, remove_leftovers
from noisyvos.params.entries import read_entry

_NAMES = ("frames", "masks", "images", "instances.json")


def run(name: str, *, raw: Path, out: Path, params: Path, workers: int = 1) -> None:
    """Convert dataset `name` of datasets.yaml from `raw` into `out`, replaced only when complete.

    The raw files of a mix are converted datasets, so its `raw` is the folder that holds them.
    UserError or FileNotFoundError names a file that is missing or cannot be used.
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
    remove_leftovers(out)
    parts = getattr(settings, "parts", None)  # of a mix
    read = (raw,) if parts is None else tuple(raw / part.dataset for part in parts)
    with output_directory(
        out, "convert", inputs=read, kinds=("video", "images"), names=_NAMES
    ) as folder:
        summary = kind.build(Conversion(name, raw, folder, workers), settings)
    print(f"{name}: {summary} in {out}")
