"""Which code a result depends on, computed from the source text.

Snakemake, DVC, checkpoints and training summaries all use these functions.

The closure of a stage holds every module that its module imports, directly or through others, also
inside functions. A registry imports all modules of its package at run time; a closure does not
follow it. Instead a cell adds the closures of the kinds that it names. Where a stage reaches a
registry that its cells do not choose from, it depends on all kinds of this registry, unless STAGES
declares the registry unused.

`data/code.json` holds one hash for each stage and each entry of the parameter files. Both engines
treat these hashes as parameters of a job.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from noisyvos import extension
from noisyvos.errors import UserError, unknown_name
from noisyvos.io.atomic import write_if_other, write_text
from noisyvos.io.files import check_regular
from noisyvos.params.entries import read_family
from noisyvos.pipeline.catalog import FAMILIES
from noisyvos.pipeline.source_facts import NAME, PACKAGE, Facts, package_facts

CODE_FILE = "data/code.json"
KEPT_CODE = "scratch/code"  # module hashes of each state of the code that ran here

# Code that cannot change a result. A package covers all its modules. Closures do not follow the
# imports of these modules either.
EXCLUDED = (
    f"{NAME}.__init__",  # the version number
    f"{NAME}.cli",  # reads arguments and calls a stage
    f"{NAME}.errors",  # text of messages
    f"{NAME}.extension",  # finds a file whose own code counts
    f"{NAME}.garbage",  # when memory is given back
    f"{NAME}.parallel",  # the number of processes never changes a byte
    f"{NAME}.pipeline",  # decides what runs, not what a run writes
    f"{NAME}.tracking",  # MLflow shows results and never feeds back
    f"{NAME}.training.monitor",  # progress bar, speed, a profile of a few iterations
    f"{NAME}.watching",  # shows what runs
)


@dataclass(frozen=True)
class Stage:
    """Where a stage begins, and which registries its cells choose from.

    families: parameter files whose entries a cell names. unused: families that its modules could
    look up, but never do when the pipeline runs the stage.
    """

    families: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


STAGES: dict[str, tuple[str, Stage]] = {
    "generate": ("generate", Stage(("sources",))),
    "download": ("download", Stage(("sources",))),
    "convert": ("convert", Stage(("datasets",))),
    "synth": ("synth", Stage(("synth",))),
    "noise": ("noise", Stage(("noise",))),
    "scribbles": ("scribbles", Stage(("noise",))),
    # clips come ready-made from `synth`; `pretrain_live` makes them in training
    "start": ("start", Stage(("models", "starts"))),
    "submit": ("submit", Stage()),
    "pretrain": ("pretrain", Stage(("models", "methods", "train"), unused=("synth",))),
    "pretrain_live": ("pretrain", Stage(("models", "methods", "train", "synth"))),
    "train": ("train", Stage(("models", "methods", "train"), unused=("synth",))),
    # `--baseline` copies masks: no network, no corruption
    "baseline": ("infer", Stage((), unused=("models", "corruptions"))),
    "infer": ("infer", Stage(("models",), unused=("corruptions",))),
    "infer_disturbed": ("infer", Stage(("models", "corruptions"))),
    "score": ("score", Stage()),
    "tables": ("tables", Stage()),
    "figures": ("figures", Stage()),
    "report": ("report", Stage()),
}


class Code:
    """The modules of the package and the closures among them."""

    def __init__(self, facts: Mapping[str, Facts], package: Path = PACKAGE) -> None:
        self.facts = facts
        self.package = package
        self._direct: dict[str, frozenset[str]] = {}
        self._kinds: dict[str, list[str]] = {}

    def closure(self, roots: Iterable[str]) -> frozenset[str]:
        """Return these modules and all they import, without EXCLUDED."""
        found: set[str] = set()
        waiting = [name for name in roots if not _excluded(name)]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += [other for other in self._imports(name) if other not in found]
        return frozenset(found)

    def stage(self, stage: str) -> frozenset[str]:
        """Return the closure of a stage, without the kinds that its cells choose."""
        if stage not in STAGES:
            raise unknown_name("stage", stage, STAGES)
        module, about = STAGES[stage]
        root = f"{NAME}.stages.{module}"
        if root not in self.facts:
            raise UserError(f"{self.package}: the module {root} of stage {stage!r} is missing.")
        known = {FAMILIES[family].package for family in (*about.families, *about.unused)}
        known |= {package for family in about.families for package in self._chosen_by(family)}
        found = self.closure([root])
        while True:  # a kind may bring in another registry
            reached = {package for name in found for package in self.facts[name].registries} - known
            if not reached:
                return found
            known |= reached
            found |= self.closure(
                module for package in reached for module in self._kind_modules(package)
            )

    def entry(self, family: str, name: str, entry: Mapping[str, Any]) -> frozenset[str]:
        """Return the closure of an entry: of its `kind` and of the kinds that its settings name."""
        about = FAMILIES[family]
        if not about.package:
            module, _, settings = about.target.partition(":")
            return self._named(module, settings, entry)
        return self._kind(about.package, str(entry.get("kind", name)), entry)

    def hash(self, modules: Iterable[str]) -> str:
        """Return a hash of the code of these modules and of the data files that they name."""
        digest = hashlib.sha256()
        for name in sorted(modules):
            digest.update(f"{name}\0{self.facts[name].digest}\n".encode())
            for path in self.data_files(name):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{path.name}\0{content}\n".encode())
        return digest.hexdigest()[:20]

    def data_files(self, module: str) -> list[Path]:
        """Return the package's files that are not Python and that a module names, as a template."""
        words = self.facts[module].words
        return [path for path in _data_files(self.package) if path.name in words]

    def table(self, params: Path) -> dict[str, dict[str, str]]:
        """Return one hash for every stage and for every entry of each family with kinds."""
        found = {"stages": {stage: self.hash(self.stage(stage)) for stage in STAGES}}
        chosen = dict.fromkeys(family for _, about in STAGES.values() for family in about.families)
        known: dict[frozenset[str], str] = {}
        for family in chosen:
            found[family] = {}
            for name, entry in read_family(params, family).items():
                modules = self.entry(family, name, entry)
                if modules not in known:
                    known[modules] = self.hash(modules)
                found[family][name] = known[modules]
        return found

    def _kind(self, package: str, kind: str, entry: Mapping[str, Any]) -> frozenset[str]:
        modules = [
            name for name in self._kind_modules(package) if kind in self.facts[name].registers
        ]
        found = self.closure(modules)
        for module in modules:
            found |= self._named(module, self.facts[module].registers[kind], entry)
        return found

    def _named(self, module: str, settings: str, entry: Mapping[str, Any]) -> frozenset[str]:
        """Return the closures of the kinds that settings name, by the `builds` of their class."""
        found: frozenset[str] = frozenset()
        for setting, (package, default) in self.facts[module].builds.get(settings, {}).items():
            kind = str(entry.get(setting, default))
            inner = entry.get("settings", {})
            found |= self._kind(package, kind, inner if isinstance(inner, Mapping) else {})
        return found

    def _kind_modules(self, package: str) -> list[str]:
        if package not in self._kinds:
            self._kinds[package] = [
                name
                for name, facts in self.facts.items()
                if name.startswith(f"{package}.") and facts.registers
            ]
        return self._kinds[package]

    def _chosen_by(self, family: str) -> set[str]:
        """Return the packages of the registries that settings of a family's entries choose from."""
        about = FAMILIES[family]
        if about.package:
            modules = self._kind_modules(FAMILIES[family].package)
        else:
            modules = [about.target.partition(":")[0]]
        return {
            package
            for module in modules
            for settings in self.facts[module].builds.values()
            for package, _ in settings.values()
        }

    def _imports(self, module: str) -> frozenset[str]:
        if module not in self._direct:
            found: set[str] = set()
            for name in [module, *self.facts[module].imports]:
                parts = name.split(".")
                found |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
            self._direct[module] = frozenset(
                name for name in found if name in self.facts and not _excluded(name)
            )
        return self._direct[module]


