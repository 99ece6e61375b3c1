"""What is registered, read from the source text: names and files without importing torch or anything else that is slow."""

import ast
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

_SOURCE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Family:
    """One parameter file and what validates its entries: a registry (by `kind`) or one settings class for all."""

    file: str  # params/<file>.yaml
    what: str  # what one entry is called in messages
    target: str  # "module:object", a Registry or a Settings class
    package: str = (
        ""  # folder of the registered modules, below the package; empty for a settings class
    )

    def load(self) -> Any:
        """Import and return the registry or settings class; this may import torch."""
        module, _, name = self.target.partition(":")
        return getattr(import_module(module), name)

    def kinds(self) -> dict[str, str]:
        """Return each registered kind and the file or folder (from the repository root) that a result of it depends on."""
        return _registered(self.package) if self.package else {}


FAMILIES = {
    family.file: family
    for family in (
        Family("sources", "source", "noisyvos.raw.base:SOURCES", "raw/kinds"),
        Family("datasets", "dataset", "noisyvos.datasets.base:DATASETS", "datasets/kinds"),
        Family("synth", "recipe", "noisyvos.synth.recipe:RECIPES", "synth/kinds"),
        Family("noise", "noise setting", "noisyvos.noise.base:NOISE", "noise/kinds"),
        Family("models", "model", "noisyvos.models.base:MODELS", "models"),
        Family("methods", "method", "noisyvos.methods.base:METHODS", "methods/kinds"),
        Family(
            "corruptions",
            "image corruption",
            "noisyvos.corruptions.base:CORRUPTIONS",
            "corruptions/kinds",
        ),
        Family("train", "schedule", "noisyvos.training.schedule:Schedule"),
        Family("eval", "evaluation setting", "noisyvos.inference.settings:Evaluation"),
    )
}


@cache
def _registered(package: str) -> dict[str, str]:
    root = _SOURCE / package
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="register"), args=[ast.Constant(value=str(name)), *_]
                ):
                    # an item that is a folder of modules depends on all of them
                    owner = root / path.relative_to(root).parts[0]
                    found[name] = f"src/noisyvos/{package}/{owner.name}"
    return dict(sorted(found.items()))
