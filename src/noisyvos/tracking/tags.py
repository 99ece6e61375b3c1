"""The tags of a cell's run in MLflow, by which people filter and group, from its summary."""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# of a summary: what came out of the training, or where it ran
_NO_SETTINGS = (
    "cell",
    "preset",
    "parameters",
    "final",
    "diagnostics",
    "inputs",
    "code",
    "torch",
    "processes",
    "relabelling",
)
# for git: all files but those that record results, which a run does not read
_MADE_FROM = (":/", ":(exclude,top)dvc.lock", ":(exclude,top)origins.json")
_CONFIG = ("stage", "model", "method", "schedule", "seed", "dataset", "clips", "noise")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level, `{"noise": {"q": 0.8}}` as `{"noise.q": 0.8}`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def config_hash(summary: Mapping[str, Any]) -> str:
    """Return a hash of a training's settings, equal for the same cell in every block and preset."""
    chosen = {name: summary[name] for name in _CONFIG if name in summary}
    return hashlib.sha256(
        json.dumps(flatten(chosen), sort_keys=True, default=str).encode()
    ).hexdigest()[:16]


def settings_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in a training's summary, which are the params of its run."""
    return {name: value for name, value in summary.items() if name not in _NO_SETTINGS}


def training_hash(summary: Mapping[str, Any]) -> str:
    """Return a hash of a training's settings, inputs and code: equal only for the same training.

    summary: its summary, or its settings with their origin.
    """
    chosen = settings_of(summary) | {name: summary.get(name) for name in ("inputs", "code")}
    text = json.dumps(flatten(chosen), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cell_tags(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tags of a cell's run from its summary, or from the settings that it will hold."""
    if not summary:
        return {}
    method, inputs = _entry(summary, "method"), summary.get("inputs", {})
    tags = {
        "stage": summary.get("stage"),
        "model": _entry(summary, "model").get("name"),
        "method": method.get("name"),
        "method.preset": method.get("preset", "none"),
        "parity": str(bool(method.get("parity", False))).lower(),
        "schedule": _entry(summary, "schedule").get("name"),
        "seed": summary.get("seed"),
        "data.train": summary.get("dataset", summary.get("clips")),
        "config_hash": config_hash(summary),
        "training_hash": training_hash(summary) if "code" in summary else None,
        "noise_manifest_hash": inputs.get("noise_manifest"),
        "init_ckpt_hash": inputs.get("init"),
        "code": summary.get("code"),
    }
    tags |= flatten({"noise": summary["noise"]}) if "noise" in summary else {}
    return {name: value for name, value in tags.items() if value is not None}


def _entry(summary: Mapping[str, Any], family: str) -> Mapping[str, Any]:
    found = summary.get(family, {})
    return found if isinstance(found, Mapping) else {"name": found}


def git_sha(folder: Path = Path()) -> str:
    """Return the commit checked out in `folder`; `unknown` outside a repository.

    `+changed` is appended if tracked files differ from it. What records results does not count.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", *_MADE_FROM)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+changed" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
