"""dvc.yaml in the form that Snakemake rules need, so that nothing about a stage is written twice.

A stage of dvc.yaml runs for each cell of a section of the grid, or once without `foreach`. The rule
of the same name has one wildcard, `key`. An output without a suffix is a folder. A dependency on a
folder that other stages write into means everything that the cells write there.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from noisyvos import extension
from noisyvos.errors import UserError
from noisyvos.pipeline import code_deps
from noisyvos.pipeline.cells import CELLS, load_cells, yaml_loader
from noisyvos.pipeline.outside import only_method, own_places

_PLACE = re.compile(r"\$\{\s*([\w.]+)\s*\}")
ANY_KEY = "[a-z0-9_-]+"
ONCE = "all"  # the key of a stage without cells
CODE_STAGE = "code"  # runs in DVC alone: the Snakefile brings its file up to date itself


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


class Template:
    """A text with ${...} places, taken apart once and filled for many cells."""

    def __init__(self, text: Any, stage: str) -> None:
        parts = _PLACE.split(str(text))
        self._stage = stage
        self._texts = parts[::2]
        self._places = [place.split(".") for place in parts[1::2]]

    def fill(self, context: dict[str, Any]) -> str:
        """Return the text with the values of `context`; UserError for a place it does not have."""
        found = [self._texts[0]]
        for place, text in zip(self._places, self._texts[1:], strict=True):
            found += (_text(_look_up(context, place, self._stage)), text)
        return "".join(found)


@dataclass
class Pipeline:
    """All jobs of dvc.yaml for the cells of one grid."""

    root: Path
    cells: dict[str, Any]
    stages: dict[str, dict[str, Any]]
    place: Callable[[str], str] = str  # changes paths in commands, dependencies and outputs
    jobs: dict[str, dict[str, Job]] = field(default_factory=dict)
    _below: dict[str, list[str]] = field(default_factory=dict)  # folder -> outputs of jobs below it
    _params: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._params[CELLS] = self.cells
        for name, content in self.stages.items():
            self.jobs[name] = dict(self._resolved(name, content))
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
        """Return the files and folders a job waits for.

        These are its dependencies. A folder that several jobs fill is replaced by their outputs.
        """
        found: list[str] = []
        for dep in job.deps:
            found += sorted(self._below[dep]) if dep in self._below else [dep]
        return list(dict.fromkeys(found))

    def tracked(self, job: Job) -> str:
        """Return the parameter values of a job as text, hashes of its code included.

        A change of this text makes the job stale, as a change of the values does in DVC.
        """
        values: dict[str, Any] = {}
        for file, names in job.params:
            content = self._read(file)
            values[file] = {name: _value(content, name) for name in names} if names else content
        return json.dumps(values, sort_keys=True)

    def cells_of(self, stage: str) -> dict[str, Any]:
        """Return the cells of a stage by key; a stage without cells has one, without settings."""
        return {key: item or {} for key, item in self._items(stage, self.stages[stage])}

    def parameters(self, file: str) -> dict[str, Any]:
        """Return the content of a parameter file, read once."""
        return self._read(file)

    def set_parameters(self, file: str, content: dict[str, Any]) -> None:
        """Take `content` in place of a parameter file."""
        self._params[file] = content

    def _resolved(self, stage: str, content: dict[str, Any]) -> Iterator[tuple[str, Job]]:
        """Yield each key of a stage with its job."""
        do = content.get("do", content)
        command, deps, outs = (
            Template(do["cmd"], stage),
            [Template(dep, stage) for dep in do.get("deps", [])],
            [Template(_path(out), stage) for out in do.get("outs", [])],
        )
        params = [
            (Template(file, stage), [Template(name, stage) for name in names])
            for file, names in map(_params_entry, do.get("params", []))
        ]
        context = dict(self.cells)
        for key, item in self._items(stage, content):
            context |= {"key": key, "item": item}
            yield (
                key,
                Job(
                    stage,
                    key,
                    " ".join(self.place(command.fill(context)).split()),
                    tuple(dict.fromkeys(self.place(dep.fill(context)) for dep in deps)),
                    tuple(self.place(out.fill(context)) for out in outs),
                    _merged(
                        (file.fill(context), tuple(name.fill(context) for name in names))
                        for file, names in params
                    ),
                ),
            )

    def _items(self, stage: str, content: dict[str, Any]) -> list[tuple[str, Any]]:
        if "foreach" not in content:
            return [(ONCE, None)]
        match = _PLACE.fullmatch(str(content["foreach"]))
        if match is None:
            raise UserError(
                f"dvc.yaml: stage {stage!r}: `foreach` must be ${{...}}, a section of the grid."
            )
        section = _look_up(self.cells, match[1].split("."), stage) or {}
        return [(str(key), item) for key, item in section.items()]

    def _read(self, file: str) -> dict[str, Any]:
        if file not in self._params:
            text = (self.root / file).read_text(encoding="utf-8")
            json_file = file.endswith(".json")
            content = json.loads(text) if json_file else yaml.load(text, Loader=yaml_loader())
            self._params[file] = content or {}
        return self._params[file]


@dataclass(frozen=True)
class Rule:
    """What the Snakemake rule of one stage is made of."""

    pipeline: Pipeline
    stage: str

    @cached_property
    def outs(self) -> list[str]:
        """The output patterns, with the wildcard `key`; a stage without cells has plain paths."""
        content = self.pipeline.stages[self.stage]
        context = {**self.pipeline.cells, "key": "{key}"}
        outs = content.get("do", content)["outs"]
        fill = (Template(_path(out), self.stage).fill(context) for out in outs)
        return [self.pipeline.place(out) for out in fill]

    @property
    def folders(self) -> list[str]:
        """The output patterns that are folders."""
        return [out for out in self.outs if not PurePosixPath(out).suffix]

    @property
    def files(self) -> list[str]:
        """The output patterns that are files."""
        return [out for out in self.outs if PurePosixPath(out).suffix]

    @property
    def label(self) -> str:
        """The name of log files: the wildcard `key`, or the preset for a stage without cells."""
        content = self.pipeline.stages[self.stage]
        return "{key}" if "foreach" in content else self.pipeline.cells["preset"]["name"]

    @property
    def keys(self) -> str:
        """A pattern for the wildcard `key`.

        It takes any key, except where two stages have the same output patterns: then the smaller
        stage takes exactly its cells. Snakemake evaluates this pattern thousands of times, so it
        must not list thousands of cells.
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
        return _signed(lambda wildcards: self.pipeline.inputs(self._job(wildcards)))

    @property
    def command(self) -> Callable[[Any], str]:
        """The function that gives the command, exactly as DVC runs it."""
        return _signed(lambda wildcards: self._job(wildcards).command)

    @property
    def tracked(self) -> Callable[[Any], str]:
        """The function that gives the parameter values that the job depends on."""
        return _signed(lambda wildcards: self.pipeline.tracked(self._job(wildcards)))

    def _job(self, wildcards: Any) -> Job:
        return self.pipeline.jobs[self.stage][getattr(wildcards, "key", ONCE)]