def code() -> Code:
    """Return the code of this installation."""
    return Code(package_facts())


def code_hash(stage: str, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the hash of all code that a result of `stage` depends on.

    entries: family -> the entry that the cell names, with its `kind`.
    """
    found = code()
    modules = found.stage(stage)
    for family, entry in entries.items():
        modules |= found.entry(family, "", entry)
    return found.hash(modules)


def modules_of(name: str, params: Path) -> list[str]:
    """Return the modules behind one name of data/code.json, as stages.train or methods.smart."""
    family, _, entry = name.partition(".")
    if family == "stages":
        return sorted(code().stage(entry))
    if family not in FAMILIES:
        raise unknown_name("kind of name", family, ["stages", *FAMILIES])
    entries = read_family(params, family)
    if entry not in entries:
        raise unknown_name(f"name in {family}.yaml:", entry, entries)
    return sorted(code().entry(family, entry, entries[entry]))


def refresh(
    path: Path = Path(CODE_FILE), params: Path = Path("params")
) -> dict[str, dict[str, str]]:
    """Bring the file of hashes up to date and return its content.

    An equal file is left alone, so that its time does not change. The content is cached in
    scratch/code.json by the sources and parameter files that it follows from, because every job
    whose process reads the Snakefile asks for it. The hashes of single modules are kept in
    scratch/code, so that `noisyvos why` can name the module that changed.
    """
    store, stamp = params.parent / "scratch" / "code.json", _stamp(params)
    table = None
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(store.read_text(encoding="utf-8"))
        table = kept["table"] if kept["stamp"] == stamp else None
    if table is None:
        table = code().table(params)
        with suppress(OSError):  # a cache only
            write_text(store, json.dumps({"stamp": stamp, "table": table}))
    text = json.dumps(table, indent=1, sort_keys=True) + "\n"
    of_package = extension.method_file() is None  # else the table is of this run alone
    if of_package:
        write_if_other(path, text)
    _keep_modules(params.parent / KEPT_CODE, text)
    return table


def module_hashes(found: Code) -> dict[str, str]:
    """Return a hash of each module that can change a result, with the data files it names."""
    return {name: found.hash([name]) for name in found.facts if not _excluded(name)}


def _keep_modules(folder: Path, text: str) -> None:
    """Keep the hashes of all modules under the hash of the text of CODE_FILE."""
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
    if path.is_file():
        return
    content = {"table": json.loads(text), "modules": module_hashes(code())}
    with suppress(OSError):  # a help for `why`, which must not stop a run
        write_text(path, json.dumps(content, sort_keys=True))


def _stamp(params: Path) -> str:
    """Return a hash of all that the table of `refresh` follows from."""
    digest = hashlib.sha256()
    for module, facts in package_facts().items():
        digest.update(f"{module}\0{facts.digest}\n".encode())
    for file in [*_data_files(PACKAGE), *sorted(params.glob("*.yaml"))]:
        if file.name != "cells.yaml":
            check_regular(file)
            digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _excluded(module: str) -> bool:
    if module == NAME:
        return f"{NAME}.__init__" in EXCLUDED
    return any(module == name or module.startswith(f"{name}.") for name in EXCLUDED)


@cache
def _data_files(package: Path) -> tuple[Path, ...]:
    return tuple(
        path
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".py", ".pyc")
    )
