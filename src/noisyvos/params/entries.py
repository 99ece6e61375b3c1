"""The one reader of parameter files. An entry is `name: {kind: <registered item>, ...settings}`.

`kind` defaults to the name of the entry, so `xmem: {}` means `xmem: {kind: xmem}`.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from noisyvos import extension
from noisyvos.errors import UserError, unknown_name
from noisyvos.io.files import check_regular
from noisyvos.registry import Item, Registry, Settings, shown

WITHOUT_KIND = ("train", "eval")  # files whose entries all have the same settings
MOST_BYTES = 4_000_000
MOST_VALUES = 200_000  # after aliases are written out
DEEPEST = 50


@dataclass(frozen=True)
class Entry:
    """One entry of a parameter file."""

    family: str  # the name of the file, without .yaml
    name: str
    kind: str  # empty for the families WITHOUT_KIND
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """Return the place of the entry, for messages."""
        return f"{self.family}.yaml: {self.name}"

    def resolve(self, registry: Registry) -> tuple[Item, Settings]:
        """Return the registered item and the validated settings; UserError names the entry."""
        try:
            item = registry.get(self.kind)
        except UserError as error:
            raise UserError(f"{self.where}: {error}") from None
        return item, item.validate(self.settings, self.where)


def parse_entry(family: str, name: str, content: Any) -> Entry:
    """Return `content` as an entry; UserError unless it is settings and its kind is text."""
    where = f"{family}.yaml: {name}"
    if not isinstance(content, dict):
        raise UserError(
            f"{where}: expected settings, got {shown(content)}. An entry without settings is"
            f" written `{name}: {{}}`."
        )
    if family in WITHOUT_KIND:
        return Entry(family, name, "", dict(content))
    settings = dict(content)
    kind = settings.pop("kind", name)
    if not isinstance(kind, str):
        raise UserError(
            f"{where}: `kind` must be the name of a registered kind, got {shown(kind)}."
        )
    return Entry(family, name, kind, settings)


def read_entries(params: str | Path, family: str) -> dict[str, Entry]:
    """Return every entry of params/<family>.yaml by name; UserError for a damaged file.

    A method from outside (`noisyvos.extension`) has an entry of its name.
    """
    content = read_yaml(Path(params) / f"{family}.yaml")
    found = {name: parse_entry(family, name, entry) for name, entry in content.items()}
    outside = extension.method_file() if family == "methods" else None
    if outside is not None:
        name = extension.method_name(outside)
        found.setdefault(name, Entry(family, name, name))
    return found


def read_family(params: str | Path, family: str) -> dict[str, dict[str, Any]]:
    """Return params/<family>.yaml as plain settings by name, each with its `kind` filled in."""
    return {
        name: ({"kind": entry.kind} if entry.kind else {}) | entry.settings
        for name, entry in read_entries(params, family).items()
    }


def read_entry(
    params: str | Path, family: str, name: str, registry: Registry
) -> tuple[Item, Settings]:
    """Return the registered item and the validated settings of entry `name` of a parameter file."""
    entries = read_entries(params, family)
    if name not in entries:
        raise unknown_name(f"name in {family}.yaml:", name, entries)
    return entries[name].resolve(registry)


def parameter_files(params: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every parameter file but the generated grid, by path."""
    for path in sorted(params.rglob("*.yaml")):
        if path.name != "cells.yaml":
            check_regular(path)
            yield path.name, path.read_bytes()


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return a YAML mapping whose keys are text at every level.

    A UserError names the file if it is damaged: not UTF-8, not YAML, a key given twice or not text,
    values that are not finite, too large, too deep, or larger than MOST_VALUES after its aliases
    are written out. A FileNotFoundError says how to name another folder.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such parameter file. Give the folder of the parameter files with --params."
        )
    try:
        content = _parse(_text(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that cannot be
        raise UserError(
            f"{path}: this file is not valid YAML ({' '.join(str(error).split())})."
        ) from None
    except RecursionError:
        raise UserError(f"{path}: {_too_deep()}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `name: settings` entries.")
    return content


def _text(path: Path) -> str:
    data = path.read_bytes()
    if len(data) > MOST_BYTES:
        raise UserError(
            f"this file has {len(data):,} bytes; a parameter file has {MOST_BYTES:,} at most."
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"this file is not UTF-8 text (line {line}). Save it with the encoding UTF-8."
        ) from None


_MOST_NESTED = 10_000  # marks that may nest; libyaml recurses for each level


class _Keys:
    """Refuses a key that is given twice (the second would silently win) or that is not text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            line = key_node.start_mark.line + 1
            if key_node.tag != "tag:yaml.org,2002:str":
                written = getattr(key_node, "value", None)
                shown = f" {written}" if isinstance(written, str) else ""
                raise UserError(
                    f"the name{shown} in line {line} is not text. Write it in quotes or choose"
                    " another name."
                )
            if key_node.value in seen:
                raise UserError(
                    f"the key {key_node.value!r} is given twice (again in line {line})."
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)  # type: ignore[misc]


class _Loader(_Keys, yaml.SafeLoader):
    """Reads any text and says in words what is wrong with it."""


class _QuickLoader(_Keys, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same about ten times faster, for texts that are right."""


def _parse(text: str) -> Any:
    if all(text.count(mark) < _MOST_NESTED for mark in "[{-?"):
        with suppress(yaml.YAMLError, ValueError):
            return _parsed(text, _QuickLoader)
    return _parsed(text, _Loader)


def _parsed(text: str, kind: type[_Loader] | type[_QuickLoader]) -> Any:
    loader = kind(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {}, ())
        content = loader.construct_document(node)
    finally:
        loader.dispose()
    return content


def _measure(
    node: yaml.Node, known: dict[int, tuple[int, int]], above: tuple[int, ...]
) -> tuple[int, int]:
    """Return how many values `node` holds, its aliases written out, and its levels, in limits."""
    if id(node) in above:
        raise UserError(f"the alias in line {node.start_mark.line + 1} contains itself.")
    if id(node) not in known:
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif node.tag == "tag:yaml.org,2002:float":
            _refuse_infinite(node)
        sizes = [_measure(part, known, (*above, id(node))) for part in parts]
        levels = 1 + max((levels for _, levels in sizes), default=0)
        known[id(node)] = 1 + sum(values for values, _ in sizes), levels
    values, levels = known[id(node)]
    if len(above) + levels > DEEPEST:
        raise UserError(_too_deep())
    if values > MOST_VALUES:
        raise UserError(
            f"this file has more than {MOST_VALUES:,} values once its aliases are written out."
        )
    return values, levels


def _refuse_infinite(node: yaml.Node) -> None:
    text = str(node.value).lower().lstrip("+-")
    if text in (".inf", ".nan") or (
        ":" not in text and not math.isfinite(float(text.replace("_", "")))
    ):
        raise UserError(
            f"the number {node.value} in line {node.start_mark.line + 1} is not finite."
        )


def _too_deep() -> str:
    return f"this file is nested more than {DEEPEST} levels deep."
