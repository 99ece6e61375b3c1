"""Hand over between Snakemake and DVC what is up to date; each of them keeps only its own record.

`record` tells DVC after Snakemake ran. `dvc commit` takes any file, so `record` hands over only
cells that Snakemake calls up to date. `adopt` tells Snakemake after `dvc pull`, `dvc checkout` or
`dvc repro`. `snakemake --touch` takes any file as well, so `adopt` hands over only cells whose
hashes DVC has verified, with everything that they depend on.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from noisyvos.errors import UserError
from noisyvos.io.atomic import write_text
from noisyvos.pipeline import code_deps
from noisyvos.pipeline.cells import yaml_loader
from noisyvos.pipeline.dvc_yaml import CODE_STAGE, Job, Pipeline, load
from noisyvos.pipeline.origins import record_origins

_LOCK_FILE = Path("dvc.lock")
_KEPT = Path("scratch/dvc.lock.before")  # there only while dvc.lock is written


def record() -> None:
    """Commit every cell to DVC that Snakemake calls up to date; UserError if there is none.

    The commits that made them go to origins.json, so that `noisyvos trace` knows them in a clone.

    A run that is killed anywhere changes nothing that the next one sees: outputs keep their times,
    by which Snakemake judges them, and a half-written dvc.lock is put back.
    """
    _put_back()
    code_deps.refresh()
    pipeline = load()
    pending = pending_outputs(_run(["snakemake", "--summary"]))
    finished: list[Job] = []
    waiting: list[Job] = []
    for job in pipeline:
        there = all(Path(out).exists() and out not in pending for out in job.outs)
        (finished if there else waiting).append(job)
    if not finished:
        raise UserError(
            "Nothing is up to date yet, so there is nothing to record. Run `snakemake` first."
        )
    commit({CODE_STAGE, *(job.name for job in finished)})
    record_origins(pipeline.root, finished, _locked())
    print(f"recorded {len(finished)} of {len(finished) + len(waiting)} cells in dvc.lock")
    if waiting:
        print(f"left out, because Snakemake would still run them: {_some(waiting)}")


def adopt() -> None:
    """Make Snakemake take every cell that DVC has verified as up to date; UserError for none."""
    _put_back()
    code_deps.refresh()  # DVC compares hashes of this file, so it must show the code of today
    pipeline = load()
    clean = verified(pipeline, stale_stages())
    if not clean:
        raise UserError(
            "DVC calls no cell up to date (`dvc status` says why), so there is nothing to adopt."
        )
    _touch(clean)
    known = {job.name for job in clean}
    left = [job for job in pipeline if job.name not in known]
    print(f"adopted {len(clean)} of {len(clean) + len(left)} cells")
    if left:
        print(f"left out, because DVC would still run them: {_some(left)}")


def pending_outputs(summary: str) -> set[str]:
    """Return the outputs in the table of `snakemake --summary` that Snakemake would make again."""
    rows = [line.split("\t") for line in summary.splitlines()]
    header = next((index for index, row in enumerate(rows) if row[0] == "output_file"), None)
    if header is None:
        raise UserError(
            "`snakemake --summary` gave no table. Run `snakemake -n` to see what is wrong."
        )
    return {
        row[0]
        for row in rows[header + 1 :]
        if len(row) == len(rows[header]) and row[-1].strip() != "no update"
    }


def stale_stages() -> set[str]:
    """Return what `dvc status` lists: the stages, named as DVC does, that it would run again.

    UserError if DVC fails. `dvc status` parses the parameter files anew for each recorded stage.
    This function makes the same call and parses each file once.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo, _parameters_read_once():
            return set(repo.status())
    except DvcException as error:
        raise UserError(f"DVC could not compare the cells with dvc.lock: {error}") from error


def verified(pipeline: Pipeline, stale: set[str]) -> list[Job]:
    """Return the jobs that are not stale and depend on none that is; `stale` holds DVC's names."""
    maker = {out: job for job in pipeline for out in job.outs}
    known: dict[str, bool] = {}

    def is_clean(job: Job) -> bool:
        if job.name not in known:
            before = [maker[path] for path in pipeline.inputs(job) if path in maker]
            known[job.name] = job.name not in stale and all([is_clean(other) for other in before])
        return known[job.name]

    return [job for job in pipeline if is_clean(job)]


