"""What changed since a cell was made: its code by module, parameters, data or weights."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from noisyvos.pipeline import code_deps
from noisyvos.pipeline.dvc_yaml import Job
from noisyvos.pipeline.origins import commit_for
from noisyvos.pipeline.source_facts import package_facts
from noisyvos.tracing.freshness import Freshness
from noisyvos.tracing.lineage import Lineage
from noisyvos.tracing.records import (
    Record,
    dvc_entry,
    is_incomplete,
    read_record,
)

_MOST_SHOWN = 100  # characters of a value


@dataclass(frozen=True)
class Change:
    """One reason why a job would give something else, or why nobody can say.

    kind: missing, unfinished, outdated, unrecorded, command, parameter, code, data or weights.
    """

    job: str
    kind: str
    what: str
    before: str = ""
    now: str = ""

    @property
    def text(self) -> str:
        """The change in words."""
        values = f": {self.before} → {self.now}" if self.before or self.now else ""
        return f"{self.kind} {self.what}{values}"

    def as_dict(self) -> dict[str, str]:
        """Return the fields that have a value."""
        return {name: value for name, value in asdict(self).items() if value}


class Comparison:
    """Compares jobs of a lineage with their records; each file is hashed once."""

    def __init__(self, lineage: Lineage) -> None:
        self.lineage = lineage
        self.freshness = Freshness(lineage.pipeline)

    def content(self, path: str) -> str:
        """Return the hash of a file or folder as it is now; empty if it is missing."""
        return self.freshness.content(path)

    def of(self, job: Job) -> list[Change]:
        """Return what changed for this job itself, apart from jobs that it depends on."""
        root = self.lineage.root
        missing = [out for out in job.outs if not (root / out).exists()]
        if missing:
            return [Change(job.name, "missing", ", ".join(missing))]
        if is_incomplete(root, job):
            return [self._marked(job)]
        record = read_record(root, job)
        if record is None:
            reason = self.freshness.of(job)
            if reason:
                return [Change(job.name, "outdated", f"{', '.join(job.outs)}: {reason}")]
            what = "Snakemake and DVC have no record of this cell"
            return [Change(job.name, "unrecorded", what)]
        return [*self._settings(job, record), *self._inputs(job, record)]

    def _marked(self, job: Job) -> Change:
        """Say why a job whose outputs are there is marked: it was cut off, or it is out of date."""
        root, lineage = self.lineage.root, self.lineage
        outs, own = ", ".join(job.outs), read_record(root, job)
        for other in reversed(lineage.chain(job)[:-1]):
            if is_incomplete(root, other):
                return Change(job.name, "outdated", f"{outs}: {other.name} began again since")
            made = read_record(root, other)
            if own and made and (made.finished or 0) > (own.finished or float("inf")):
                return Change(job.name, "outdated", f"{outs}: {other.name} was made again since")
        return Change(job.name, "unfinished", outs)

    def of_chain(self, job: Job) -> list[Change]:
        """Return what changed in the chain of a job, earliest first."""
        return [change for each in self.lineage.chain(job) for change in self.of(each)]

    def _settings(self, job: Job, record: Record) -> Iterator[Change]:
        if job.command != record.command:
            yield Change(job.name, "command", _first_difference(record.command, job.command))
        now = json.loads(self.lineage.pipeline.tracked(job))
        for file, values in now.items():
            old = record.parameters.get(file, {})
            for name in sorted({*values, *old}):
                before, after = old.get(name), values.get(name)
                if before == after:
                    continue
                if file == code_deps.CODE_FILE:
                    yield from self._code(job, name, str(before), str(after))
                else:
                    for place, one, other in _differences(name, before, after):
                        yield Change(
                            job.name, "parameter", f"{file}: {place}", _short(one), _short(other)
                        )

    def _code(self, job: Job, name: str, before: str, after: str) -> Iterator[Change]:
        """Name the modules behind a changed hash, as far as their former hashes are known."""
        root = self.lineage.root
        commit = commit_for(root, job.name, dvc_entry(root, job))
        then = kept_modules(root, name, before) or _modules_at(root, commit)
        if not then:
            what = f"{name} (its modules of that time are not known)"
            yield Change(job.name, "code", what, before, after)
            return
        found = code_deps.code()
        modules = code_deps.modules_of(name, root / "params")
        changed = [module for module in modules if then.get(module) != found.hash([module])]
        if not changed:
            yield Change(job.name, "code", f"{name} (it uses fewer modules now)", before, after)
        for module in changed:
            verb = "changed" if module in then else "is new"
            yield Change(job.name, "code", f"{module} {verb}")

    def _inputs(self, job: Job, record: Record) -> Iterator[Change]:
        root, inputs = self.lineage.root, self.lineage.pipeline.inputs(job)
        if record.inputs is not None:
            for path in sorted(record.inputs - set(inputs)):
                yield Change(job.name, _kind(path), f"{path} is no longer an input")
            for path in sorted(set(inputs) - record.inputs):
                yield Change(job.name, _kind(path), f"{path} is a new input")
        for path in inputs:
            if not (root / path).exists():
                yield Change(job.name, _kind(path), f"{path} is missing")
            elif self.freshness.is_changed(job, path):
                yield Change(job.name, _kind(path), f"{path} has another content now")


def kept_modules(root: Path, name: str, digest: str) -> dict[str, str]:
    """Return the hashes of modules when `name` in data/code.json had this value; empty: unknown."""
    family, _, entry = name.partition(".")
    for path in sorted((root / code_deps.KEPT_CODE).glob("*.json")):
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if state["table"].get(family, {}).get(entry) == digest:
            return state["modules"]
    return {}


@cache
def _modules_at(root: Path, commit: str) -> dict[str, str]:
    """Return the hashes of modules at a commit of this repository; empty if git has none."""
    if not commit or commit == "unknown" or commit.endswith("+changed"):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder) / "source.tar"
        command = ["git", "-C", str(root), "archive", "-o", str(tar), commit, "src/noisyvos"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return {}
        subprocess.run(["tar", "-xf", str(tar), "-C", folder], check=True)
        package = Path(folder) / "src" / "noisyvos"
        return code_deps.module_hashes(code_deps.Code(package_facts(package), package))


def _differences(name: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted names whose values differ, with both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key):
                yield from _differences(f"{name}.{key}", before.get(key), after.get(key))
    else:
        yield name, before, after


def _first_difference(before: str, now: str) -> str:
    old, new = before.split(), now.split()
    lost = [word for word in old if word not in new]
    won = [word for word in new if word not in old]
    return f"{_short(' '.join(lost) or 'nothing')} → {_short(' '.join(won) or 'nothing')}"


def _kind(path: str) -> str:
    return "weights" if path.endswith(".safetensors") else "data"


def _short(value: Any) -> str:
    text = "(default)" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 1]}…"
