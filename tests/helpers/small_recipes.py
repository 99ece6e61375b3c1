"""The published presets, small: the same chains, entries reduced, material drawn.

`merged` joins trimmed presets of params/presets into one, so that one run of an engine takes all
their chains from an empty folder to a table. Settings that cost time or room are replaced; all
others, and the presets' phases, starts, methods and evaluation settings, are the published ones.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import warm
import yaml
from loopback import Site
from miniatures import frame, mask, put
from PIL import Image
from published_archives import ARCHIVES, packed

from noisyvos.params.entries import read_yaml
from noisyvos.params.presets import Preset, of_model, read_preset, references

ROOT = Path(__file__).resolve().parents[2]
PARAMS = ROOT / "params"
CROP = 64

# Networks with few channels where a setting says how many; the others have their published size.
MODELS: dict[str, dict[str, Any]] = {
    "xmem": {"kind": "xmem", "key_dim": 8, "value_dim": 16, "hidden_dim": 8},
    "stm": {"kind": "stm_resnet18"},
}
HOLDOUT = 1  # videos, in place of 100


@dataclass
class Trim:
    """What stays of a preset: blocks with their evaluation sets, and single values of its axes."""

    blocks: dict[str, dict[str, Any]]
    noise: str = ""
    method: str = ""
    more: dict[str, Any] = field(default_factory=dict)  # into every block


@dataclass(frozen=True)
class Workspace:
    """A copy of the repository with small parameters, and how commands run in it."""

    root: Path

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command here and return it with its output, whatever its exit code."""
        tools = [str(self.root.parent / "tools"), warm.tools(), str(Path(sys.executable).parent)]
        environment = os.environ | {
            "PATH": os.pathsep.join([*tools, os.environ["PATH"]]),
            "PYTHONPATH": str(self.root / "src"),
            "NOISYVOS_ACCEPT_LICENCE": "1",
            "NOISYVOS_TRACKING": "off",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "DVC_NO_ANALYTICS": "1",
            "NO_PROXY": "127.0.0.1",
        }
        return subprocess.run(
            command,
            cwd=self.root,
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def entries(self, family: str) -> dict[str, Any]:
        """Return the entries of a parameter file."""
        return read_yaml(self.root / "params" / f"{family}.yaml")

    def write(self, family: str, entries: dict[str, Any]) -> None:
        """Replace a parameter file; with the name `presets/NAME` a preset."""
        put(self.root / "params" / f"{family}.yaml", yaml.safe_dump(entries, sort_keys=False))


def merged(trims: dict[str, Trim]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the trimmed presets as one, and {its name of a network: its entry in models.yaml}.

    Phases, blocks and networks get the name of their preset, because presets give one network
    different starts.
    """
    made: dict[str, Any] = {"title": "Small recipes", "synthetic": True, "starts": {}}
    made |= {"phases": {}, "evaluate": {}, "blocks": {}}
    networks: dict[str, str] = {}
    for name, trim in trims.items():
        preset = read_preset(PARAMS, name)
        for model, start in preset.starts.items():
            networks[f"{name}_{model}"] = model
            made["starts"][f"{name}_{model}"] = start
        models = list(preset.starts)
        for phase, settings in preset.phases.items():
            values = settings.model_dump(exclude_defaults=True)
            for key in ("schedule", "method", "init"):
                if key in values:
                    values[key] = _renamed(values[key], name, models, phases=key == "init")
            made["phases"][f"{name}_{phase}"] = values
        for block, kept in trim.blocks.items():
            values = preset.blocks[block].model_dump(exclude_defaults=True)
            given = preset.blocks[block]
            (model,) = given.model
            init = preset.init_of(given, model)
            values |= {
                "model": [f"{name}_{model}"],
                "dataset": given.dataset or preset.train.dataset,
                "schedule": preset.schedule_of(given, model),
                "init": init if init == "start" else f"{name}_{init}",
                "noise": [trim.noise or given.noise[0]],
                "method": [trim.method or given.method[0]],
                **trim.more,
                **kept,
            }
            made["blocks"][f"{name}_{block}"] = values
            for place in values["evaluate"]:
                how = preset.evaluate[place]
                settings = {f"{name}_{model}": of_model(how.settings, model, "default")}
                entry = how.model_dump(exclude_defaults=True) | {"settings": settings}
                known = made["evaluate"].setdefault(place, entry)
                assert {**known, "settings": 0} == {**entry, "settings": 0}, place
                known["settings"] |= settings
    first = next(iter(made["blocks"].values()))
    made["train"] = {"dataset": first["dataset"], "schedule": first["schedule"]}
    return made, networks


def _renamed(names: Any, preset: str, models: list[str], *, phases: bool) -> Any:
    def name(value: str) -> str:
        return f"{preset}_{value}" if phases and value != "start" else value

    if isinstance(names, str):
        return name(names)
    return {f"{preset}_{model}": name(value) for model, value in names.items() if model in models}


def workspace(
    base: Path,
    presets: dict[str, dict[str, Any]],
    networks: dict[str, str],
    starts: dict[str, Any] | None = None,
) -> Workspace:
    """Copy the repository to `base` with only these presets and the entries that they need.

    starts: further entries of starts.yaml.
    """
    root, tools = base / "repository", base / "tools"
    tools.mkdir(parents=True)
    for name in ("src", "workflow", "profiles", "Snakefile", "dvc.yaml", ".gitignore"):
        place = ROOT / name
        if place.is_dir():
            skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(place, root / name, symlinks=True, ignore=skip)
        else:
            shutil.copy(place, root / name)
    for name in (".dvc/config", ".dvcignore", "environment.yml"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    warm.write(tools / "noisyvos", "from noisyvos.cli import main\nmain()\n")
    made = Workspace(root)
    for name, content in presets.items():
        made.write(f"presets/{name}", content)
    _write_entries(
        made, [Preset(**content) for content in presets.values()], networks, starts or {}
    )
    return made


def _write_entries(
    made: Workspace, presets: list[Preset], networks: dict[str, str], starts: dict[str, Any]
) -> None:
    """Write the parameter files: the entries that the presets name, reduced."""
    used: dict[str, list[str]] = {}
    for preset in presets:
        for family, names in references(preset).items():
            used.setdefault(family, []).extend(names)
    found = {family: read_yaml(PARAMS / f"{family}.yaml") for family in (*used, "sources")}
    found["starts"] |= starts
    for model, entry in networks.items():
        found["models"][model] = MODELS.get(entry) or {"kind": entry} | (
            found["models"][entry] or {}
        )
    kept = {family: {name: found[family][name] for name in names} for family, names in used.items()}
    for entry in list(kept["datasets"].values()):
        for part in entry.get("parts", ()):
            kept["datasets"][part["dataset"]] = found["datasets"][part["dataset"]]
    for entry in kept["datasets"].values():
        if entry.get("holdout"):
            entry["holdout"] = HOLDOUT
        if entry.get("kind") == "visor":
            entry["size"] = 48  # not 480: its masks are drawn at this size
    kept["train"] = {name: _short(entry) for name, entry in kept["train"].items()}
    kept["eval"] = {name: _smaller(entry) for name, entry in kept["eval"].items()}
    kept["synth"] = {
        name: entry | {"clips": 8, "crop": CROP} for name, entry in kept["synth"].items()
    }
    wanted = {entry.get("source", name) for name, entry in kept["datasets"].items()}
    wanted |= {
        str(entry[key])
        for entry in map(dict, map(lambda each: each or {}, kept["starts"].values()))
        for key in ("source", "resnet50", "resnet18")
        if entry.get(key)
    }
    for entry in kept["noise"].values():
        if entry.get("kind") == "drawn":
            wanted |= {each["source"] for each in entry["sets"].values()}
    kept["sources"] = {name: entry for name, entry in found["sources"].items() if name in wanted}
    for entry in kept["sources"].values():
        for want in entry.get("wants", ()):
            want.pop("count", None)
    for family in (*kept, "corruptions"):
        made.write(family, kept.get(family, {}))


def _smaller(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return an evaluation setting that works at the size of the small videos."""
    sizes = {name: size for name, size in (("size", 48), ("longer_side", 80))}
    return {name: sizes.get(name, value) for name, value in evaluation.items()}


def _short(schedule: dict[str, Any]) -> dict[str, Any]:
    """Return a schedule of 2 iterations on small clips; its rules are kept."""
    kept = dict(schedule)
    kept |= {"iterations": 2, "batch": 1, "workers": 0, "checkpoint_every": 1000}
    kept |= {"clip_length": min(schedule.get("clip_length", 3), 3)}
    for name in ("parts", "finetune", "warmup", "hold"):
        kept.pop(name, None)
    if schedule.get("finetune"):
        kept["finetune"] = 1
    if "drops" in schedule:
        kept["drops"] = [1]
    if "min_area" in schedule:
        kept["min_area"] = 10
    if schedule.get("crop"):
        kept["crop"] = CROP + (schedule["crop"] % 16)  # AOC-Net's sides are 16k + 1
    return kept


def serve_archives(made: Workspace, site: Site, names: Iterable[str]) -> None:
    """Let these sources be fetched from the loopback server, as miniatures."""
    sources = made.entries("sources")
    for name in names:
        members = ARCHIVES[name]()
        for file in sources[name]["files"]:
            archive = file["url"].rpartition("/")[2]
            file["url"] = site.url(f"{name}/{archive}", packed(archive, members[archive]))
            for known in ("size", "md5", "sha256"):
                file.pop(known, None)
    made.write("sources", sources)


def serve_weights(made: Workspace, site: Site, name: str, files: dict[str, bytes]) -> None:
    """Let a source of weights be fetched from the loopback server."""
    sources = made.entries("sources")
    sources[name]["files"] = [
        {"url": site.url(f"{name}/{file}", data), "unpack": "none"} for file, data in files.items()
    ]
    made.write("sources", sources)


def videos(root: Path, names: Iterable[str], frames: int = 5) -> Path:
    """Write train videos of YouTube-VOS."""
    stems = [f"{5 * number:05d}" for number in range(frames)]
    meta: dict[str, Any] = {"videos": {}}
    for seed, name in enumerate(names):
        for step, stem in enumerate(stems):
            put(root / "train/JPEGImages" / name / f"{stem}.jpg", frame(10 * seed + step))
            put(root / "train/Annotations" / name / f"{stem}.png", mask(1, 2, step=step))
        objects = {number: {"category": "cat", "frames": stems} for number in "12"}
        meta["videos"][name] = {"objects": objects}
    put(root / "train/meta.json", meta)
    return root


def scribble(path: Path, labels: np.ndarray) -> None:
    """Write a scribble map on an index mask: its objects, eroded, and a line of background."""
    drawn = np.zeros_like(labels)
    objects = sorted({int(number) for number in np.unique(labels)} - {0, 255})
    for number in objects:
        inside = cv2.erode((labels == number).astype(np.uint8), np.ones((3, 3), np.uint8))
        drawn[inside.astype(bool)] = number
    drawn[40:47, 2:-2] = max(objects) + 1
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(drawn).save(path)