def commit(names: set[str]) -> None:
    """Record the files of stages, named as DVC does, in dvc.lock and DVC's cache.

    UserError if DVC refuses. `dvc commit --force` takes targets one by one, and reads and writes
    all of dvc.lock for each, so its time grows with the square of the number of cells. This
    function makes the same calls for all stages and writes dvc.lock once.

    DVC would also replace each output by a copy of or a link to its cached file. Its new time would
    make later cells stale in Snakemake until all are committed, so outputs stay as they are.
    `dvc checkout --relink` replaces them by links.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo

    try:
        with Repo() as repo, lock_repo(repo), _parameters_read_once():
            stages = [stage for stage in repo.index.stages if stage.addressing in names]
            unknown = names - {stage.addressing for stage in stages}
            if unknown:
                raise UserError(
                    f"dvc.yaml has no stage {sorted(unknown)[0]!r}. "
                    "Write the grid again with `noisyvos grid --preset NAME`."
                )
            for stage in stages:
                stage.save()
                _own_values(stage)
                stage.commit(relink=False)
            _keep_lock_file()
            for file in {stage.dvcfile.path: stage.dvcfile for stage in stages}.values():
                file.dump_stages(
                    [stage for stage in stages if stage.dvcfile.path == file.path],
                    update_pipeline=False,
                )
            _KEPT.unlink()
    except DvcException as error:
        raise UserError(f"DVC did not take the finished cells: {error}") from error


def _locked() -> dict[str, Any]:
    """Return the stages of dvc.lock."""
    content = yaml.load(_LOCK_FILE.read_text(encoding="utf-8"), Loader=yaml_loader()) or {}
    return content.get("stages", {})


def _own_values(stage: Any) -> None:
    """Give a stage copies of its parameter values, which `_parameters_read_once` shares.

    DVC would write a shared value as an anchor and aliases, so dvc.lock would have other bytes
    than after `dvc repro`.
    """
    for dependency in stage.deps:
        found = getattr(dependency, "hash_info", None)
        if found is not None and isinstance(found.value, dict):
            found.value = deepcopy(found.value)


def _keep_lock_file() -> None:
    """Keep a copy of dvc.lock, which DVC does not write atomically; no content if there is none."""
    before = _LOCK_FILE.read_text(encoding="utf-8") if _LOCK_FILE.is_file() else ""
    write_text(_KEPT, before)


def _put_back() -> None:
    """Put the copy of dvc.lock back that a killed run left."""
    if not _KEPT.is_file():
        return
    if _KEPT.stat().st_size:
        write_text(_LOCK_FILE, _KEPT.read_text(encoding="utf-8"))
    else:
        _LOCK_FILE.unlink(missing_ok=True)
    _KEPT.unlink()


@contextmanager
def _parameters_read_once() -> Iterator[None]:
    """Let DVC parse each parameter file once.

    The files do not change meanwhile, because the repository is locked and no job runs.
    """
    from dvc.dependency import param

    read: Any = getattr(param, "load_path", None)
    if read is None:  # another release of DVC: the same result, more slowly
        yield
        return
    once = cache(lambda path, file_system: read(path, file_system))

    def load_path(path: Any, file_system: Any, **options: Any) -> Any:
        return read(path, file_system, **options) if options else once(path, file_system)

    param.load_path = load_path
    try:
        yield
    finally:
        param.load_path = read


def _touch(jobs: list[Job]) -> None:
    """Make Snakemake take these jobs, and all that they depend on, as up to date."""
    outs = [out for job in jobs for out in job.outs]
    locks = Path(".snakemake/locks")
    if locks.is_dir() and any(locks.iterdir()):
        raise UserError(
            f"{locks}: Snakemake runs here, or was killed. Wait for it. If none is running, run "
            "`snakemake --unlock`. Then run `noisyvos adopt` again."
        )
    if outs:
        # without a lock of its own, which a killed `adopt` would leave behind
        options = ["--touch", "--forceall", "--nolock", "--quiet", "all"]
        _run(["snakemake", *options, "--", *outs])


def _run(command: list[str]) -> str:
    """Return the output of a tool of this environment; UserError with its last words on failure."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False
    )
    if done.returncode:
        words = (done.stderr or "").strip().splitlines()[-5:]
        raise UserError(
            f"`{' '.join(command[:3])} ...` failed ({done.returncode}). {' '.join(words)}".strip()
        )
    return done.stdout or ""


def _some(jobs: list[Job]) -> str:
    shown = ", ".join(job.name for job in jobs[:5])
    return shown + (f" and {len(jobs) - 5} more" if len(jobs) > 5 else "")
