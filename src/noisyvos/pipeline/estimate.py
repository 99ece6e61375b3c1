"""The plan of a preset: what it would run, and about how much disk and time it would take."""

from pathlib import Path

from noisyvos.params.presets import Preset, missing_names, of_model, read_preset
from noisyvos.params.validate import check
from noisyvos.pipeline.catalog import FAMILIES
from noisyvos.pipeline.chains import PRETRAINING, TRAININGS, Catalogue, Cells
from noisyvos.pipeline.grid import STAGES, expand
from noisyvos.pipeline.speed import SPEED, Speed, Workload, read_speeds, settings_hash, workloads
from noisyvos.pipeline.weight_sizes import weight_sizes
from noisyvos.starts.sources import TRUNKS

_OPTIMISER = 3  # a checkpoint holds the weights and two moments of Adam


def describe(
    name: str, params: Path, converted: Path = Path("data/converted"), speeds: Path = SPEED
) -> str:
    """Return the plan of a preset as text, with a line `training cells: N`.

    speeds: file of the step times measured on this machine, which the hours follow from. Without
    it the plan has no hours. UserError for an unknown or wrong preset.
    """
    check(params, settings=False)
    preset, catalogue = read_preset(params, name), Catalogue(params)
    cells = expand(preset, catalogue)
    lines = [f"preset {name}: {preset.title}"]
    lines += [f"  {stage:<14} {len(cells[stage]):>5}" for stage in STAGES if cells[stage]]
    lines.append("blocks:")
    for block, settings in preset.blocks.items():
        count = sum(block in cell["blocks"] for cell in cells["train"].values())
        lines.append(f"  {block:<12} {count:>5} training cells  {settings.about}".rstrip())
    shared = sum(len(cell["blocks"]) - 1 for cell in cells["train"].values())
    if shared:
        lines.append(f"  {'shared':<12} {-shared:>5} training cells  in several blocks, run once")
    lines.append(f"training cells: {len(cells['train'])}")
    trained = [cell["model"] for stage in TRAININGS for cell in cells[stage].values()]
    sizes = weight_sizes(trained, catalogue.entries["models"], params.parent)
    lines += [f"disk: {line}" for line in _disk(cells, sizes, converted)]
    lines += _hours(
        name, cells, catalogue, workloads(cells, catalogue, converted), read_speeds(speeds)
    )
    lines += _chains(preset, catalogue)
    missing = missing_names(params, preset)
    if missing:
        lines.append("not available yet, so this preset can only be dry-run:")
        for family in dict.fromkeys(family for family, _ in missing):
            lines.append(
                f"  {FAMILIES[family].what}: "
                + ", ".join(name for other, name in missing if other == family)
            )
        lines.append(f"training cells that need none of these: {_available(cells, missing)}")
    return "\n".join(lines)


def _chains(preset: Preset, catalogue: Catalogue) -> list[str]:
    """Return a line for each chain of trainings: start, phases, main training, iterations."""

    def text(name: str, schedule: str) -> str:
        entry = catalogue.entries["train"].get(schedule, {})
        total = entry.get("iterations", 0) + entry.get("finetune", 0)
        return f"{name} {total:,}" if total else f"{name} ?"

    found: dict[str, None] = {}
    for name, model in dict.fromkeys(
        (name, model) for name, block in preset.blocks.items() for model in block.model
    ):
        block = preset.blocks[name]
        start = preset.start_of(model)
        entry, kind = catalogue.entries["starts"].get(start, {}), catalogue.kind("models", model)
        trunks = TRUNKS.get(kind, ()) if entry.get("kind") == "trunks" else ()
        steps = [start + (f" ({', '.join(trunks)})" if trunks else "")]
        for phase in preset.chain(preset.init_of(block, model), model):
            steps.append(text(phase, of_model(preset.phases[phase].schedule, model)))
        steps.append(text("train", preset.schedule_of(block, model)))
        where = name if len(block.model) == 1 else f"{name}, {model}"
        found[f"chain {where}: {' -> '.join(steps)}"] = None
    return list(found)


def _available(cells: Cells, missing: list[tuple[str, str]]) -> int:
    axes = {
        "datasets": "dataset",
        "noise": "noise",
        "models": "model",
        "methods": "method",
        "train": "schedule",
    }
    absent = {(axes[family], name) for family, name in missing if family in axes}
    return sum(
        not absent & {(axis, cell[axis]) for axis in axes.values()}
        for cell in cells["train"].values()
    )


