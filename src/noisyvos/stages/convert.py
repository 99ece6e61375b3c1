"""Stage `convert`: raw files of one dataset into the layout that all later stages read."""

from pathlib import Path

from noisyvos.datasets.base import DATASETS, Conversion
from noisyvos.io.atomic import atomic_directory, remove_leftovers
from noisyvos.params import read_entry


def run(name: str, *, raw: Path, out: Path, params: Path, workers: int = 1) -> None:
    """Convert dataset `name` of datasets.yaml from `raw` into `out`, which is replaced only when complete.

    Raises UserError or FileNotFoundError naming the file that is missing or cannot be used.
    """
    kind, settings = read_entry(params, "datasets", name, DATASETS)
    if not raw.is_dir():
        raise FileNotFoundError(
            f"{raw}: no such folder. Put the raw files of source {settings.source!r} there (a link will do)."  # type: ignore[attr-defined]
        )
    remove_leftovers(out)
    with atomic_directory(out) as folder:
        summary = kind.build(Conversion(name, raw, folder, workers), settings)
    print(f"{name}: {summary} in {out}")
