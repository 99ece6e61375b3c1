"""What the source text of the package says: imports, registered kinds, and a digest of the code.

Comments, docstrings and the descriptions of settings do not change a digest. Nothing is imported to
find these facts. They are cached beside the compiled modules by size and time of each file, because
every job asks for them.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from noisyvos import extension
from noisyvos.io.atomic import write_text

PACKAGE = Path(__file__).resolve().parents[1]
NAME = PACKAGE.name
_FORMAT = 4  # raise it when this module finds other facts: the cache is then void
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# the nodes that facts follow from
_TELLING = {ast.Import, ast.ImportFrom, ast.Constant, ast.Call, ast.ClassDef, ast.If}
_MODULE = re.compile(rf"{NAME}(\.\w+)+")
_FILE = re.compile(r"[\w./-]+\.\w+")


@dataclass(frozen=True)
class Facts:
    """What one source file says.

    imports: names that may be modules of the package, from anywhere in the file.
    registers: registered name -> settings class.
    registries: packages that a registry of this file imports at run time.
    builds: class -> setting -> (package of a registry, default), for settings that name a kind.
    words: file names in the text.
    """

    digest: str
    imports: list[str] = field(default_factory=list)
    registers: dict[str, str] = field(default_factory=dict)
    registries: list[str] = field(default_factory=list)
    builds: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)


def package_facts(package: Path = PACKAGE) -> dict[str, Facts]:
    """Return the facts of every module of the package by its dotted name.

    A method from outside (`noisyvos.extension`) is one more module.
    """
    outside = extension.method_file() if package == PACKAGE else None
    if outside is None:
        return _package_facts(package)
    text = outside.read_text(encoding="utf-8")
    return _package_facts(package) | {extension.MODULE: read_facts(text, extension.MODULE)}


@cache
def _package_facts(package: Path) -> dict[str, Facts]:
    store = package / "__pycache__" / "source_facts.json"
    kept = _kept(store)
    found, stamps = {}, {}
    for path in sorted(package.rglob("*.py")):
        status = path.stat()
        name, stamp = module_name(path, package), [status.st_size, status.st_mtime_ns]
        before = kept.get(name)
        if before is not None and before["stamp"] == stamp:
            found[name] = Facts(**before["facts"])
        else:
            found[name] = read_facts(path.read_text(encoding="utf-8"), name, _is_package(path))
        stamps[name] = stamp
    if {name: entry["stamp"] for name, entry in kept.items()} != stamps:
        entries = {
            name: {"stamp": stamps[name], "facts": asdict(facts)} for name, facts in found.items()
        }
        with suppress(OSError):  # an installed package may be read-only: then the files are read
            write_text(store, json.dumps({"format": _FORMAT, "modules": entries}))
    return found


def module_name(path: Path, package: Path = PACKAGE) -> str:
    """Return the dotted name of a source file; `__init__.py` has the name of its package."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if _is_package(path) else parts)


def read_facts(text: str, module: str, is_package: bool = False) -> Facts:
    """Return the facts of one source text."""
    digest, nodes = _digest(ast.parse(text))
    skipped = {id(node) for node in _for_types_only(nodes)}
    facts = Facts(digest)
    imports: dict[str, None] = {}
    words: dict[str, None] = {}
    for node in nodes:
        match node:
            case ast.Import(names=names) if id(node) not in skipped:
                imports |= dict.fromkeys(alias.name for alias in names)
            case ast.ImportFrom(module=source, names=names, level=level) if id(node) not in skipped:
                base = _absolute(source, level, module, is_package)
                imports |= dict.fromkeys([base, *(f"{base}.{alias.name}" for alias in names)])
            case ast.Constant(value=str(value)):
                if _MODULE.fullmatch(
                    value
                ):  # a module named in words: import_module, PackageLoader
                    imports[value] = None
                elif len(value) < 100 and _FILE.fullmatch(value):
                    words[value] = None
            case ast.Call(
                func=ast.Attribute(attr="register"), args=[ast.Constant(value=str(name)), *more]
            ):
                facts.registers[name] = more[0].id if more and isinstance(more[0], ast.Name) else ""
            case ast.Call(
                func=ast.Name(id=made), args=[_, ast.Constant(value=str(package)), *_]
            ) if made.endswith("Registry"):
                facts.registries.append(package)
            case ast.ClassDef():
                built = _builds(node)
                if built:
                    facts.builds[node.name] = built
    facts.imports.extend(name for name in imports if name.partition(".")[0] == NAME)
    facts.words.extend(words)
    return facts