def _signed(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the function with its signature kept.

    Snakemake asks for it a dozen times for each job. To derive it each time takes a tenth of the
    time of a dry run.
    """
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


@cache
def load(root: Path = Path(), preset: str = "") -> Pipeline:
    """Return the pipeline of the repository at `root`: dvc.yaml with the cells of a preset.

    Without `preset`, the cells are those of params/cells.yaml, which DVC reads. With a method
    from outside (`noisyvos.extension`) only its cells are there, in folders apart.
    """
    content = yaml.load((root / "dvc.yaml").read_text(encoding="utf-8"), Loader=yaml_loader())
    stages = {name: stage for name, stage in content["stages"].items() if name != CODE_STAGE}
    cells, outside = load_cells(root / "params", preset), extension.method_file()
    if outside is None:
        return Pipeline(root, cells, stages)
    method = extension.method_name(outside)
    places = own_places(cells["preset"]["name"], method)
    pipeline = Pipeline(root, only_method(cells, method), stages, places)
    # the file of hashes is that of the package
    pipeline.set_parameters(code_deps.CODE_FILE, code_deps.code().table(root / "params"))
    return pipeline


def refuse_declared(preset: dict[str, Any]) -> None:
    """Raise UserError if the grid names things that do not exist yet: it allows a dry run only."""
    if preset.get("missing"):
        raise UserError(
            f"Preset {preset['name']!r} can only be dry-run, because it needs: "
            f"{', '.join(preset['missing'])}."
        )


def _look_up(context: dict[str, Any], place: list[str], stage: str) -> Any:
    value: Any = context
    for part in place:
        if not isinstance(value, dict) or part not in value:
            raise UserError(
                f"dvc.yaml: stage {stage!r}: ${{{'.'.join(place)}}} is not in the grid. "
                "An output may only use ${key} and ${preset...}."
            )
        value = value[part]
    return value


def _path(out: Any) -> str:
    """Return the path of an output, which may have options: `path` or `{path: {cache: false}}`."""
    return str(next(iter(out)) if isinstance(out, dict) else out)


def _value(content: Any, name: str) -> Any:
    """Return the value at a dotted name; None where a part of the name is missing."""
    for part in name.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def _alternatives(keys: Iterable[str]) -> str:
    return "|".join(re.escape(key) for key in sorted(keys))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)  # as DVC writes them


def _merged(
    entries: Iterable[tuple[str, tuple[str, ...]]],
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return each file once, with all its names."""
    found: dict[str, dict[str, None]] = {}
    for file, names in entries:
        known = found.setdefault(file, {})
        known |= dict.fromkeys(names)
    return tuple((file, tuple(names)) for file, names in found.items())


def _params_entry(entry: Any) -> tuple[str, tuple[str, ...]]:
    if isinstance(entry, str):
        return "params.yaml", (entry,)
    ((file, names),) = entry.items()
    return file, tuple(names or ())
