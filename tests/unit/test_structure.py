"""Rules of the source tree that no single module shows: sizes, circles, and who may import whom."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "noisyvos"
KINDS = ("raw", "datasets", "synth", "noise", "methods", "corruptions")


def modules() -> dict[str, Path]:
    """Return the file of every module by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: set[str]) -> set[str]:
    """Return the modules of the package that a module imports, in functions and for type hints."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            inner = {f"{module}.{alias.name}" for alias in node.names}
            found |= inner & known
            if not inner <= known:  # a name of the module itself
                found.add(module)
    return (found & known) - {name}


@cache
def graph() -> dict[str, set[str]]:
    """Return what every module imports."""
    files = modules()
    return {name: imports(name, path, set(files)) for name, path in files.items()}


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other (Tarjan 1972, strong components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(edges[name]):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            at = stack.index(name)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                found.append(sorted(group))

    for name in edges:
        if name not in order:
            visit(name)
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_no_module_imports_itself_through_others() -> None:
    assert not circles(graph())


def test_stages_do_not_import_stages() -> None:
    stages = {
        name: {other for other in found if other.startswith("noisyvos.stages.")}
        for name, found in graph().items()
        if name.startswith("noisyvos.stages.")
    }
    assert len(stages) > 10
    assert not {name: found for name, found in stages.items() if found}


def test_kinds_do_not_import_kinds() -> None:
    for family in KINDS:
        package = f"noisyvos.{family}.kinds."
        kinds = {name: found for name, found in graph().items() if name.startswith(package)}
        assert kinds, family
        wrong = {
            name: found for name, found in kinds.items() for other in found if package in other
        }
        assert not wrong


def test_a_module_can_be_read_at_once() -> None:
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in modules().items()}
    assert not {name: count for name, count in lines.items() if count > 400}
