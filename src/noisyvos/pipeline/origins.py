"""The commit at which each recorded cell was made, in origins.json beside dvc.lock.

A folder knows from its run logs which commit made a cell. A clone has no logs, so `noisyvos record`
writes the commits down, for git to carry with dvc.lock. An entry holds for the outputs that it was
written for: each has a hash of what dvc.lock says of them.
"""

import hashlib
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from noisyvos.io.atomic import write_if_other
from noisyvos.pipeline.dvc_yaml import Job
from noisyvos.watching.run_log import commit_of, commits

ORIGINS = "origins.json"
_SECONDS = 20  # for git to look through the history of dvc.lock


def record_origins(root: Path, jobs: Iterable[Job], locked: dict[str, Any]) -> None:
    """Write down the commits of jobs that dvc.lock has just taken. locked: its stages.

    An earlier entry of the same outputs is kept: what made them first is their origin. Entries of
    other presets stay.
    """
    entries, made = read_origins(root), commits(root)
    for job in jobs:
        digest = outputs_digest(locked.get(job.name, {}))
        if entries.get(job.name, {}).get("outputs") == digest:
            continue
        entries.pop(job.name, None)
        commit = made.get(job.name, "")
        if commit not in ("", "unknown"):
            entries[job.name] = {"commit": commit, "outputs": digest}
    lines = (f" {json.dumps(name)}: {json.dumps(entries[name])}" for name in sorted(entries))
    write_if_other(root / ORIGINS, "{\n" + ",\n".join(lines) + "\n}\n")


def read_origins(root: Path) -> dict[str, dict[str, str]]:
    """Return what origins.json has, by job; nothing if it is missing or damaged."""
    try:
        found = json.loads((root / ORIGINS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    whole = isinstance(found, dict) and all(isinstance(each, dict) for each in found.values())
    return found if whole else {}


def commit_for(root: Path, job: str, entry: dict[str, Any] | None) -> str:
    """Return the commit at which a job was made; empty if none is known.

    It is that of the run in this folder, else the recorded one of the outputs that dvc.lock has.
    entry: that of the job in dvc.lock.
    """
    commit = commit_of(root, job)
    if commit not in ("", "unknown"):
        return commit
    origin = read_origins(root).get(job, {})
    if not entry or origin.get("outputs") != outputs_digest(entry):
        return ""
    return str(origin.get("commit", ""))


def why_unknown(root: Path, job: str, entry: dict[str, Any] | None) -> str:
    """Return in words why the commit of a job is not known."""
    if not entry:
        return "not recorded: no run log in logs/runs and no entry of dvc.lock has this cell"
    said = f"not recorded: {ORIGINS} has no commit for these outputs. `dvc repro` notes none"
    digest = next((out["md5"] for out in entry.get("outs", []) if "md5" in out), "")
    since = _taken_in(root, digest) if digest else ""
    return f"{said}; dvc.lock has them since commit {since}" if since else said


def outputs_digest(entry: dict[str, Any]) -> str:
    """Return a hash of the outputs of an entry of dvc.lock."""
    outs = [[out.get("path"), out.get("md5")] for out in entry.get("outs", [])]
    return hashlib.sha256(json.dumps(sorted(outs, key=str)).encode()).hexdigest()[:16]


def _taken_in(root: Path, digest: str) -> str:
    """Return the commit that brought a hash into dvc.lock; empty if git cannot tell."""
    command = ["git", "-C", str(root), "log", "-1", "--format=%H", f"-S{digest}", "--", "dvc.lock"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
