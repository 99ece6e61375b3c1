"""What planning costs as the grid grows: grid, plan, dry run, a job's own process, DVC's status.

Each preset is planned in a copy of the repository without data and without any cache of ours, in
which the modules are compiled. Columns, in CPU seconds:

- first: `noisyvos plan`, the first command after the clone
- plan: the same again
- grid: `noisyvos grid`, which then has no grid in its cache
- dry run and GB: `snakemake -n` and its peak memory
- job: the Snakemake process that a cluster's node starts for one job, without the job
- status: `dvc status`, where nothing has run
- floor: a dry run of as many jobs in chains of three, whose rules have no input functions,
  parameters, logs or resources

The made-up grid has 10,010 trainings: the core block of `paper` with 70 seeds on one set. With
`--profile PRESET` one command is profiled instead: the dry run, or `--of grid`, `plan` or `status`.
"""

import argparse
import os
import pstats
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import nan
from pathlib import Path

import yaml

from noisyvos.pipeline.grid import build

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
from repository import copy_repository  # noqa: E402

MADE_UP = "made_up"
PRESETS = ("smoke", "demo", "lite", "paper", MADE_UP)
# for `paper`: CPU seconds, GB
BARS = {"first": 2, "plan": 2, "grid": 3, "dry run": 30, "GB": 1, "status": 30}
COLUMNS = ("first", "plan", "grid", "dry run", "GB", "job", "status", "floor")
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


def measure(folder: Path, *command: str) -> tuple[float, float, str]:
    """Run a command in a folder; return its CPU seconds, children included, peak GB and output."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "DVC_NO_ANALYTICS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        started = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=said)
        _, status, usage = os.wait4(started.pid, 0)
        if status not in (0, 256):  # 256: `dvc status -q` where something is to do
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} failed.\n{said.read().decode()[-2000:]}")
        out.seek(0)
        said.seek(0)
        text = out.read().decode() + said.read().decode()
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6, text


@contextmanager
def copy() -> Iterator[Path]:
    """Yield a copy of the repository without caches, with the made-up preset."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        copy_repository(root)
        measure(root, sys.executable, "-m", "compileall", "-q", "src")
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
    parser.add_argument("--profile", metavar="PRESET", help="profile one command of it instead")
    parser.add_argument("--of", default="dry run", choices=list(COMMANDS))
    arguments = parser.parse_args()
    if arguments.profile:
        with copy() as root:
            return profile(root, arguments.profile, arguments.of)
    print(f"{'preset':<8} {'trainings':>9} {'jobs':>6}" + "".join(f"{c:>9}" for c in COLUMNS))
    paper: dict[str, float] = {}
    for preset in arguments.presets:
        with copy() as root:
            row = measure_preset(root, preset, dvc=not arguments.no_dvc)
            trainings = len(build(preset, root / "params")["train"])
        row["floor"] = nan if arguments.no_floor else measure_floor(int(row["jobs"]))
        figures = "".join(f"{row[column]:>9.2f}" for column in COLUMNS)
        print(f"{preset:<8} {trainings:>9} {row['jobs']:>6.0f}{figures}", flush=True)
        paper = row if preset == "paper" else paper
    if paper:
        said = [f"{name} {paper[name]:.1f} (bar {bar})" for name, bar in BARS.items()]
        print(f"summary: paper, CPU seconds and GB: {', '.join(said)}")


def measure_preset(root: Path, preset: str, *, dvc: bool) -> dict[str, float]:
    """Return what is measured by column, and the number of jobs."""
    row = {}
    row["first"] = measure(root, *command_of("plan", preset))[0]
    row["plan"] = measure(root, *command_of("plan", preset))[0]
    row["grid"] = measure(root, *command_of("grid", preset))[0]
    # which checks the parameters and the code once
    measure(root, "snakemake", "-n", "--quiet", "--config", "preset=smoke")
    row["dry run"], row["GB"], said = measure(root, *command_of("dry run", preset))
    row["jobs"] = float(max(map(int, re.findall(r"^total +(\d+)", said, re.MULTILINE))))
    row["job"] = measure(root, *job_of(root, preset))[0]
    row["status"] = measure(root, *command_of("status", preset))[0] if dvc else nan
    return row


COMMANDS = {
    "grid": ("-m", "noisyvos", "grid", "--preset", "{preset}"),
    "plan": ("-m", "noisyvos", "plan", "{preset}"),
    "dry run": ("-m", "snakemake", "-n"),
    "status": ("-m", "dvc", "status", "-q"),
}


def command_of(what: str, preset: str) -> tuple[str, ...]:
    """Return a command line; the last two read the grid that `grid` wrote."""
    return (sys.executable, *(word.format(preset=preset) for word in COMMANDS[what]))


def job_of(root: Path, preset: str) -> tuple[str, ...]:
    """Return what a cluster's node runs for one job without inputs, as a dry run."""
    cells = build(preset, root / "params")
    stage = next(stage for stage in ("generate", "download") if cells[stage])
    job = f"{stage}:key={next(iter(cells[stage]))}"
    options = ("--nolock", "--force", "--allowed-rules", stage, "--target-jobs", job)
    return (sys.executable, "-m", "snakemake", "-n", "--quiet", "all", *options)


def measure_floor(jobs: int) -> float:
    """Return the CPU seconds of a dry run of as many trivial jobs."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "Snakefile").write_text(FLOOR.format(chains=max(1, jobs // 3)))
        return measure(Path(name), "snakemake", "-n")[0]


def profile(root: Path, preset: str, what: str) -> None:
    """Print which functions a command spends its time in; imports and small shares are left out."""
    if what in ("dry run", "status"):
        measure(root, *command_of("grid", preset))
    if what == "dry run":
        measure(root, "snakemake", "-n", "--quiet", "--config", "preset=smoke")
    python, *command = command_of(what, preset)
    measure(root, python, "-m", "cProfile", "-o", "profile", *command)
    stats = pstats.Stats(str(root / "profile"))
    rows = sorted(stats.stats.items(), key=lambda row: -row[1][3])  # type: ignore[attr-defined]
    total = rows[0][1][3]
    print(f"{'share':>6} {'calls':>9}  function")
    for (file, _, name), entry in rows:
        place = "/".join(Path(file).parts[-2:])
        if file.startswith(("<", "~")) or entry[3] < 0.02 * total:
            continue
        print(f"{entry[3] / total:>6.0%} {entry[1]:>9}  {place}:{name}")


if __name__ == "__main__":
    main()
