"""What dvc.yaml says, in the form Snakemake rules want it: nothing about a stage is written twice.

A stage of dvc.yaml runs `foreach` cell of params/cells.yaml (or once, if it has no `foreach`); the rule of the same name
has the one wildcard `key`. An output without a suffix is a folder. A dependency on a folder that other stages write
into stands for everything the cells write there.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from noisyvos.errors import UserError
from noisyvos.pipeline.grid import read_cells

_PLACE = re.compile(r"\$\{\s*([\w.]+)\s*\}")
ANY_KEY = "[a-z0-9_-]+"
ONCE = "all"  # the key of a stage without cells


@dataclass(frozen=True)
class Job:
    """One stage of one cell as DVC resolves it."""

    stage: str
    key: str
    command: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[tuple[str, tuple[str, ...]], ...]  # (file, names); no names: the whole file

    @property
    def name(self) -> str:
        """What DVC calls it."""
        return self.stage if self.key == ONCE else f"{self.stage}@{self.key}"


@dataclass
class Pipeline:
    """All jobs of dvc.yaml for the cells that are active now."""

    root: Path
    cells: dict[str, Any]
    stages: dict[str, dict[str, Any]]
    jobs: dict[str, dict[str, Job]] = field(default_factory=dict)
    _below: dict[str, list[str]] = field(default_factory=dict)  # folder -> outputs of jobs below it
    _params: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, content in self.stages.items():
            self.jobs[name] = {
                key: self._resolve(name, content.get("do", content), key, item)
                for key, item in self._items(name, content)
            }
        for job in self:
            for out in job.outs:
                for folder in PurePosixPath(out).parents:
                    self._below.setdefault(str(folder), []).append(out)

    def __iter__(self) -> Iterator[Job]:
        return (job for jobs in self.jobs.values() for job in jobs.values())

    def __getitem__(self, stage: str) -> "Rule":
        return Rule(self, stage)

    def outputs(self, stages: list[str]) -> list[str]:
        """Return every output of these stages."""
        return [out for stage in stages for job in self.jobs[stage].values() for out in job.outs]

    def inputs(self, job: Job) -> list[str]:
        """Return the files and folders a job waits for: its dependencies, folders spelled out where several jobs fill them."""
        found: list[str] = []
        for dep in job.deps:
            path = self.root / dep
            if dep in self._below:
                found += sorted(self._below[dep])
            elif dep.startswith("src/") and path.is_dir():
                found += sorted(
                    file.relative_to(self.root).as_posix() for file in path.rglob("*.py")
                )
            else:
                found.append(dep)
        return list(dict.fromkeys(found))

    def tracked(self, job: Job) -> str:
        """Return the parameter values a job depends on, as text: a change of it makes the job stale, as in DVC."""
        values = {}
        for file, names in job.params:
            content = self._read(file)
            values[file] = {name: content.get(name) for name in names} if names else content
        return json.dumps(values, sort_keys=True)

    def _items(self, name: str, content: dict[str, Any]) -> list[tuple[str, Any]]:
        if "foreach" not in content:
            return [(ONCE, None)]
        match = _PLACE.fullmatch(str(content["foreach"]))
        if match is None:
            raise UserError(
                f"dvc.yaml: stage {name!r}: `foreach` must be ${{...}}, a section of the grid."
            )
        return [
            (str(key), item) for key, item in (_look_up(self.cells, match[1], name) or {}).items()
        ]

    def _resolve(self, stage: str, do: dict[str, Any], key: str, item: Any) -> Job:
        context = {**self.cells, "key": key, "item": item}

        def fill(text: Any) -> str:
            return _PLACE.sub(lambda match: _text(_look_up(context, match[1], stage)), str(text))

        params = [_params_entry(entry) for entry in do.get("params", [])]
        return Job(
            stage,
            key,
            " ".join(fill(do["cmd"]).split()),
            tuple(dict.fromkeys(fill(dep) for dep in do.get("deps", []))),
            tuple(fill(out) for out in do.get("outs", [])),
            tuple((fill(file), tuple(fill(name) for name in names)) for file, names in params),
        )

    def _read(self, file: str) -> dict[str, Any]:
        if file not in self._params:
            self._params[file] = (
                yaml.safe_load((self.root / file).read_text(encoding="utf-8")) or {}
            )
        return self._params[file]


@dataclass(frozen=True)
class Rule:
    """What the Snakemake rule of one stage is made of."""

    pipeline: Pipeline
    stage: str

    @property
    def outs(self) -> list[str]:
        """The output patterns, with the wildcard `key`; a stage without cells has plain paths."""
        content = self.pipeline.stages[self.stage]
        do = content.get("do", content)
        context = {**self.pipeline.cells, "key": "{key}"}
        return [
            _PLACE.sub(lambda match: _text(_look_up(context, match[1], self.stage)), out)
            for out in do["outs"]
        ]

    @property
    def folders(self) -> list[str]:
        """The output patterns that are folders."""
        return [out for out in self.outs if not PurePosixPath(out).suffix]

    @property
    def files(self) -> list[str]:
        """The output patterns that are files."""
        return [out for out in self.outs if PurePosixPath(out).suffix]

    @property
    def keys(self) -> str:
        """A pattern for the wildcard `key`: any key, except where two stages write alike (then exactly the cells of the smaller one).

        Snakemake reads the pattern of an output thousands of times, so that thousands of cells must not be spelled out.
        """
        cells = self.pipeline.jobs[self.stage]
        if not cells:
            return "(?!)"  # matches nothing
        rivals = [
            Rule(self.pipeline, name)
            for name in self.pipeline.stages
            if name != self.stage and self.pipeline.jobs[name]
        ]
        rivals = [rule for rule in rivals if set(rule.outs) & set(self.outs)]
        others = {key for rule in rivals for key in self.pipeline.jobs[rule.stage]}
        if not others:
            return ANY_KEY
        return (
            _alternatives(cells)
            if len(cells) < len(others)
            else f"(?!(?:{_alternatives(others)})(?:[./]|$)){ANY_KEY}"
        )

    @property
    def inputs(self) -> Callable[[Any], list[str]]:
        """The input function."""
        return lambda wildcards: self.pipeline.inputs(self._job(wildcards))

    @property
    def command(self) -> Callable[[Any], str]:
        """The function that gives the command, exactly as DVC runs it."""
        return lambda wildcards: self._job(wildcards).command

    @property
    def tracked(self) -> Callable[[Any], str]:
        """The function that gives the parameter values the job depends on."""
        return lambda wildcards: self.pipeline.tracked(self._job(wildcards))

    def _job(self, wildcards: Any) -> Job:
        return self.pipeline.jobs[self.stage][getattr(wildcards, "key", ONCE)]


@cache
def load(root: Path = Path()) -> Pipeline:
    """Return the pipeline of the repository at `root`: dvc.yaml with the cells of params/cells.yaml."""
    content = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    return Pipeline(root, read_cells(root / "params" / "cells.yaml"), content["stages"])


def refuse_declared(preset: dict[str, Any]) -> None:
    """Raise UserError if the grid names things that do not exist yet: it can be dry-run, not run."""
    if preset.get("missing"):
        raise UserError(
            f"Preset {preset['name']!r} can only be dry-run, because it needs: {', '.join(preset['missing'])}."
        )


def _look_up(context: dict[str, Any], path: str, stage: str) -> Any:
    value: Any = context
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            raise UserError(
                f"dvc.yaml: stage {stage!r}: ${{{path}}} is not in the grid. An output may only use ${{key}} and ${{preset...}}."
            )
        value = value[part]
    return value


def _alternatives(keys: Iterable[str]) -> str:
    return "|".join(re.escape(key) for key in sorted(keys))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)  # as DVC writes them


def _params_entry(entry: Any) -> tuple[str, tuple[str, ...]]:
    if isinstance(entry, str):
        return "params.yaml", (entry,)
    ((file, names),) = entry.items()
    return file, tuple(names or ())
