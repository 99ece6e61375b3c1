"""Cells of trainings and of all that comes before them: sources, datasets, noise, starts, phases.

Every training has exactly one `init`: the folder with the weights of a start or of a phase.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from noisyvos.datasets.base import MIX_PARTS, keeps_links
from noisyvos.errors import UserError
from noisyvos.params.entries import read_family
from noisyvos.params.presets import START, Block, Preset, of_model
from noisyvos.params.validate import mix_parts
from noisyvos.pipeline.catalog import FAMILIES
from noisyvos.starts.sources import SOURCES_AT_MOST, sources_of

Section = dict[str, dict[str, Any]]  # cells of one stage by key
Cells = dict[str, Section]
PRETRAINING = ("pretrain", "pretrain_live", "pretrain_videos")  # the stages of phases
DRAWN = "drawn"  # kind of label noise that is read from files
TRAININGS = (*PRETRAINING, "train")
# Kinds of sources that come from outside. All others are generated. "": only declared.
FETCHED = ("", "archives", "by_hand", "torchvision")


class Catalogue:
    """The entries of all parameter files by family."""

    def __init__(self, params: Path) -> None:
        self.entries = {family: read_family(params, family) for family in FAMILIES}

    def kind(self, family: str, name: str) -> str:
        """Return the kind of an entry; empty for an entry that is only declared."""
        return str(self.entries[family].get(name, {}).get("kind", ""))


def add_dataset(cells: Cells, catalogue: Catalogue, name: str) -> None:
    """Add the cells that make a converted dataset, those of its parts included."""
    if catalogue.kind("datasets", name) == "mix":
        parts = mix_parts(catalogue.entries["datasets"][name])
        for part in parts:
            add_dataset(cells, catalogue, part)
        cells["mix"][name] = places("part", parts, MIX_PARTS)
        return
    # a dataset that is only declared has a source of the same name
    source = catalogue.entries["datasets"].get(name, {}).get("source", name)
    # files put in place by hand are tracked through their inventory, which holds their hashes
    raw = (
        f"data/raw/{source}"
        if _add_source(cells, catalogue, source) == "generate"
        else f"data/sources/{source}.json"
    )
    linked = keeps_links(catalogue.entries["datasets"].get(name, {}))
    cells["link" if linked else "convert"][name] = {"source": source, "raw": raw}


def _add_source(cells: Cells, catalogue: Catalogue, source: str) -> str:
    """Add the cell that makes or checks a source; return its stage."""
    stage = "download" if catalogue.kind("sources", source) in FETCHED else "generate"
    cells[stage][source] = {}
    return stage


def places(name: str, values: list[str], count: int) -> dict[str, str]:
    """Return `name1`, `name2`, ...: dvc.yaml names `count`; the last value fills missing places."""
    return {f"{name}{at + 1}": values[min(at, len(values) - 1)] for at in range(count)}


def block_cells(preset: Preset, block: Block) -> Iterator[dict[str, Any]]:
    """Yield the training cells of a block, without keys."""
    for model, noise, method, seed in itertools.product(
        block.model, block.noise, block.method, block.seed
    ):
        cell = {
            "dataset": block.dataset or preset.train.dataset,
            "noise": noise,
            "method": method,
            "model": model,
            "seed": seed,
            "schedule": preset.schedule_of(block, model),
            "init": preset.init_of(block, model),
        } | ({"label": block.label} if block.label else {})
        yield cell
        yield from (
            cell | {"noise_seed": noise_seed}
            for noise_seed in block.noise_seed
            if noise_seed != seed
        )


def add_noise(cells: Cells, catalogue: Catalogue, dataset: str, noise: str, seed: int) -> str:
    """Add the cell of one realisation of label noise; return its key.

    Clean labels have nothing random: one cell serves all seeds. Drawn labels are files: the seed is
    the number of the set, where there are several.
    """
    if catalogue.kind("noise", noise) == DRAWN:
        return _add_drawn(cells, catalogue, dataset, noise, seed)
    clean = catalogue.kind("noise", noise) == "clean"
    key = f"{dataset}-{noise}" + ("" if clean else f"-s{seed}")
    cells["noise"][key] = {"dataset": dataset, "noise": noise, "seed": 0 if clean else seed}
    return key


def has_labels(catalogue: Catalogue, dataset: str, noise: str) -> bool:
    """Return whether a setting of noise.yaml has labels of a dataset; drawn ones are of some."""
    if catalogue.kind("noise", noise) != DRAWN:
        return True
    return dataset in (catalogue.entries["noise"][noise].get("sets") or {})


def _add_drawn(cells: Cells, catalogue: Catalogue, dataset: str, noise: str, seed: int) -> str:
    """Add the cell that reads drawn labels, and the sources of the files; return its key.

    UserError if a part of the dataset has no drawn labels, or they are of too many sources.
    """
    sets = catalogue.entries["noise"][noise].get("sets") or {}
    mixed = catalogue.kind("datasets", dataset) == "mix"
    parts = mix_parts(catalogue.entries["datasets"][dataset]) if mixed else [dataset]
    for part in parts:
        if part not in sets:
            raise UserError(
                f"noise.yaml: {noise}: `sets` names no scribbles of {part!r}, which {dataset!r} "
                f"needs. It has {', '.join(sets) or 'none'}."
            )
    sources = list(dict.fromkeys(str(sets[part].get("source")) for part in parts))
    if len(sources) > SOURCES_AT_MOST:
        raise UserError(
            f"noise.yaml: {noise}: the scribbles of {dataset!r} are in {len(sources)} sources; "
            f"dvc.yaml has places for {SOURCES_AT_MOST}."
        )
    for source in sources:
        _add_source(cells, catalogue, source)
    several = any("{seed}" in str(sets[part].get("folder", "")) for part in parts)
    key = f"{dataset}-{noise}" + (f"-s{seed}" if several else "")
    cells["scribbles"][key] = {
        "dataset": dataset,
        "noise": noise,
        "seed": seed if several else 0,
    } | places("source", sources, SOURCES_AT_MOST)
    return key


def _add_start(cells: Cells, catalogue: Catalogue, preset: Preset, model: str, seed: int) -> str:
    """Add the cell of the weights that a network starts from; return their folder."""
    name = preset.start_of(model)
    key = f"{name}-{model}-s{seed}"
    cell = {"start": name, "model": model, "seed": seed}
    sources = sources_of(catalogue.entries["starts"].get(name, {}), catalogue.kind("models", model))
    if sources:
        for source in sources:
            _add_source(cells, catalogue, source)
        cells["start_from"][key] = cell | places("source", sources, SOURCES_AT_MOST)
    else:
        cells["start"][key] = cell
    return f"start/{key}"


def _add_phase(cells: Cells, catalogue: Catalogue, preset: Preset, name: str, model: str) -> str:
    """Add the cell of a phase for a network, and all that it starts from; return its folder."""
    phase = preset.phases[name]
    key = f"{name}-{model}-s{phase.seed}"
    if any(key in cells[stage] for stage in PRETRAINING):
        return f"pretrain/{key}"
    before = of_model(phase.init, model, START)
    init = (
        _add_start(cells, catalogue, preset, model, phase.seed)
        if before == START
        else _add_phase(cells, catalogue, preset, before, model)
    )
    cell = {
        "phase": name,
        "model": model,
        "method": of_model(phase.method, model, "xmem"),
        "schedule": of_model(phase.schedule, model),
        "seed": phase.seed,
        "init": init,
    }
    if phase.clips is None:
        dataset = str(phase.dataset)
        add_dataset(cells, catalogue, dataset)
        noise_key = add_noise(cells, catalogue, dataset, phase.noise, phase.seed)
        cells["pretrain_videos"][key] = cell | {"dataset": dataset, "noise_key": noise_key}
        return f"pretrain/{key}"
    clips = {"images": phase.clips.images, "recipe": phase.clips.recipe}
    add_dataset(cells, catalogue, clips["images"])
    if phase.clips.live:
        cells["pretrain_live"][key] = cell | clips
    else:
        stored = f"{clips['images']}-{clips['recipe']}-s0"
        cells["synth"][stored] = clips | {"seed": 0}
        cells["pretrain"][key] = cell | {"clips": stored} | clips
    return f"pretrain/{key}"


def add_training(
    cells: Cells, catalogue: Catalogue, preset: Preset, block: str, cell: dict[str, Any]
) -> None:
    """Add one training cell, its noise cell and the trainings that it starts from.

    A cell of an earlier block only gains a block.
    """
    clean = catalogue.kind("noise", cell["noise"]) == "clean"
    if clean and "noise_seed" in cell:
        return
    noise_seed = cell.get("noise_seed", cell["seed"])
    noise_key = add_noise(cells, catalogue, cell["dataset"], cell["noise"], noise_seed)
    init = (
        _add_start(cells, catalogue, preset, cell["model"], cell["seed"])
        if cell["init"] == START
        else _add_phase(cells, catalogue, preset, cell["init"], cell["model"])
    )
    key = f"{cell['dataset']}-{cell['noise']}-{cell['method']}-{cell['model']}-s{cell['seed']}"
    key += f"-n{noise_seed}" if "noise_seed" in cell else ""
    key += f"-{cell['label']}" if "label" in cell else ""
    made = cell | {"init": init, "noise_key": noise_key, "blocks": []}
    present = cells["train"].setdefault(key, made)
    for what in ("schedule", "init"):
        if present[what] != made[what]:
            raise UserError(
                f"Blocks {present['blocks'][0]!r} and {block!r} train the cell {key} with "
                f"different settings ({what}: {present[what]}, {made[what]}): give one of the "
                "blocks a `label`."
            )
    present["blocks"].append(block)
