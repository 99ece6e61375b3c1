"""What Snakemake and DVC each say of a workspace: their jobs, and which of them are stale."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from noisyvos.params.entries import read_family
from noisyvos.pipeline.code_deps import CODE_FILE, Code
from noisyvos.pipeline.dvc_yaml import CODE_STAGE, Job, Pipeline, load
from noisyvos.pipeline.handover import pending_outputs, verified

_WRAPPED = re.compile(
    r"(?:NOISYVOS_WORKERS=\d+|python -m noisyvos\.pipeline\.gpu_lease --need \d+ --) (.*) > "
    r"logs/\S+ 2>&1"
)


def pipeline(workspace: Any) -> Pipeline:
    load.cache_clear()
    return load(workspace.root)


def snakemake_jobs(
    workspace: Any, *targets: str
) -> dict[frozenset[str], tuple[str, frozenset[str]]]:
    """Return outputs -> (command, inputs) of every job that `targets` need (by default all).

    As Snakemake itself lists them.
    """
    table = workspace.run(
        "snakemake", *targets, "--detailed-summary", "--forceall"
    ).stdout.splitlines()
    head = next(index for index, line in enumerate(table) if line.startswith("output_file"))
    columns = table[head].split("\t")
    jobs: dict[tuple[str, str], set[str]] = {}
    for line in table[head + 1 :]:
        row = dict(zip(columns, line.split("\t")))
        command = _WRAPPED.fullmatch(row["shellcmd"])
        assert command, row["shellcmd"]
        jobs.setdefault((command[1], row["input-file(s)"]), set()).add(row["output_file"])
    return {
        frozenset(outs): (command, frozenset(filter(None, inputs.split(","))))
        for (command, inputs), outs in jobs.items()
    }


def dvc_jobs(workspace: Any) -> dict[frozenset[str], tuple[str, frozenset[str]]]:
    """Return outputs -> (command, dependencies) of every stage, as DVC itself resolves them."""
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    stages = {}
    with Repo(str(workspace.root)) as repo:
        for stage in repo.index.stages:
            if stage.name == CODE_STAGE:
                continue
            deps = frozenset(
                dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)
            )
            stages[frozenset(out.def_path for out in stage.outs)] = (stage.cmd, deps)
    return stages


def spelled_out(deps: frozenset[str], outputs: set[str]) -> frozenset[str]:
    """Return dependencies with folders replaced by the outputs of cells that are in them."""
    found: set[str] = set()
    for dep in deps:
        below = {out for out in outputs if out.startswith(f"{dep}/")}
        found |= below or {dep}
    return frozenset(found)


def stale_in_snakemake(workspace: Any) -> set[str]:
    pending = pending_outputs(workspace.run("snakemake", "--summary").stdout)
    return {job.name for job in pipeline(workspace) if pending & set(job.outs)}


def stale_in_dvc(workspace: Any) -> set[str]:
    """Return what DVC would run after its stage `code`: what it calls changed, and what follows."""
    workspace.noisyvos("code")
    changed = set(json.loads(workspace.run("dvc", "status", "--json").stdout or "{}"))
    current = pipeline(workspace)
    return {job.name for job in current} - {job.name for job in verified(current, changed)}


def names_of(job: Job) -> tuple[str, ...]:
    """Return the names in data/code.json that a job depends on."""
    return dict(job.params)[CODE_FILE]


def closure_of(job: Job, code: Code, params: Path) -> set[str]:
    """Return all modules that a job depends on."""
    found: set[str] = set()
    for name in names_of(job):
        family, _, entry = name.partition(".")
        if family == "stages":
            found |= code.stage(entry)
        else:
            found |= code.entry(family, entry, read_family(params, family)[entry])
    return found


@contextmanager
def edited(workspace: Any, edit: tuple[str, str, str]) -> Iterator[None]:
    """Replace a text in a file for a while: (file, old text, new text)."""
    file, old, new = edit
    path = workspace.root / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    try:
        yield
    finally:
        path.write_text(text)
