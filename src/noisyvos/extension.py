"""One file from outside the package that registers a training method.

`noisyvos compare my_method.py` names it in the environment, so every process of the run sees it.
The file then counts as one more module of the package of methods, and methods.yaml as if it had an
entry of the method's name without settings. Nothing is written into the package or params/.
"""

import ast
import importlib.util
import os
import sys
from pathlib import Path

from noisyvos.errors import UserError

VARIABLE = "NOISYVOS_METHOD_FILE"
PACKAGE = "noisyvos.methods.kinds"
MODULE = f"{PACKAGE}.from_outside"


def method_file() -> Path | None:
    """Return the file that the environment names; None without one."""
    named = os.environ.get(VARIABLE, "")
    return Path(named) if named else None


def method_name(path: Path) -> str:
    """Return the name of the one method that a file registers, without importing the file.

    UserError if the file is missing or not Python, or registers none or several.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file. Name the Python file of your method.")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: this is not Python ({error}).") from None
    names = [
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "register"
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "METHODS"
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    ]
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise UserError(
            f"{path}: the file must register one method (`@METHODS.register(NAME, SETTINGS)`); "
            f"found: {found}."
        )
    return names[0]


def load() -> None:
    """Import the file that the environment names; UserError if it cannot be imported."""
    path = method_file()
    if path is None or MODULE in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(MODULE, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: this is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[MODULE]
        raise UserError(f"{path}: the file fails: {type(error).__name__}: {error}") from error
