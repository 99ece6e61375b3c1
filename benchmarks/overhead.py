"""What the workflow itself costs.

Start-up of the command line, loading the workflow, seconds per job beyond its command.

Jobs are measured with a Snakefile whose jobs have the same directives as ours (log, benchmark,
params, one input, one output) but whose command does nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
JOBS = 30
SNAKEFILE = """
rule all:
    input: [f"out/{{i}}.txt" for i in range({jobs})]
rule one:
    input: "start.txt"
    output: "out/{{key}}.txt"
    params: command=lambda wildcards: f"touch out/{{wildcards.key}}.txt", tracked="{{}}"
    log: "logs/{{key}}.log"
    benchmark: "logs/{{key}}.tsv"
    shell: "NOISYVOS_WORKERS=1 {{params.command}} > {{log}} 2>&1"
"""


def seconds(command: list[str], folder: Path, repeats: int = 5) -> tuple[float, float]:
    """Return the median (wall, CPU) seconds of a command, children included."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    walls, cpus = [], []
    for _ in range(repeats):
        before, began = os.times(), time.perf_counter()
        subprocess.run(
            command, cwd=folder, env={**os.environ, "PATH": path}, check=True, capture_output=True
        )
        walls.append(time.perf_counter() - began)
        after = os.times()
        cpus.append(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
    return statistics.median(walls), statistics.median(cpus)


def job_overhead() -> dict[str, float]:
    """Return the seconds a Snakemake job takes beyond its command, which is `touch` here.

    And the start of Snakemake.
    """
    result = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for jobs in (0, JOBS):
            (folder / "Snakefile").write_text(SNAKEFILE.format(jobs=jobs))
            (folder / "start.txt").touch()
            wall, cpu = seconds(
                ["snakemake", "--cores", "1", "--quiet", "--forceall"], folder, repeats=1
            )
            result[jobs] = (wall, cpu)
    return {
        "snakemake start wall": result[0][0],
        "per job wall": (result[JOBS][0] - result[0][0]) / JOBS,
        "per job cpu": (result[JOBS][1] - result[0][1]) / JOBS,
    }


def main() -> None:
    """Measure and print JSON: seconds."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    facts: dict[str, float] = {}
    facts["noisyvos --help wall"], facts["noisyvos --help cpu"] = seconds(
        ["noisyvos", "--help"], ROOT
    )
    facts["gpu lease wall"], facts["gpu lease cpu"] = seconds(
        [sys.executable, "-m", "noisyvos.pipeline.gpu_lease", "--", "true"], ROOT
    )
    facts["load of the workflow cpu"] = seconds(
        [sys.executable, "-c", "from noisyvos.pipeline.dvc_yaml import load; load()"], ROOT
    )[1]
    facts |= job_overhead()
    print(json.dumps({name: round(value, 3) for name, value in facts.items()}, indent=1))
    print(
        f"summary: --help {facts['noisyvos --help cpu']:.2f} CPU s, a Snakemake job "
        f"{facts['per job cpu']:.3f} CPU s beyond its command"
    )


if __name__ == "__main__":
    main()
