"""What was written down when a job ran: by Snakemake, or else by DVC in dvc.lock."""

import ast
import hashlib
import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from noisyvos.io.hashing import file_hash
from noisyvos.pipeline.cells import yaml_loader
from noisyvos.pipeline.dvc_yaml import Job

Values = dict[str, dict[str, Any]]  # parameter file -> dotted name -> value
_STATE = Path(".snakemake")
_LOCK = "dvc.lock"
STAMP = ".snakemake_timestamp"  # in a folder; Snakemake goes by its time, .dvcignore has its name
_LONGEST_NAME = 254  # of a file, which Snakemake takes from the file system; 255 everywhere we know


@dataclass(frozen=True)
class Record:
    """One run of a job. `hashes` has the inputs whose content was recorded: path -> `kind:hash`."""

    source: str  # snakemake or dvc
    command: str
    parameters: Values
    inputs: frozenset[str] | None  # None: not recorded
    hashes: dict[str, str] = field(default_factory=dict)
    started: float | None = None  # seconds since 1970
    finished: float | None = None


def read_record(root: Path, job: Job) -> Record | None:
    """Return what is recorded of the run that made the outputs of a job; None for nothing."""
    for out in job.outs:
        found = _read_json(state_file(root / _STATE / "metadata", out))
        if found is not None:
            record = _of_snakemake(found)
            if record is not None:
                return record
    entry = _dvc_stages(root).get(job.name)
    if entry is None or {out["path"] for out in entry.get("outs", [])} != set(job.outs):
        return None  # nothing, or the job of this name of another preset
    return _of_dvc(entry)


def dvc_entry(root: Path, job: Job) -> dict[str, Any] | None:
    """Return the entry of dvc.lock of a job; None for none."""
    return _dvc_stages(root).get(job.name)


def in_dvc(root: Path, job: Job) -> bool:
    """Return whether dvc.lock has an entry of this job."""
    return job.name in _dvc_stages(root)


def is_incomplete(root: Path, job: Job) -> bool:
    """Return whether Snakemake began this job and has not seen its end."""
    return any(state_file(root / _STATE / "incomplete", out).is_file() for out in job.outs)


def state_file(folder: Path, out: str) -> Path:
    """Return the file that Snakemake keeps about an output: its path in base64, in parts."""
    text = urlsafe_b64encode(out.encode()).decode()
    parts = [text[at : at + _LONGEST_NAME] for at in range(0, len(text), _LONGEST_NAME)]
    return folder.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])


def recorded_inputs(root: Path, job: Job) -> dict[str, str]:
    """Return the hashes of inputs that the summary of a training holds, by role; else nothing."""
    for out in job.outs:
        if out.endswith("summary.json"):
            found = _read_json(root / out)
            return found.get("inputs", {}) if isinstance(found, dict) else {}
    return {}


def same_content(path: Path, recorded: str) -> bool | None:
    """Return whether a file or folder still has the recorded hash; None if that cannot be told."""
    kind, _, digest = recorded.partition(":")
    if digest.endswith(".dir"):
        return _md5_of_folder(path) == digest if path.is_dir() else None
    if not path.is_file():
        return None
    return (file_hash(path) if kind == "sha256" else _md5(path)) == digest


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _md5_of_folder(folder: Path) -> str:
    """Return the hash of a folder as dvc.lock has it."""
    files = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and path.name != STAMP
    }
    entries = [{"md5": _md5(files[name]), "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"


def _of_snakemake(found: dict[str, Any]) -> Record | None:
    values: Values = {}
    command = ""
    for text in found.get("params") or []:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            continue
        if str(value).startswith("{"):
            values = json.loads(value)
        else:
            command = str(value)
    if not command:
        return None
    return Record(
        "snakemake",
        command,
        values,
        frozenset(found.get("input") or []),
        dict(found.get("input_checksums") or {}),
        found.get("starttime"),
        found.get("endtime"),
    )


def _of_dvc(entry: dict[str, Any]) -> Record:
    deps = entry.get("deps", [])
    return Record(
        "dvc",
        " ".join(str(entry.get("cmd", "")).split()),
        entry.get("params", {}),
        None,  # a folder in dvc.lock may be many inputs
        {dep["path"]: f"md5:{dep['md5']}" for dep in deps if "md5" in dep},
    )


def _dvc_stages(root: Path) -> dict[str, Any]:
    path = root / _LOCK
    return _lock_stages(path, path.stat().st_mtime_ns) if path.is_file() else {}


@cache
def _lock_stages(path: Path, written: int) -> dict[str, Any]:
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml_loader()) or {}
    return content.get("stages", {})


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
