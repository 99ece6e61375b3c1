"""MkDocs hook: writes the parts of the reference that follow from the code, when the site is built.

A page asks for a part with a line `<!-- generated: NAME -->`, and the hook replaces the line.
So a table cannot lag behind the code. The hook also turns formulas into MathML: the site needs
neither a script nor the network to show them.
"""

import html
import inspect
import re
import typing
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

import latex2mathml.converter
import typer
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.testing import CliRunner

from noisyvos.cli import app
from noisyvos.models.base import MODELS
from noisyvos.params import presets as preset_file
from noisyvos.params.entries import read_entries, read_yaml
from noisyvos.pipeline.catalog import FAMILIES
from noisyvos.registry import Registry, Settings

ROOT = Path(__file__).resolve().parents[1]
PARAMS = ROOT / "params"
MARKER = re.compile(r"<!-- generated: ([a-z_:-]+) -->")


# --- MkDocs calls these ------------------------------------------------------------------------


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put every generated part below its marker; KeyError for a marker that names no part."""
    return MARKER.sub(lambda found: part(found[1]), markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Turn what arithmatex marked as a formula into MathML."""
    return re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', _formula, content, flags=re.DOTALL)


def _formula(found: re.Match[str]) -> str:
    source = html.unescape(found[2]).strip()
    display = "block" if source.startswith(r"\[") else "inline"
    made = latex2mathml.converter.convert(source[2:-2].strip(), display=display)
    if "\\" in made:
        raise ValueError(f"latex2mathml does not know all of this formula: {source}")
    return made.replace("<mi>log</mi>", '<mi>log</mi><mspace width="0.17em"/>')


def part(name: str) -> str:
    """Return the Markdown of one generated part, such as `cli` or `settings:noise`."""
    name, _, argument = name.partition(":")
    makers = {
        "settings": settings_of_family,
        "memory": memory_settings,
        "keys": keys_of,
        "cli": commands,
        "presets": presets,
        "counts": counts,
        "entries": entries,
        "stages": stages,
        "dag": dag,
    }
    return makers[name](argument) if argument else makers[name]()


# --- settings: one table for each class ---------------------------------------------------------


def settings_of_family(family: str) -> str:
    """Return a section for each kind of params/<family>.yaml; one table if it has no kinds."""
    target = FAMILIES[family].load()
    if not isinstance(target, Registry):
        return table_of(target)
    sections = []
    for item in target:
        about = first_paragraph(inspect.getdoc(item.build))
        if item.settings is Settings or not item.settings.model_fields:
            sections.append(f"### `{item.name}`\n\n{about}\n\nNo settings.")
        else:
            sections.append(f"### `{item.name}`\n\n{about}\n\n{table_of(item.settings)}")
    return "\n\n".join(sections)


def memory_settings() -> str:
    """Return the settings of each network's memory; networks with the same class share a table."""
    shared: dict[type[Settings], list[str]] = {}
    for item in MODELS:
        shared.setdefault(item.build.memory_settings, []).append(f"`{item.name}`")
    return "\n\n".join(
        f"### {', '.join(names)}\n\n{table_of(kind)}" for kind, names in shared.items()
    )


def keys_of(name: str) -> str:
    """Return the table of one part of a preset: preset, pretrain, train or block."""
    return table_of(getattr(preset_file, name.capitalize()))


def table_of(kind: type[BaseModel]) -> str:
    """Return the keys of a settings class: type, default, meaning. Nested classes follow below."""
    known = descriptions(kind)
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    nested: dict[str, type[BaseModel]] = {}
    for name, field in kind.model_fields.items():
        nested |= {each.__name__: each for each in classes_in(field.annotation)}
        cells = (type_text(field.annotation) + limits(field.metadata), default_text(field))
        meaning = known.get(name, "").replace("|", "\\|")
        lines.append(f"| `{name}` | {cells[0]} | {cells[1]} | {meaning} |")
    below = [
        f"\nKeys of `{name}`: {first_paragraph(inspect.getdoc(each))}\n\n{table_of(each)}"
        for name, each in nested.items()
    ]
    return "\n".join(lines + below)


