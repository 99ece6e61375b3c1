"""The only schema of the parameter files: everything is validated here before any job starts, all errors at once."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from noisyvos.errors import UserError, unknown_name
from noisyvos.io.atomic import write_text
from noisyvos.pipeline.catalog import FAMILIES, Family
from noisyvos.registry import Registry, Settings, describe

Protocol = Literal["davis", "visor", "youtube_vos", "long_videos", "all_frames"]
NAME = re.compile(
    r"[a-z0-9_]+"
)  # `-` joins the axes of a key; anything else hurts shells and paths


class Pretrain(Settings):
    """The one training on still-image clips that all cells of a model start from."""

    images: str
    recipe: str
    schedule: str
    method: str = "xmem"
    seed: NonNegativeInt = 0


class Train(Settings):
    """What a block trains on unless it says otherwise."""

    dataset: str
    schedule: str


class Block(Settings):
    """A full product of axes; the blocks of a preset may overlap, a cell in several of them is run once."""

    about: str = ""
    model: tuple[str, ...] = Field(min_length=1)
    noise: tuple[str, ...] = Field(min_length=1)
    method: tuple[str, ...] = Field(min_length=1)
    seed: tuple[NonNegativeInt, ...] = Field(min_length=1)
    noise_seed: tuple[
        NonNegativeInt, ...
    ] = ()  # seeds of the label noise, each with every `seed`; without it a seed has its own labels
    prompts: tuple[
        str, ...
    ] = ()  # label noise on the masks given at test time: its cells are segmented again with each of these
    corruptions: tuple[str, ...] = ()  # of the images at test time: likewise
    dataset: str | None = None
    schedule: str | None = None
    reference: str | None = (
        None  # the method that the others of this block are compared with, in place of the preset's
    )

    @model_validator(mode="after")
    def _labels_of_every_seed(self) -> "Block":
        if self.noise_seed and not set(self.seed) <= set(self.noise_seed):
            raise ValueError(
                "`noise_seed` must hold every `seed`: the others stand beside trainings with the labels of their own seed"
            )
        return self

    def compared_with(self, reference: str | None) -> str:
        """Return the method the others are compared with: the block's own, else the preset's if it is here, else the first."""
        return self.reference or (reference if reference in self.method else self.method[0])


class Preset(Settings):
    """One file of params/presets: a grid in the form people write it."""

    title: str
    about: str = ""
    synthetic: bool = False  # generated data: every table and figure says so
    declared: bool = False  # names that do not exist yet are listed instead of refused; such a grid can be dry-run only
    tuning: bool = False  # a block holds the values of one method's main setting, its reference the published one; the report names the best
    pretrain: Pretrain
    train: Train
    evaluate: tuple[str, ...] = Field(min_length=1)
    inference: str = "default"
    protocol: Protocol = "davis"
    protocols: dict[str, Protocol] = Field(
        default_factory=dict
    )  # of evaluation sets that are scored otherwise
    reference: str | None = (
        None  # the method that the others are compared with; a block's first without it
    )
    blocks: dict[str, Block] = Field(min_length=1)


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise UserError(
                f"the key {twice[0]!r} stands twice (line {node.start_mark.line + 1} and below)."
            )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a YAML mapping; UserError names the file if it is missing, broken, no mapping or has a key twice."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such parameter file.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(
            f"{path}: this file is not valid YAML ({' '.join(str(error).split())})."
        ) from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `name: settings` entries.")
    return content


def preset_names(params: Path) -> tuple[str, ...]:
    """Return the names of all presets."""
    return tuple(sorted(path.stem for path in (params / "presets").glob("*.yaml")))


def read_preset(params: Path, name: str) -> Preset:
    """Return a preset; UserError for an unknown name or wrong content. Names it refers to are checked by `check`."""
    known = preset_names(params)
    if name not in known:
        raise unknown_name("preset", name, known)
    path = params / "presets" / f"{name}.yaml"
    try:
        return Preset(**read_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path}: {describe(error)}") from None


def references(preset: Preset) -> dict[str, list[str]]:
    """Return every name a preset uses, by family, in order of first use."""
    blocks = preset.blocks.values()
    used = {
        "datasets": [
            preset.pretrain.images,
            preset.train.dataset,
            *preset.evaluate,
            *(b.dataset for b in blocks if b.dataset),
        ],
        "synth": [preset.pretrain.recipe],
        "noise": [name for b in blocks for name in (*b.noise, *b.prompts)],
        "corruptions": [name for b in blocks for name in b.corruptions],
        "models": [name for b in blocks for name in b.model],
        "methods": [preset.pretrain.method, *(name for b in blocks for name in b.method)],
        "train": [
            preset.pretrain.schedule,
            preset.train.schedule,
            *(b.schedule for b in blocks if b.schedule),
        ],
        "eval": [preset.inference],
    }
    return {family: list(dict.fromkeys(names)) for family, names in used.items()}


def missing_names(params: Path, preset: Preset) -> list[tuple[str, str]]:
    """Return (family, name) for each name a preset uses that no parameter file defines."""
    return [
        (family, name)
        for family, names in references(preset).items()
        for defined in [read_yaml(params / f"{family}.yaml")]
        for name in names
        if name not in defined
    ]


def check(params: Path, *, settings: bool = True) -> None:
    """Validate every parameter file; UserError lists all errors. Without `settings` nothing slow is imported.

    Checked are: YAML, names, kinds, settings of each kind, references between files, and the presets.
    """
    errors: list[str] = []
    entries: dict[str, dict[str, Any]] = {}
    for family in FAMILIES.values():
        try:
            entries[family.file] = read_yaml(params / f"{family.file}.yaml")
        except (UserError, FileNotFoundError) as error:
            errors.append(str(error))
            continue
        errors += _check_names(f"{family.file}.yaml", entries[family.file])
        errors += _check_kinds(family, entries[family.file])
    if (
        settings and not errors
    ):  # importing a family is slow, and settings of an unknown kind cannot be judged
        for family in FAMILIES.values():
            errors += _check_settings(family, entries[family.file])
        errors += _check_parts_are_videos(entries["datasets"])
    errors += _check_sources(entries.get("datasets", {}), entries.get("sources", {}))
    errors += _check_mixes(entries.get("datasets", {}))
    for name in preset_names(params):
        errors += _check_preset(params, name, entries)
    if errors:
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        raise UserError(
            f"{count} in the parameter files:\n" + "\n".join(f"  - {error}" for error in errors)
        )


def check_once(params: Path, stamp: Path) -> None:
    """Run `check`, its slow part only if a parameter file or a source file changed since `stamp` was written."""
    digest = hashlib.sha256()
    source = Path(__file__).resolve().parents[1]
    for path in [*sorted(params.rglob("*.yaml")), *sorted(source.rglob("*.py"))]:
        if path.name != "cells.yaml":
            digest.update(f"{path.name}\0".encode() + path.read_bytes())
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest.hexdigest():
        return
    check(params)
    write_text(stamp, digest.hexdigest())


def _check_names(where: str, names: Iterable[Any]) -> list[str]:
    return [
        f"{where}: the name {name!r} may have only lower-case letters, digits and `_` (`-` joins the parts of a key)."
        for name in names
        if not NAME.fullmatch(str(name)) or not isinstance(name, str)
    ]


def _check_kinds(family: Family, entries: dict[str, Any]) -> list[str]:
    errors, kinds = [], family.kinds()
    for name, entry in entries.items():
        where = f"{family.file}.yaml: {name}"
        if not isinstance(entry, dict):
            errors.append(f"{where}: expected settings, got {entry!r}.")
        elif family.package and "kind" not in entry:
            errors.append(f"{where}: `kind` is missing. Known: {', '.join(kinds)}.")
        elif family.package and entry["kind"] not in kinds:
            errors.append(f"{where}: {unknown_name('kind', str(entry['kind']), kinds)}")
    return errors


def _check_settings(family: Family, entries: dict[str, Any]) -> list[str]:
    target, errors = family.load(), []
    for name, entry in entries.items():
        where = f"{family.file}.yaml: {name}"
        try:
            if isinstance(target, Registry):
                target.get(entry["kind"]).validate(
                    {key: value for key, value in entry.items() if key != "kind"}, where
                )
            else:
                target(**entry)
        except ValidationError as error:
            errors.append(f"{where}: {describe(error)}")
        except UserError as error:
            errors.append(str(error))
    return errors


def _check_sources(datasets: dict[str, Any], sources: dict[str, Any]) -> list[str]:
    return [
        f"datasets.yaml: {name}: {unknown_name('source', str(entry.get('source')), sources)}"
        for name, entry in datasets.items()
        if isinstance(entry, dict)
        and entry.get("kind") != "mix"
        and entry.get("source") not in sources
    ]


def mix_parts(entry: dict[str, Any]) -> list[str]:
    """Return the datasets that an entry of kind `mix` names, as far as it is well formed."""
    parts = entry.get("parts")
    return (
        [str(part.get("dataset")) for part in parts if isinstance(part, dict)]
        if isinstance(parts, list)
        else []
    )


def _check_mixes(datasets: dict[str, Any]) -> list[str]:
    errors = []
    for name, entry in datasets.items():
        if not isinstance(entry, dict) or entry.get("kind") != "mix":
            continue
        where, parts = f"datasets.yaml: {name}: parts", mix_parts(entry)
        if not parts:
            errors.append(
                f"{where}: expected a list of {{dataset: NAME, repeat: 1, jump_divisor: 1}}."
            )
        for part in parts:
            if part not in datasets:
                errors.append(f"{where}: {unknown_name('dataset', part, datasets)}")
            elif isinstance(datasets[part], dict) and datasets[part].get("kind") == "mix":
                errors.append(f"{where}: {part!r} is a mix itself; name its parts instead.")
    return errors


def _check_parts_are_videos(datasets: dict[str, Any]) -> list[str]:
    registry = FAMILIES["datasets"].load()
    return [
        f"datasets.yaml: {name}: parts: {part!r} holds still images; a mix is made of video datasets."
        for name, entry in datasets.items()
        if isinstance(entry, dict) and entry.get("kind") == "mix"
        for part in mix_parts(entry)
        if isinstance(datasets.get(part), dict)
        and getattr(registry.get(datasets[part]["kind"]).settings, "makes", "") == "images"
    ]


def _check_preset(params: Path, name: str, entries: dict[str, dict[str, Any]]) -> list[str]:
    where = f"presets/{name}.yaml"
    try:
        preset = read_preset(params, name)
    except (UserError, FileNotFoundError) as error:
        return [str(error)]
    errors = _check_names(where, [name, *preset.blocks]) + _check_references(where, preset)
    errors += _check_parity(where, preset, entries.get("methods", {}))
    for family, names in references(preset).items():
        errors += _check_names(where, names)
        if not preset.declared:
            known = entries.get(family, {})
            errors += [
                f"{where}: {unknown_name(FAMILIES[family].what, used, known)}"
                for used in names
                if used not in known
            ]
    return errors


def _check_references(where: str, preset: Preset) -> list[str]:
    """Return an error for each method to compare with that is not run, and each protocol of a set that is not evaluated."""
    run = list(dict.fromkeys(name for block in preset.blocks.values() for name in block.method))
    errors = []
    if _strange(preset.reference, run):
        errors.append(
            f"{where}: reference: {unknown_name('method of this preset', str(preset.reference), run)}"
        )
    errors += [
        f"{where}: protocols: {unknown_name('evaluation set of this preset', name, preset.evaluate)}"
        for name in preset.protocols
        if name not in preset.evaluate
    ]
    return errors + [
        f"{where}: {name}: reference: {unknown_name('method of this block', str(block.reference), block.method)}"
        for name, block in preset.blocks.items()
        if _strange(block.reference, block.method)
    ]


def _check_parity(where: str, preset: Preset, methods: dict[str, Any]) -> list[str]:
    """Return an error for each block that holds methods with published quirks and methods without: they are never compared."""
    errors = []
    for name, block in preset.blocks.items():
        entries = {method: methods.get(method) for method in block.method}
        quirky = [
            method
            for method, entry in entries.items()
            if isinstance(entry, dict) and entry.get("parity")
        ]
        corrected = [
            method
            for method, entry in entries.items()
            if isinstance(entry, dict) and not entry.get("parity")
        ]
        if quirky and corrected:
            errors.append(
                f"{where}: {name}: {quirky[0]!r} is as published (`parity: true`) and {corrected[0]!r} is corrected; a block compares its "
                "methods, and these are never compared. Use a block for each."
            )
    return errors


def _strange(reference: str | None, run: Iterable[str]) -> bool:
    return reference is not None and reference not in run
