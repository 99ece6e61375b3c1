"""What planning costs as the grid grows: grid, plan, dry run, status, and the floor of Snakemake.

Each preset is planned in a copy of the repository without any data. `floor` is a Snakefile with as
many jobs in chains of three, whose rules have no input functions, parameters, logs or resources.
The made-up grid has 10,010 trainings: the core block of `paper` with 70 seeds on one set. With
`--profile PRESET` a dry run is profiled.
"""

import argparse
import json
import os
import pstats
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from noisyvos.pipeline.grid import STAGES, build

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
from repository import copy_repository  # noqa: E402

MADE_UP = "made_up"
PRESETS = ("smoke", "demo", "lite", "paper", MADE_UP)
BARS = {"grid": 3, "plan": 2, "dry run": 30, "dvc status": 30}  # CPU seconds for `paper`
FLOOR = """
rule all:
    input: [f"c/{{i}}.txt" for i in range({chains})]
rule a:
    output: "a/{{key}}.txt"
    shell: "touch {{output}}"
rule b:
    input: "a/{{key}}.txt"
    output: "b/{{key}}.txt"
    shell: "touch {{output}}"
rule c:
    input: "b/{{key}}.txt"
    output: "c/{{key}}.txt"
    shell: "touch {{output}}"
"""


def measure(folder: Path, *command: str) -> tuple[float, float]:
    """Run a command in a folder; return its CPU seconds, children included, and peak GB."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "DVC_NO_ANALYTICS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryFile() as said:
        started = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=said
        )
        _, status, usage = os.wait4(started.pid, 0)
        if status not in (0, 256):  # 256: `dvc status -q` where something is to do
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} failed.\n{said.read().decode()[-2000:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


@contextmanager
def copy() -> Iterator[Path]:
    """Yield a copy of the repository's definitions, with the made-up preset."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        copy_repository(root, linked=("src",))
        subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
        paper = yaml.safe_load((root / "params/presets/paper.yaml").read_text())
        core = paper["blocks"]["core"] | {"seed": list(range(70)), "evaluate": ["davis17_val"]}
        for setting in ("prompts", "corruptions"):
            core.pop(setting)
        made = paper | {"title": "A made-up grid", "blocks": {"core": core}}
        made["evaluate"] = {"davis17_val": paper["evaluate"]["davis17_val"]}
        (root / f"params/presets/{MADE_UP}.yaml").write_text(yaml.safe_dump(made))
        yield root


def main() -> None:
    """Measure and print a row for each preset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", default=PRESETS)
    parser.add_argument("--no-dvc", action="store_true", help="leave out `dvc status`")
    parser.add_argument("--no-floor", action="store_true", help="leave out trivial jobs")
    parser.add_argument("--profile", metavar="PRESET", help="profile a dry run of it instead")
    arguments = parser.parse_args()
    with copy() as root:
        if arguments.profile:
            return profile(root, arguments.profile)
        print(
            f"{'preset':<8} {'trainings':>9} {'jobs':>6} {'grid':>6} {'again':>6} {'plan':>6} "
            f"{'dry run':>8} {'GB':>5} {'floor':>6} {'status':>7}   CPU seconds"
        )
        paper: dict[str, float] = {}
        for preset in arguments.presets:
            row = measure_preset(root, preset, dvc=not arguments.no_dvc)
            cells = build(preset, root / "params")
            jobs = sum(len(cells[stage]) for stage in STAGES) + 3
            floor = float("nan") if arguments.no_floor else measure_floor(jobs)
            print(
                f"{preset:<8} {len(cells['train']):>9} {jobs:>6} {row['grid']:>6.1f} "
                f"{row['again']:>6.1f} {row['plan']:>6.1f} {row['dry run']:>8.1f} "
                f"{row['GB']:>5.2f} {floor:>6.1f} {row['dvc status']:>7.1f}",
                flush=True,
            )
            paper = row if preset == "paper" else paper
    if paper:
        said = [f"{name} {paper[name]:.1f} CPU s (bar {bar})" for name, bar in BARS.items()]
        print(f"summary: paper: {', '.join(said)}")


def measure_preset(root: Path, preset: str, *, dvc: bool) -> dict[str, float]:
    """Return CPU seconds by what is measured; `again` is the grid from its cache."""
    noisyvos = (sys.executable, "-m", "noisyvos")
    row = {}
    row["grid"], _ = measure(root, *noisyvos, "grid", "--preset", preset)
    row["again"], _ = measure(root, *noisyvos, "grid", "--preset", preset)
    measure(root, *noisyvos, "plan", preset)  # which measures the sizes of the networks once
    row["plan"], _ = measure(root, *noisyvos, "plan", preset)
    measure(
        root, "snakemake", "-n", "--quiet", "--config", "preset=smoke"
    )  # checks parameters once
    row["dry run"], row["GB"] = measure(root, "snakemake", "-n")
    row["dvc status"] = measure(root, "dvc", "status", "-q")[0] if dvc else float("nan")
    return row


def measure_floor(jobs: int) -> float:
    """Return the CPU seconds of a dry run of as many trivial jobs."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "Snakefile").write_text(FLOOR.format(chains=max(1, jobs // 3)))
        return measure(Path(name), "snakemake", "-n", "--quiet")[0]


def profile(root: Path, preset: str) -> None:
    """Print which functions a dry run spends its time in."""
    measure(root, "snakemake", "-n", "--quiet", "--config", "preset=smoke")
    command = ("-m", "snakemake", "-n", "--config", f"preset={preset}")
    measure(root, sys.executable, "-m", "cProfile", "-o", "profile", *command)
    stats = pstats.Stats(str(root / "profile"))
    rows = sorted(stats.stats.items(), key=lambda row: -row[1][3])  # type: ignore[attr-defined]
    total = rows[0][1][3]
    found = {
        f"{Path(file).name}:{name}": {"calls": entry[1], "share": round(entry[3] / total, 3)}
        for (file, _, name), entry in rows
        if "snakemake" in file or "noisyvos" in file
    }
    print(json.dumps(dict(list(found.items())[:60]), indent=1))


if __name__ == "__main__":
    main()