def _disk(cells: Cells, sizes: dict[str, int], converted: Path) -> list[str]:
    """Return the sizes: of weights as given by network, of masks from converted datasets."""
    trained = [cell["model"] for stage in TRAININGS for cell in cells[stage].values()]
    known = [sizes[model] for model in trained if sizes[model]]
    lines = []
    if known:
        lines.append(
            f"weights {_human(sum(known))}, and {_human(_OPTIMISER * max(known))} of checkpoint "
            "for each training that runs"
        )
    unknown = sorted(model for model, size in sizes.items() if not size)
    if unknown:
        lines.append(f"weights of {', '.join(unknown)}: not known")
    lines += _converted(cells, converted)
    masks = {"noise": "noisy labels", "infer": "predictions"}
    for stage, what in masks.items():
        datasets = [cell["dataset"] for cell in cells[stage].values()]
        absent = sorted(
            {name for name in datasets if not (converted / name / "meta.json").is_file()}
        )
        if absent:
            lines.append(f"{what}: known once {', '.join(absent)} is converted")
        else:
            size = sum(_folder_bytes(converted / name / "masks") for name in datasets)
            lines.append(f"{what} {_human(size)}")
    return lines


def _converted(cells: Cells, converted: Path) -> list[str]:
    """Return what converted data take: links take nothing, files are twice there with DVC."""
    linked = [*cells["link"], *cells["mix"]]
    lines = []
    if linked:
        lines.append(
            f"converted as links to other files, of which DVC keeps no copy: {', '.join(linked)}"
        )
    if names := list(cells["convert"]):
        absent = [name for name in names if not (converted / name / "meta.json").is_file()]
        size = sum(_folder_bytes(converted / name, "*") for name in names if name not in absent)
        what = "converted as files, and as much again in DVC's cache after `noisyvos record`"
        if absent:
            lines.append(f"{what}: known once {', '.join(absent)} is converted")
        else:
            lines.append(f"{what}: {_human(size)}")
    return lines


def _hours(
    preset: str,
    cells: Cells,
    catalogue: Catalogue,
    loads: dict[tuple[str, str], Workload | str],
    speeds: list[Speed],
) -> list[str]:
    """Return the hours of training, iterations over measured speed, for each measured device."""
    hashes = {
        load: settings_hash(load, catalogue)
        for load in dict.fromkeys(loads.values())
        if isinstance(load, Workload)
    }
    machines: dict[tuple[str, int], dict[str, Speed]] = {}
    for row in speeds:
        if row.settings in hashes.values():
            machines.setdefault((row.device, row.threads), {})[row.settings] = row
    if not machines:
        return [
            f"hours: not measured: run `noisyvos measure --preset {preset}` "
            "on the machine that is to train"
        ]
    lines = []
    for (device, threads), rows in machines.items():
        how = ", ".join(
            dict.fromkeys(f"{row.precision}, torch {row.torch}" for row in rows.values())
        )
        cpu = f", {threads} thread{'s' * (threads > 1)}" if device.startswith("CPU") else ""
        lines.append(
            f"hours on one {device}{cpu} ({how}; iterations / measured it/s, "
            "without inference and scoring):"
        )
        hours = {}
        for place, load in loads.items():
            speed = rows.get(hashes[load]) if isinstance(load, Workload) else None
            hours[place] = _cell_hours(place, cells, catalogue, speed)
        groups = {"pretraining": [place for place in loads if place[0] in PRETRAINING]}
        for block in dict.fromkeys(
            block for cell in cells["train"].values() for block in cell["blocks"]
        ):
            groups[block] = [
                ("train", key) for key, cell in cells["train"].items() if block in cell["blocks"]
            ]
        for group, places in [*groups.items(), ("total", list(loads))]:
            known = [found for place in places if (found := hours[place]) is not None]
            text = _duration(sum(known)) if known else f"{'-':>10}    "
            lines.append(f"  {group:<12} {text}  {len(known)} of {len(places)} trainings")
        lacking = dict.fromkeys(
            load if isinstance(load, str) else load.text
            for place, load in loads.items()
            if hours[place] is None
        )
        if lacking:
            shown = ", ".join(list(lacking)[:4]) + (
                f" and {len(lacking) - 4} more" if len(lacking) > 4 else ""
            )
            lines.append(f"  not measured: {shown}: run `noisyvos measure --preset {preset}`")
    return lines


def _duration(hours: float) -> str:
    return f"{hours:>10,.1f} h  " if hours >= 1 else f"{60 * hours:>10,.1f} min"


def _cell_hours(
    place: tuple[str, str], cells: Cells, catalogue: Catalogue, speed: Speed | None
) -> float | None:
    if speed is None:
        return None
    stage, key = place
    schedule = catalogue.entries["train"][cells[stage][key]["schedule"]]
    return (
        speed.trainings
        * (schedule["iterations"] + schedule.get("finetune", 0))
        / speed.iterations_per_second
        / 3600
    )


def _folder_bytes(folder: Path, pattern: str = "*.png") -> int:
    """Return the bytes of the files below a folder; links take none."""
    return sum(path.lstat().st_size for path in folder.rglob(pattern) if not path.is_symlink())


def _human(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"about {size:.0f} {unit}"
        size /= 1000
    return f"about {size:.1f} TB"
