"""How fast this machine trains: a local file of step times, and what a grid has to measure.

`noisyvos measure` writes the file and `noisyvos plan` reads it. The file describes one machine, so
git ignores it.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from noisyvos.errors import UserError
from noisyvos.io.atomic import write_text
from noisyvos.pipeline.catalog import FAMILIES
from noisyvos.pipeline.chains import TRAININGS, Catalogue, Cells

SPEED = Path("speed.csv")


@dataclass(frozen=True)
class Workload:
    """What decides the time of a step: network, method, schedule, and the size of the frames."""

    model: str
    method: str
    schedule: str
    height: int
    width: int

    @property
    def text(self) -> str:
        """Its name in messages."""
        return f"{self.model} × {self.method} × {self.schedule}"


@dataclass(frozen=True)
class Speed:
    """One measurement.

    `settings` is a hash of the measured entries: a change of them makes the measurement void.
    """

    model: str
    method: str
    schedule: str
    height: int
    width: int
    device: str
    precision: str
    threads: int  # of the CPU
    torch: str
    steps: int  # timed
    iterations_per_second: float
    peak_memory_mib: int
    trainings: int  # one after the other, for methods that correct labels and train anew
    settings: str


def workload(cell: dict[str, Any], catalogue: Catalogue, converted: Path) -> Workload | str:
    """Return the workload of a training cell, or in words why it cannot be told.

    Frames have the size of the schedule's crop, else that of the recipe of clips, or of the
    converted or generated videos.
    """
    for family, name in (
        ("models", cell["model"]),
        ("methods", cell["method"]),
        ("train", cell["schedule"]),
    ):
        if name not in catalogue.entries[family]:
            return f"{FAMILIES[family].what} {name} is not there yet"
    crop = catalogue.entries["train"][cell["schedule"]].get("crop")
    if crop is None:
        crop = (
            _clip_side(cell["recipe"], catalogue)
            if "recipe" in cell
            else _frame_size(cell["dataset"], catalogue, converted)
        )
    if crop is None:
        return f"the size of the frames of {cell['dataset']} is known once it is converted"
    height, width = (crop, crop) if isinstance(crop, int) else crop
    return Workload(cell["model"], cell["method"], cell["schedule"], height, width)


def workloads(
    cells: Cells, catalogue: Catalogue, converted: Path
) -> dict[tuple[str, str], Workload | str]:
    """Return the workload of every training by (stage, key), or in words why it is not known."""
    found: dict[tuple[str, str], Workload | str] = {}
    for stage in TRAININGS:
        for key, cell in cells[stage].items():
            found[stage, key] = workload(cell, catalogue, converted)
    return found


def settings_hash(load: Workload, catalogue: Catalogue) -> str:
    """Return a hash of all settings that the time of a step follows from."""
    chosen = {
        "model": catalogue.entries["models"][load.model],
        "method": catalogue.entries["methods"][load.method],
        "schedule": {
            k: v
            for k, v in catalogue.entries["train"][load.schedule].items()
            if k not in ("iterations", "finetune")
        },
        "size": [load.height, load.width],
    }
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]


def read_speeds(path: Path) -> list[Speed]:
    """Return the measurements of this machine, none without a file; UserError for another file."""
    if not path.is_file():
        return []
    kinds: dict[str, Any] = {field.name: field.type for field in fields(Speed)}
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        return [Speed(**{name: kinds[name](value) for name, value in row.items()}) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: this is not a file of measured speeds ({error}). "
            "Delete it and run `noisyvos measure` again."
        ) from None


def write_speeds(path: Path, new: Iterable[Speed]) -> None:
    """Add measurements to the file; each replaces one of equal settings, device and threads."""
    kept = {(row.settings, row.device, row.threads): row for row in [*read_speeds(path), *new]}
    names = [field.name for field in fields(Speed)]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        asdict(row)
        for row in sorted(
            kept.values(), key=lambda row: (row.device, row.model, row.schedule, row.method)
        )
    )
    write_text(path, text.getvalue())


def _clip_side(recipe: str, catalogue: Catalogue) -> int | None:
    return getattr(_settings("synth", recipe, catalogue), "crop", None)


def _frame_size(dataset: str, catalogue: Catalogue, converted: Path) -> tuple[int, int] | None:
    meta = converted / dataset / "meta.json"
    if meta.is_file():
        from noisyvos.datasets.layout import VideoDataset

        return max(video.size for video in VideoDataset(converted / dataset).sequences.values())
    source = str(catalogue.entries["datasets"].get(dataset, {}).get("source", ""))
    settings = _settings("sources", source, catalogue)
    height, width = (getattr(settings, side, None) for side in ("height", "width"))
    return None if height is None or width is None else (height, width)


def _settings(family: str, name: str, catalogue: Catalogue) -> Any:
    """Return the settings of an entry with their defaults; None for an entry that is not there."""
    entry = dict(catalogue.entries[family].get(name, {}))
    if "kind" not in entry:
        return None
    item = FAMILIES[family].load().get(str(entry.pop("kind")))
    return item.validate(entry, f"{family}.yaml: {name}")
