"""What is registered, read from the source text: names and modules, without slow imports."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from noisyvos.pipeline.source_facts import NAME, package_facts


@dataclass(frozen=True)
class Family:
    """One parameter file, and the registry or settings class that validates its entries."""

    file: str  # params/<file>.yaml
    what: str  # what one entry is called in messages
    target: str  # "module:object", a Registry or a Settings class
    package: str = ""  # package of the registered modules; empty for a settings class

    def load(self) -> Any:
        """Import and return the registry or settings class; this may import torch."""
        module, _, name = self.target.partition(":")
        return getattr(import_module(module), name)

    def kinds(self) -> dict[str, str]:
        """Return each registered kind with the module that registers it."""
        if not self.package:
            return {}
        return {
            kind: module
            for kind, module in sorted(
                (kind, module)
                for module, facts in package_facts().items()
                if module.startswith(f"{self.package}.")
                for kind in facts.registers
            )
        }


def _registry(file: str, what: str, target: str, package: str) -> Family:
    return Family(file, what, f"{NAME}.{target}", f"{NAME}.{package}")


FAMILIES = {
    family.file: family
    for family in (
        _registry("sources", "source", "raw.base:SOURCES", "raw.kinds"),
        _registry("datasets", "dataset", "datasets.base:DATASETS", "datasets.kinds"),
        _registry("synth", "recipe", "synth.recipe:RECIPES", "synth.kinds"),
        _registry("noise", "noise setting", "noise.base:NOISE", "noise.kinds"),
        _registry("models", "model", "models.base:MODELS", "models"),
        _registry("methods", "method", "methods.base:METHODS", "methods.kinds"),
        _registry(
            "corruptions", "image corruption", "corruptions.base:CORRUPTIONS", "corruptions.kinds"
        ),
        _registry("starts", "start", "starts.base:STARTS", "starts.kinds"),
        Family("train", "schedule", f"{NAME}.training.schedule:Schedule"),
        Family("eval", "evaluation setting", f"{NAME}.inference.settings:Evaluation"),
    )
}
