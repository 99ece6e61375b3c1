"""Checks of all parameter files at once, before any job starts."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from noisyvos.errors import UserError, unknown_name
from noisyvos.io.atomic import write_text
from noisyvos.params.entries import Entry, parameter_files, parse_entry, read_yaml
from noisyvos.params.presets import Preset, of_model, preset_names, read_preset, references
from noisyvos.pipeline.catalog import FAMILIES, Family
from noisyvos.registry import Registry, describe
from noisyvos.starts.sources import misfit

# `-` joins the axes of a key, and anything else is trouble in shells and paths.
NAME = re.compile(r"[a-z0-9_]+")

Entries = Mapping[str, Entry]


class Checked:
    """What a check has read: the entries of each readable file, and the errors found so far.

    References are checked only against files without an error in them, so that one broken file
    gives one error.
    """

    def __init__(self, params: Path) -> None:
        self.errors: list[str] = []
        self.entries: dict[str, dict[str, Entry]] = {}
        for family in FAMILIES.values():
            self._read(params, family)

    def known(self, family: str) -> dict[str, Entry] | None:
        """Return the entries of a family by name; None where its file cannot be read."""
        return self.entries.get(family)

    def _read(self, params: Path, family: Family) -> None:
        try:
            content = read_yaml(params / f"{family.file}.yaml")
        except (UserError, OSError) as error:
            self.errors.append(str(error))
            return
        self.errors += _check_names(f"{family.file}.yaml", content)
        self.entries[family.file] = found = {}
        for name, settings in content.items():
            try:
                found[name] = parse_entry(family.file, name, settings)
            except UserError as error:
                self.errors.append(str(error))
                # the name exists, so that what refers to it is no further error
                found[name] = Entry(family.file, name, "")
                continue
            self.errors += _check_kind(family, found[name])


def check(params: Path, *, settings: bool = True) -> None:
    """Validate every parameter file; UserError lists all errors.

    This covers YAML, names, kinds, the settings of each kind, references between files, and the
    presets. With `settings=False` no kind is imported and its settings are not checked.
    """
    checked = Checked(params)
    if settings and not checked.errors:
        for family in FAMILIES.values():
            checked.errors += _check_settings(family, checked.entries[family.file])
        checked.errors += _check_parts_agree(checked.entries["datasets"])
    checked.errors += _check_sources(checked) + _check_mixes(checked)
    for name in preset_names(params):
        checked.errors += _check_preset(params, name, checked)
    if checked.errors:
        count = "1 error" if len(checked.errors) == 1 else f"{len(checked.errors)} errors"
        lines = "\n".join(f"  - {error}" for error in checked.errors)
        raise UserError(f"{count} in the parameter files:\n{lines}")


def check_once(params: Path, stamp: Path) -> None:
    """Run `check` only if a parameter file or a source file changed since `stamp` was written."""
    digest = hashlib.sha256()
    source = Path(__file__).resolve().parents[1]
    for file, content in parameter_files(params):
        digest.update(f"{file}\0".encode() + content)
    for path in sorted(source.rglob("*.py")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest.hexdigest():
        return
    check(params)
    write_text(stamp, digest.hexdigest())


def mix_parts(entry: Mapping[str, Any]) -> list[str]:
    """Return the datasets that the settings of a `mix` name, as far as they are well formed."""
    parts = entry.get("parts")
    if not isinstance(parts, list):
        return []
    return [str(part.get("dataset")) for part in parts if isinstance(part, dict)]


def _check_names(where: str, names: Iterable[str]) -> list[str]:
    return [
        f"{where}: the name {name!r} may have only lower-case letters, digits and `_`."
        for name in names
        if not NAME.fullmatch(name)
    ]


def _check_kind(family: Family, entry: Entry) -> list[str]:
    kinds = family.kinds()
    if not family.package or entry.kind in kinds:
        return []
    hint = " An entry without `kind` has its name as kind." if entry.kind == entry.name else ""
    return [f"{entry.where}: {unknown_name('kind', entry.kind, kinds)}{hint}"]


def _check_settings(family: Family, entries: Entries) -> list[str]:
    target, errors = family.load(), []
    for entry in entries.values():
        try:
            if isinstance(target, Registry):
                entry.resolve(target)
            else:
                target(**entry.settings)
        except ValidationError as error:
            errors.append(f"{entry.where}: {describe(error)}")
        except UserError as error:
            errors.append(str(error))
    return errors


def _check_sources(checked: Checked) -> list[str]:
    sources = checked.known("sources")
    if sources is None:
        return []
    wanted = [
        (entry, str(entry.settings.get("source")))
        for entry in checked.entries.get("datasets", {}).values()
        if entry.kind not in ("", "mix")
    ]
    wanted += [
        (entry, str(entry.settings[key]))
        for entry in checked.entries.get("starts", {}).values()
        for key in ("source", "resnet50", "resnet18")
        if entry.settings.get(key)
    ]
    wanted += [
        (entry, str(each["source"]))
        for entry in checked.entries.get("noise", {}).values()
        if entry.kind == "drawn" and isinstance(entry.settings.get("sets"), dict)
        for each in entry.settings["sets"].values()
        if isinstance(each, dict) and "source" in each
    ]
    return [
        f"{entry.where}: {unknown_name('source', name, sources)}"
        for entry, name in wanted
        if name not in sources
    ]


def _check_mixes(checked: Checked) -> list[str]:
    errors, datasets = [], checked.entries.get("datasets", {})
    for entry in datasets.values():
        if entry.kind != "mix":
            continue
        where, parts = f"{entry.where}: parts", mix_parts(entry.settings)
        if not parts:
            errors.append(
                f"{where}: expected a list of {{dataset: NAME, repeat: 1, jump_divisor: 1}}."
            )
        for part in parts:
            if part not in datasets:
                errors.append(f"{where}: {unknown_name('dataset', part, datasets)}")
            elif datasets[part].kind == "mix":
                errors.append(f"{where}: {part!r} is a mix itself; name its parts instead.")
    return errors


def _check_parts_agree(datasets: Entries) -> list[str]:
    registry = FAMILIES["datasets"].load()
    errors = []
    for entry in datasets.values():
        parts = mix_parts(entry.settings) if entry.kind == "mix" else []
        made: dict[str, str] = {}  # images or video: the first part that is of it
        for part in parts:
            if part in datasets:
                settings = registry.get(datasets[part].kind).settings
                made.setdefault(getattr(settings, "makes", "video"), part)
        if {"images", "video"} <= made.keys():
            errors.append(
                f"{entry.where}: parts: {made['images']!r} holds still images, {made['video']!r} "
                "videos; a mix is made of one or the other."
            )
    return errors


def _check_preset(params: Path, name: str, checked: Checked) -> list[str]:
    where = f"presets/{name}.yaml"
    try:
        preset = read_preset(params, name)
    except (UserError, OSError) as error:
        return [str(error)]
    errors = _check_names(where, [name, *preset.blocks, *preset.phases]) + _check_references(
        where, preset
    )
    errors += _check_parity(where, preset, checked.entries.get("methods", {}))
    errors += _check_starts(where, preset, checked)
    for family, names in references(preset).items():
        errors += _check_names(where, names)
        known = checked.known(family)
        if preset.declared or known is None:
            continue
        what = FAMILIES[family].what
        errors += [
            f"{where}: {unknown_name(what, used, known)}" for used in names if used not in known
        ]
    return errors


def _check_references(where: str, preset: Preset) -> list[str]:
    """Return an error for each reference that is not run and each protocol that is not used."""
    run = list(dict.fromkeys(name for block in preset.blocks.values() for name in block.method))
    errors = []
    if preset.reference is not None and preset.reference not in run:
        error = unknown_name("method of this preset", preset.reference, run)
        errors.append(f"{where}: reference: {error}")
    for name, block in preset.blocks.items():
        if block.reference is not None and block.reference not in block.method:
            error = unknown_name("method of this block", block.reference, block.method)
            errors.append(f"{where}: {name}: reference: {error}")
    return errors


def _check_starts(where: str, preset: Preset, checked: Checked) -> list[str]:
    """Return an error for each network that its start cannot fill, or that needs a better start.

    A published schedule from random weights is refused: published networks have frozen batch
    normalisation and small learning rates, so they learn almost nothing, and nothing shows it.
    """
    starts, schedules = checked.entries.get("starts", {}), checked.entries.get("train", {})
    models = checked.entries.get("models", {})
    errors: dict[str, None] = {}
    for name, block in preset.blocks.items():
        for model in block.model:
            start = starts.get(preset.start_of(model))
            if start is not None and model in models:
                reason = misfit({"kind": start.kind, **start.settings}, models[model].kind)
                if reason:
                    errors[
                        f"{where}: {name}: the start {start.name!r} does not fit {model}: {reason}."
                    ] = None
                    continue
            if preset.allow_random_start or start is None or start.kind != "random":
                continue
            phases = preset.chain(preset.init_of(block, model), model)
            used = [of_model(preset.phases[phase].schedule, model) for phase in phases]
            used.append(preset.schedule_of(block, model))
            for schedule in used:
                if schedule in schedules and schedules[schedule].settings.get("published"):
                    errors[
                        f"{where}: {name}: {model} would train the published schedule {schedule!r}"
                        " from random weights. Name its start "
                        f"(`starts: {{{model}: imagenet}}`), or set `allow_random_start: true`."
                    ] = None
    return list(errors)


def _check_parity(where: str, preset: Preset, methods: Entries) -> list[str]:
    """Return an error for each block that mixes methods with published quirks and corrected ones.

    The report never compares the two.
    """
    errors = []
    for name, block in preset.blocks.items():
        known = [method for method in block.method if method in methods]
        quirky = [method for method in known if methods[method].settings.get("parity")]
        corrected = [method for method in known if not methods[method].settings.get("parity")]
        if quirky and corrected:
            errors.append(
                f"{where}: {name}: {quirky[0]!r} is as published (`parity: true`) and"
                f" {corrected[0]!r} is corrected. A block compares its methods, and these are"
                " never compared. Use one block for each."
            )
    return errors