@cache
def descriptions(kind: type[BaseModel]) -> dict[str, str]:
    """Return what each key means, in the words of the class that declares it."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, BaseModel) and base not in (BaseModel, Settings):
            declared = vars(base).get("__annotations__", {})
            for name in kind.model_fields:
                text = base.model_fields[name].description if name in declared else None
                if text:
                    found[name] = sentence(text)
    return found


def short_name(kind: type) -> str:
    """Return <package>.<class>, for the messages of tests."""
    return f"{kind.__module__.split('.')[1]}.{kind.__name__}"


def settings_classes() -> list[type[BaseModel]]:
    """Return every settings class of a parameter file, with its bases and nested classes."""
    found: dict[type[BaseModel], None] = {}

    def visit(kind: type[BaseModel]) -> None:
        if kind not in found and kind not in (BaseModel, Settings):
            found[kind] = None
            for base in kind.__bases__:
                if inspect.isclass(base) and issubclass(base, BaseModel):
                    visit(base)
            for field in kind.model_fields.values():
                for each in classes_in(field.annotation):
                    visit(each)

    for family in FAMILIES.values():
        target = family.load()
        for kind in (
            [each.settings for each in target] if isinstance(target, Registry) else [target]
        ):
            visit(kind)
    for item in MODELS:
        visit(item.build.memory_settings)
    visit(preset_file.Preset)
    return list(found)


def sentence(text: str) -> str:
    """Return the text with a capital letter and a full stop."""
    text = " ".join(text.split())
    return text[:1].upper() + text[1:].rstrip(".") + "."


def type_text(annotation: Any) -> str:
    """Return a type as a reader of a parameter file thinks of it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " \\| ".join(f"`{literal(value)}`" for value in arguments)
    if origin is typing.Annotated:
        return type_text(arguments[0]) + limits(annotation.__metadata__)
    if origin in (typing.Union, UnionType):
        return " or ".join(type_text(each) for each in arguments)
    if origin in (tuple, list):
        if origin is list or arguments[1:] == (Ellipsis,):
            return f"list of {type_text(arguments[0])}"
        return "[" + ", ".join(type_text(each) for each in arguments) + "]"
    if origin is dict:
        return f"mapping of {type_text(arguments[0])} to {type_text(arguments[1])}"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", NoneType: "null"}
    return names.get(annotation) or getattr(annotation, "__name__", "any value")


def limits(metadata: Any) -> str:
    """Return the bounds of a value, such as ` (≥ 0)`."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}
    found = [
        f"{sign} {value}"
        for each in metadata
        for key, sign in signs.items()
        if (value := getattr(each, key, None)) is not None
    ]
    return f" ({', '.join(found)})" if found else ""


def classes_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the settings classes that a type mentions."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [each for argument in typing.get_args(annotation) for each in classes_in(argument)]


def default_text(field: Any) -> str:
    """Return the default of a field, or that it is required."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "**required**"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    elif isinstance(value, tuple) and any(isinstance(each, BaseModel) for each in value):
        value = [each.model_dump(mode="json", exclude_defaults=True) for each in value]
    return f"`{literal(value)}`"


def literal(value: Any) -> str:
    """Return a value as YAML writes it in one line."""
    if isinstance(value, tuple):
        value = list(value)
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.strip().removesuffix("...").strip()


def first_paragraph(text: str | None) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join((text or "").split("\n\n")[0].split())


# --- the command line ---------------------------------------------------------------------------


def commands() -> str:
    """Return a section for each command: what it does, its usage and its options."""
    program = typer.main.get_command(app)
    return "\n\n".join(command_section(name, each) for name, each in all_commands(program))


