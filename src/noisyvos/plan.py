"""What a preset would run, and about how much disk it would take; nothing is written."""

from pathlib import Path
from typing import Any

from noisyvos.catalog import FAMILIES
from noisyvos.config import check, missing_names, read_preset
from noisyvos.grid import STAGES, Catalogue, Cells, expand

_OPTIMISER = 3  # a checkpoint holds the weights and two moments of Adam


def describe(name: str, params: Path, converted: Path = Path("data/converted")) -> str:
    """Return the plan of a preset as text, with a line `training cells: N`; UserError for an unknown or wrong preset."""
    check(params, settings=False)
    preset, catalogue = read_preset(params, name), Catalogue(params)
    cells = expand(preset, catalogue)
    lines = [f"preset {name}: {preset.title}"]
    lines += [f"  {stage:<9} {len(cells[stage]):>5}" for stage in STAGES if cells[stage]]
    lines.append("blocks:")
    for block, settings in preset.blocks.items():
        count = sum(block in cell["blocks"] for cell in cells["train"].values())
        lines.append(f"  {block:<12} {count:>5} training cells  {settings.about}".rstrip())
    shared = sum(len(cell["blocks"]) - 1 for cell in cells["train"].values())
    if shared:
        lines.append(f"  {'shared':<12} {-shared:>5} training cells  in several blocks, run once")
    lines.append(f"training cells: {len(cells['train'])}")
    lines += [f"disk: {line}" for line in _disk(cells, catalogue, converted)]
    missing = missing_names(params, preset)
    if missing:
        lines.append("not available yet, so this preset can only be dry-run:")
        for family in dict.fromkeys(family for family, _ in missing):
            lines.append(f"  {FAMILIES[family].what}: {', '.join(name for other, name in missing if other == family)}")
        lines.append(f"training cells that need none of these: {_available(cells, missing)}")
    return "\n".join(lines)


def _available(cells: Cells, missing: list[tuple[str, str]]) -> int:
    axes = {"datasets": "dataset", "noise": "noise", "models": "model", "methods": "method", "train": "schedule"}
    absent = {(axes[family], name) for family, name in missing if family in axes}
    return sum(not absent & {(axis, cell[axis]) for axis in axes.values()} for cell in cells["train"].values())


def _disk(cells: Cells, catalogue: Catalogue, converted: Path) -> list[str]:
    """Return the estimates: weights by counting parameters, masks from what is converted already."""
    trained = [cell["model"] for stage in ("pretrain", "train") for cell in cells[stage].values()]
    sizes = {model: _weight_bytes(catalogue, model) for model in dict.fromkeys(trained)}
    known = [sizes[model] for model in trained if sizes[model]]
    lines = []
    if known:
        lines.append(f"weights {_human(sum(known))}, and {_human(_OPTIMISER * max(known))} of checkpoint for each training that runs")
    unknown = sorted(model for model, size in sizes.items() if not size)
    if unknown:
        lines.append(f"weights of {', '.join(unknown)}: not known")
    masks = {"noise": "noisy labels", "infer": "predictions"}
    for stage, what in masks.items():
        datasets = [cell["dataset"] for cell in cells[stage].values()]
        absent = sorted({name for name in datasets if not (converted / name / "meta.json").is_file()})
        if absent:
            lines.append(f"{what}: known once {', '.join(absent)} is converted")
        else:
            lines.append(f"{what} {_human(sum(_folder_bytes(converted / name / 'masks') for name in datasets))}")
    return lines


def _weight_bytes(catalogue: Catalogue, model: str) -> int:
    """Return the bytes of a network's float32 weights without making them; 0 if the network is only declared."""
    if not catalogue.kind("models", model):
        return 0
    import torch

    from noisyvos.models.base import MODELS

    entry: dict[str, Any] = dict(catalogue.entries["models"][model])
    item = MODELS.get(entry.pop("kind"))
    with torch.device("meta"):
        network = item.build(item.validate(entry, f"models.yaml: {model}"))
    return 4 * sum(value.numel() for value in network.state_dict().values())


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.png"))


def _human(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"about {size:.0f} {unit}"
        size /= 1000
    return f"about {size:.1f} TB"