def _digest(tree: ast.AST) -> tuple[str, list[ast.AST]]:
    """Return a hash of a syntax tree, equal in all supported Python versions, and its _TELLING.

    The hash leaves out docstrings, comments and descriptions of settings.
    """
    text: list[str] = []
    nodes: list[ast.AST] = []
    _read(tree, text, nodes)
    return hashlib.sha256("".join(text).encode("utf-8", "surrogatepass")).hexdigest(), nodes


def _read(node: ast.AST, text: list[str], nodes: list[ast.AST]) -> None:
    """Append the text of a tree and its nodes of _TELLING, in one pass: a fresh clone reads all.

    The text has no positions, docstrings, descriptions and empty fields. A
    `Field(description=...)` explains a setting and changes no result. Newer versions of Python add
    empty fields.
    """
    kind = node.__class__
    if kind in _TELLING:
        nodes.append(node)
    if kind is ast.Constant:
        text.append(f"{node.value!r};")  # type: ignore[attr-defined]
        return
    text.append(f"{kind.__name__}(")
    for name in kind._fields:
        value: Any = getattr(node, name, None)
        if name == "body" and kind in _DOCUMENTED and _has_docstring(node):
            nodes += (below for below in ast.walk(value[0]) if below.__class__ in _TELLING)
            value = value[1:]
        elif name == "keywords" and _declares_field(node):
            told = [each for each in value if each.arg == "description"]
            nodes += (each for below in told for each in ast.walk(below) if type(each) in _TELLING)
            value = [each for each in value if each.arg != "description"]
        if value is None or value == []:
            continue
        if isinstance(value, ast.expr_context):  # of every name: most of all nodes
            text.append(f"{name}={value.__class__.__name__}()")
        elif isinstance(value, ast.AST):
            text.append(f"{name}=")
            _read(value, text, nodes)
        elif isinstance(value, list):
            text.append(f"{name}=")
            for item in value:
                if isinstance(item, ast.AST):
                    _read(item, text, nodes)
                else:
                    text.append(f"{item!r};")
            text.append(".")
        else:
            text.append(f"{name}={value!r};")
    text.append(")")


def _has_docstring(node: Any) -> bool:
    return ast.get_docstring(node, clean=False) is not None


def _declares_field(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Field"
    )


def _for_types_only(nodes: list[ast.AST]) -> Iterator[ast.AST]:
    """Yield what is below `if TYPE_CHECKING:`, which never runs."""
    for node in nodes:
        if (
            isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
        ):
            for statement in node.body:
                yield from ast.walk(statement)


def _absolute(source: str | None, level: int, module: str, is_package: bool) -> str:
    if not level:
        return source or ""
    parts = module.split(".")
    base = parts[: len(parts) - level + is_package]
    return ".".join([*base, *([source] if source else [])])


def _builds(node: ast.ClassDef) -> dict[str, list[str]]:
    """Return the class's `builds`: setting -> package of a registry, with the defaults."""
    values = {
        statement.target.id: statement.value
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    declared = values.get("builds")
    if not isinstance(declared, ast.Dict):
        return {}
    found = {}
    for setting, package in ast.literal_eval(declared).items():
        default = values.get(setting)
        if isinstance(default, ast.Call) and _declares_field(default):
            default = _default_of(default)
        known = isinstance(default, ast.Constant) and isinstance(default.value, str)
        found[setting] = [package, default.value if known else ""]  # type: ignore[union-attr]
    return found


def _default_of(field: ast.Call) -> ast.expr | None:
    """Return the default that a call of `Field` gives."""
    named = [each.value for each in field.keywords if each.arg == "default"]
    return next(iter([*field.args, *named]), None)


def _is_package(path: Path) -> bool:
    return path.name == "__init__.py"


def _kept(store: Path) -> dict[str, Any]:
    try:
        content = json.loads(store.read_text(encoding="utf-8"))
        return content["modules"] if content["format"] == _FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