def all_commands(group: Any, prefix: str = "noisyvos") -> list[tuple[str, Any]]:
    """Return every command that does something, with its full name, in the order of the help."""
    found = []
    context = typer.Context(group)
    for name in group.list_commands(context):
        each = group.get_command(context, name)
        full = f"{prefix} {name}"
        found += all_commands(each, full) if hasattr(each, "list_commands") else [(full, each)]
    return found


def command_section(name: str, command: Any) -> str:
    """Return the section of one command."""
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    usage = " ".join([name, *(f"[{each.name.upper()}]" for each in arguments), "[OPTIONS]"])
    lines = [f"## `{name}`", "", inspect.cleandoc(command.help or ""), "", f"    {usage}", ""]
    lines += ["| option | default | meaning |", "| --- | --- | --- |"]
    for each in [*arguments, *options]:
        flags = [*each.opts, *each.secondary_opts] if each in options else [each.name.upper()]
        default = "**required**" if each.required else option_default(each)
        help_text = (getattr(each, "help", None) or "").replace("|", "\\|")
        names = ", ".join(f"`{flag}`" for flag in flags)
        lines.append(f"| {names} | {default} | {help_text} |")
    return "\n".join(lines)


def option_default(option: Any) -> str:
    """Return the default of an option; empty for one that is off or absent."""
    empty = option.default is None or option.default is False or callable(option.default)
    return "" if empty else f"`{option.default}`"


# --- what the parameter files hold --------------------------------------------------------------


