"""One entry of a parameter file: name -> {kind: <registered item>, ...settings}."""

from pathlib import Path
from typing import Any

import yaml

from noisyvos.errors import UserError, unknown_name
from noisyvos.registry import Item, Registry, Settings


def read_family(params: str | Path, family: str) -> dict[str, dict[str, Any]]:
    """Return params/<family>.yaml as name -> entry; UserError if the file is no YAML mapping of mappings."""
    path = Path(params) / f"{family}.yaml"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such parameter file. Give the folder of the parameter files with --params."
        )
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(
            f"{path}: this file is not valid YAML ({' '.join(str(error).split())})."
        ) from None
    if not isinstance(entries, dict) or not all(
        isinstance(entry, dict) for entry in entries.values()
    ):
        raise UserError(f"{path}: expected `name: {{kind: ..., ...}}` entries.")
    return entries


def read_entry(
    params: str | Path, family: str, name: str, registry: Registry
) -> tuple[Item, Settings]:
    """Return the registered item and the validated settings of entry `name` of params/<family>.yaml."""
    entries = read_family(params, family)
    if name not in entries:
        raise unknown_name(f"name in {family}.yaml:", name, entries)
    entry = dict(entries[name])
    where = f"{family}.yaml: {name}"
    if "kind" not in entry:
        raise UserError(f"{where}: `kind` is missing. Known: {', '.join(registry.names())}.")
    item = registry.get(str(entry.pop("kind")))
    return item, item.validate(entry, where)
