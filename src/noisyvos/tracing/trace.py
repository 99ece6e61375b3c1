"""From a value, a cell or a file back to raw files: every step with hashes, settings and origin."""

import csv
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from noisyvos.errors import UserError
from noisyvos.io.hashing import file_hash
from noisyvos.pipeline.cells import block_of
from noisyvos.pipeline.code_deps import CODE_FILE
from noisyvos.pipeline.dvc_yaml import ONCE, Job
from noisyvos.pipeline.origins import commit_for, why_unknown
from noisyvos.tracing.lineage import Lineage
from noisyvos.tracing.records import dvc_entry, in_dvc, read_record, recorded_inputs
from noisyvos.tracing.why import Comparison
from noisyvos.tracking.find import find_run

_NOISE = ("noise", "kind", "q", "q_achieved", "q_affected", "seed", "object_frames", "affected")
_UNKNOWN = "unrecorded"  # a change of which nobody knows whether it is one
_SETTINGS = ("model", "method", "schedule")


def trace_job(lineage: Lineage, job: Job, *, mlflow: bool = True) -> dict[str, Any]:
    """Return the chain of a job as one nested structure of plain values, for JSON or the screen.

    `steps` has the job first and raw material last.
    """
    comparison = Comparison(lineage)
    chain = [*reversed(lineage.chain(job))]
    steps = [_step(lineage, each, comparison) for each in chain]
    trained = next((step for step in steps if step.get("training")), None)
    found: dict[str, Any] = {
        "job": job.name,
        "cell": job.key,
        "preset": lineage.preset,
        "synthetic": bool(lineage.pipeline.cells["preset"].get("synthetic")),
        "scores": _scores(lineage, job),
        "steps": steps,
        "changes": [change for step in steps for change in step["changes"]],
    }
    if mlflow and trained is not None:
        cell = trained["key"]
        found["mlflow"] = find_run(lineage.preset, block_of(lineage.pipeline.cells, cell), cell)
    commits = {step["commit"] for step in steps if step.get("commit")}
    found["commits"] = sorted(commits) or _tracked_commit(found)
    if not found["commits"]:
        entry = dvc_entry(lineage.root, job)
        found["no_commit"] = why_unknown(lineage.root, job.name, entry)
    return found


def stale_table(lineage: Lineage, cells: list[dict[str, Any]]) -> str:
    """Return in a sentence why a number of a table is not what its cells give now; else nothing.

    cells: the traces of the cells that the number sums up.
    """
    comparison, job = Comparison(lineage), lineage.pipeline.jobs["tables"][ONCE]
    own = [each.text for each in comparison.of(job) if each.kind != _UNKNOWN]
    own = own or list(filter(None, [comparison.freshness.of(job)]))
    reasons = [f"the tables: {each}" for each in own]
    changed = sum(any(each["kind"] != _UNKNOWN for each in cell["changes"]) for cell in cells)
    if changed:
        reasons.append(f"of the {len(cells)} cells traced here {changed} changed or began again")
    if not reasons:
        return ""
    return f"This number is out of date: {'; '.join(reasons)}. Run `snakemake` to make it again."


def _step(lineage: Lineage, job: Job, comparison: Comparison) -> dict[str, Any]:
    """Return what is known of one job."""
    root = lineage.root
    values = json.loads(lineage.pipeline.tracked(job))
    record = read_record(root, job)
    step: dict[str, Any] = {
        "job": job.name,
        "stage": job.stage,
        "key": job.key,
        "command": job.command,
        "outputs": [_output(root, out, comparison) for out in job.outs],
        "inputs": [
            {"path": path, "made_by": lineage.maker[path].name}
            if path in lineage.maker
            else {"path": path, "sha256": comparison.content(path)}
            for path in lineage.pipeline.inputs(job)
        ],
        "code": values.pop(CODE_FILE, {}),
        "parameters": values,
        "changes": [change.as_dict() for change in comparison.of(job)],
        "in_dvc": in_dvc(root, job),
    }
    if record is not None and record.finished is not None and record.started is not None:
        step["made"] = datetime.fromtimestamp(record.finished).isoformat(" ", "seconds")
        step["seconds"] = round(record.finished - record.started, 1)
    commit = commit_for(root, job.name, dvc_entry(root, job))
    if commit:
        step["commit"] = commit
    log = next((root / "logs" / job.stage).glob(f"{job.key}.log"), None)
    if log is not None:
        step["log"] = log.relative_to(root).as_posix()
    return step | _content(root, job)


def _output(root: Path, out: str, comparison: Comparison) -> dict[str, Any]:
    place = root / out
    if not place.exists():
        return {"path": out, "missing": True}
    found: dict[str, Any] = {"path": out, "sha256": comparison.content(out)}
    if place.is_file():
        found["bytes"] = place.stat().st_size
    return found


def _content(root: Path, job: Job) -> dict[str, Any]:
    """Return what the outputs say themselves: a training, label noise, or raw files."""
    found: dict[str, Any] = {}
    for out in job.outs:
        path = root / out
        if path.suffix != ".json" or not path.is_file():
            continue
        content = _read(path)
        if path.name == "summary.json" and isinstance(content, dict):
            found["training"] = {
                name: content[name]
                for name in (*_SETTINGS, "seed", "device", "torch", "code", "noise", "final")
                if name in content
            } | {"inputs": recorded_inputs(root, job)}
        elif job.stage == "noise" and isinstance(content, dict):
            summary = {**content, **content.get("summary", {})}
            found["noise"] = {name: summary[name] for name in _NOISE if name in summary}
            found["noise"]["settings"] = content.get("settings", {})
        elif out.startswith("data/sources/") and isinstance(content, list):
            found["raw"] = {
                "files": len(content),
                "bytes": sum(int(entry.get("size", 0)) for entry in content),
                "inventory": out,
                "inventory_sha256": file_hash(path),
                "sha256": {entry["path"]: entry.get("sha256", "") for entry in content},
            }
    return found


def _scores(lineage: Lineage, job: Job) -> dict[str, dict[str, float]]:
    """Return the means of the job's scored folders, or of those scored from a training."""
    folder, root = f"results/{lineage.preset}/scores", lineage.root
    outs = [out for out in job.outs if out.startswith(f"{folder}/")]
    if job.stage == "train":
        scored = lineage.pipeline.cells.get("score", {})
        outs = [f"{folder}/{key}" for key in scored if scored[key].get("train_key") == job.key]
    return {
        path.parent.relative_to(root / folder).as_posix(): _means(path)
        for out in outs
        for path in sorted((root / out).glob("**/objects.csv"))
    }


def _means(path: Path) -> dict[str, float]:
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows:
        raise UserError(f"{path}: this table is empty. Delete its folder and run the pipeline.")
    j, f = (sum(float(row[name]) for row in rows) / len(rows) for name in ("J-Mean", "F-Mean"))
    return {"J&F": (j + f) / 2, "J": j, "F": f}


def _tracked_commit(found: dict[str, Any]) -> list[str]:
    commit = (found.get("mlflow") or {}).get("commit", "")
    return [commit] if commit and commit != "unknown" else []


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