def entries(family: str) -> str:
    """Return the entries of a parameter file: name, kind, and the settings that it gives."""
    found = read_entries(PARAMS, family).values()
    kinds = any(each.kind for each in found)
    head = ["entry", *(["kind"] if kinds else []), "settings"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for each in found:
        told = f"`{literal(each.settings)}`".replace("|", "\\|") if each.settings else "defaults"
        cells = [f"`{each.name}`", *([f"`{each.kind}`"] if kinds else []), told]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def counts() -> str:
    """Return the published counts of each split. [r] marks a recalled, unconfirmed count."""
    lines = ["| source | split | counts |", "| --- | --- | --- |"]
    for name, values in read_yaml(PARAMS / "sources.yaml").items():
        for split, numbers in (values.get("published") or {}).items():
            recalled = numbers.get("recalled", [])
            told = [
                f"{key.replace('_', ' ')} {value:,}{' [r]' if key in recalled else ''}"
                for key, value in numbers.items()
                if key != "recalled"
            ]
            lines.append(f"| `{name}` | {split} | {', '.join(told)} |")
    return "\n".join(lines)


def presets() -> str:
    """Return the table of presets, with the number of training cells that each would run."""
    lines = ["| preset | training cells | title | about |", "| --- | --- | --- | --- |"]
    for name in preset_file.preset_names(PARAMS):
        preset = preset_file.read_preset(PARAMS, name)
        plan = CliRunner().invoke(app, ["plan", name, "--params", str(PARAMS)]).output
        count = re.findall(r"training cells: ([\d,]+)", plan)[0]
        lines.append(f"| `{name}` | {count} | {preset.title} | {' '.join(preset.about.split())} |")
    return "\n".join(lines)


# --- the DAG ------------------------------------------------------------------------------------


@cache
def pipeline() -> dict[str, dict[str, Any]]:
    """Return the command of each stage of dvc.yaml, and the paths that it reads and writes."""
    described = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    found = {}
    for name, stage in described.items():
        body = stage.get("do", stage)
        command = " ".join(body["cmd"].split())
        outs = [next(iter(each)) if isinstance(each, dict) else each for each in body["outs"]]
        found[name] = {"command": command, "outs": outs, "deps": body.get("deps", [])}
    return found


def stages() -> str:
    """Return the table of stages: the command of each and what it writes."""
    lines = ["| stage | command | writes |", "| --- | --- | --- |"]
    for name, stage in pipeline().items():
        words = stage["command"].split()
        command = " ".join(words[: 3 if words[1] == "convert" else 2])
        outs = ", ".join(f"`{shown(each)}`" for each in stage["outs"])
        lines.append(f"| `{name}` | `{command}` | {outs} |")
    return "\n".join(lines)


def shown(path: str) -> str:
    """Return a path of dvc.yaml with its axes in angle brackets."""
    return re.sub(r"\$\{(?:item\.)?([a-z_]+)(?:\.name)?\}", r"<\1>", path)


def dag() -> str:
    """Return the graph of the stages as an SVG, one row for each step from the raw data."""
    edges = {name: set(edges_into(name)) for name in pipeline()}
    connected = set().union(*edges.values())
    edges = {name: before for name, before in edges.items() if before or name in connected}
    drawn_edges = shortest(edges)
    row: dict[str, int] = {}
    while len(row) < len(edges):
        for name, before in edges.items():
            if name not in row and before <= set(row):
                row[name] = max((row[each] for each in before), default=-1) + 1
    wide, high, gap_x, gap_y = 118, 28, 14, 34
    most = max(list(row.values()).count(each) for each in row.values())
    width = most * (wide + gap_x) + gap_x
    corner = {}
    for name, place in row.items():
        beside = [each for each in row if row[each] == place]
        left = (width - len(beside) * (wide + gap_x) + gap_x) / 2
        corner[name] = (left + beside.index(name) * (wide + gap_x), place * (high + gap_y) + 4)
    height = max(y for _, y in corner.values()) + high + 4
    drawn = []
    for after, before in drawn_edges.items():
        for each in sorted(before):
            (x0, y0), (x1, y1) = corner[each], corner[after]
            start, end = (x0 + wide / 2, y0 + high), (x1 + wide / 2, y1)
            bend = (y1 - y0) / 2
            drawn.append(
                f'<path class="edge" d="M{start[0]:.0f} {start[1]:.0f} C{start[0]:.0f} '
                f'{start[1] + bend:.0f} {end[0]:.0f} {end[1] - bend:.0f} {end[0]:.0f} {end[1]}"/>'
            )
    drawn += [
        f'<rect class="stage" x="{x:.0f}" y="{y}" width="{wide}" height="{high}" rx="4"/>'
        f'<text x="{x + wide / 2:.0f}" y="{y + high / 2 + 4:.0f}">{name}</text>'
        for name, (x, y) in corner.items()
    ]
    return (
        f'<div class="dag"><svg viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="Graph of the stages">{"".join(drawn)}</svg></div>'
    )


def shortest(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the edges that no longer way through other stages implies.

    A way through `mix` implies nothing: most datasets are not mixed.
    """

    def all_before(name: str) -> set[str]:
        return edges[name].union(*(all_before(each) for each in edges[name] - {"mix"}))

    return {
        name: {
            each
            for each in before
            if not any(each in all_before(other) for other in before - {each, "mix"})
        }
        for name, before in edges.items()
    }


def edges_into(name: str) -> list[str]:
    """Return the stages that write what stage `name` reads."""
    phases = ("pretrain", "pretrain_live", "pretrain_videos")
    return [
        other
        for other, stage in pipeline().items()
        if other != name
        # a phase may start from a phase: drawn, the graph would have a circle
        and not (name in phases and other in (*phases, "train"))
        and any(meets(path, out) for path in pipeline()[name]["deps"] for out in stage["outs"])
    ]


def meets(path: str, out: str) -> bool:
    """Return whether a path that a stage reads may be what another writes, or a folder of it."""
    parts = re.split(r"\$\{[^}]*\}", path)
    if not any(parts):
        return False  # wholly an axis: says nothing
    pattern = ".+".join(re.escape(part) for part in parts) + "(/.+)?"
    return re.fullmatch(pattern, re.sub(r"\$\{[^}]*\}", "x", out)) is not None
