"""The SLURM profiles on a real SLURM of one node: a whole run, and trainings that are interrupted.

One run of preset `smoke` is shared by all tests. In it one training is put back into the queue, one
reaches its time limit, and the node dies under a third. SLURM is started here (`slurm_node`).
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from slurm_node import CannotStart, SlurmNode, missing_programs, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

SECONDS = 900.0  # until something happens, on a slow machine
REQUEUED = "shapes_smoke_train-clean-xmem-xmem_tiny-s0"
LIMITED = "shapes_smoke_train-clean-smart_unit-xmem_tiny-s0"
CRASHED = "shapes_smoke_train-dilate70-xmem-xmem_tiny-s0"
OFTEN = ("--slurm-init-seconds-before-status-checks", "2")


@dataclass
class Cluster:
    """A SLURM, and a copy of the repository that uses it."""

    node: SlurmNode
    space: Any  # a Workspace
    killed: list[str] = field(default_factory=list)  # names of processes that died with the node
    output: str = ""  # of the run

    def environment(self) -> dict[str, str]:
        own = self.node.environment
        path = os.pathsep.join((str(self.node.base / "bin"), self.space.path, own["PATH"]))
        kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        own |= {"PATH": path, "PYTHONPATH": str(self.space.root / "src")}
        return kept | own | {"NOISYVOS_TRACKING": "off"}

    def start(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        """Start Snakemake in the copy."""
        return subprocess.Popen(
            ["snakemake", *arguments],
            cwd=self.space.root,
            env=self.environment() | changes,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def file(self, path: str) -> Path:
        return self.space.root / path

    def train(self, key: str, out: Path) -> Path:
        """Run a training of the grid here and now, undisturbed; return the folder of its outputs"""
        command = next(
            job["command"] for job in self._cells() if job["key"] == key and job["stage"] == "train"
        )
        for folder in ("runs", "results", "scratch"):
            command = command.replace(f" {folder}/smoke/train/", f" {out}/")
        command = command.replace("--scratch scratch", f"--scratch {out}/scratch")
        self.space.run("bash", "-c", f"export NOISYVOS_TRACKING=off; {command}")
        return out / key

    def _cells(self) -> list[dict[str, Any]]:
        script = (
            "import json; from noisyvos.pipeline.dvc_yaml import load; print(json.dumps("
            "[{'stage': job.stage, 'key': job.key, 'command': job.command} for job in load()]))"
        )
        found: list[dict[str, Any]] = json.loads(
            self.space.run(sys.executable, "-c", script).stdout
        )
        return found


def until(what: str, happens: Callable[[], Any]) -> Any:
    """Wait until `happens` returns something true, and return it."""
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        if found := happens():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {SECONDS:.0f} s: {what}")


@pytest.fixture(scope="module")
def node() -> Iterator[SlurmNode]:
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs noisyvos[slurm]")
    if absent := missing_programs():
        pytest.skip(f"SLURM is not installed: {', '.join(absent)} (Debian: slurm-wlm, munge)")
    try:
        with running() as found:
            yield found
    except CannotStart as error:
        if os.getuid() == 0:
            raise
        pytest.skip(f"SLURM may not run here: {error}")


@pytest.fixture(scope="module")
def cluster(node: SlurmNode, bare_workspace: Any) -> Cluster:
    """The cluster after a run of preset `smoke` in which three trainings were interrupted."""
    found = Cluster(node, bare_workspace)
    run = found.start("--workflow-profile", "profiles/slurm", "--jobs", "6", *OFTEN)
    try:
        frozen = freeze(found, run, (REQUEUED, LIMITED, CRASHED))
        for key in (REQUEUED, LIMITED):
            job = node.jobs_of("train", key)[-1]["JobId"]
            if key == REQUEUED:
                node.ask("scontrol", "requeue", job)
            else:
                node.ask("scontrol", "update", f"JobId={job}", "EndTime=now")
            until(f"end of {key}", lambda key=key: ended(frozen[key]))
        found.killed = node.crash()
        assert ended(frozen[CRASHED])
        node.start_slurmd()
        found.output = run.communicate(timeout=SECONDS)[0]
    finally:
        if run.poll() is None:
            run.kill()
            found.output = run.communicate()[0]
            print(found.output)
    assert run.returncode == 0, found.output
    return found


def freeze(
    cluster: Cluster, run: subprocess.Popen[str], keys: tuple[str, ...]
) -> dict[str, psutil.Process]:
    """Stop the training of each cell after its first checkpoint, so that it does not end."""
    found: dict[str, psutil.Process] = {}
    frozen: dict[str, psutil.Process] = {}

    def here(process: psutil.Process) -> bool:  # not the same cell of another copy
        with suppress(psutil.Error):
            return Path(process.cwd()) == cluster.space.root.resolve()
        return False

    def all_frozen() -> bool:
        assert run.poll() is None, run.communicate()[0]
        for each in psutil.process_iter(["cmdline"]) if len(found) < len(keys) else ():
            words = each.info["cmdline"] or []
            for key in keys:
                if "train" in words and key in words and here(each):
                    found.setdefault(key, each)  # not a child that it has just forked
        for key in found.keys() - frozen.keys():
            if any(cluster.file(f"scratch/smoke/{key}").glob("checkpoint-*.pt")):
                found[key].send_signal(signal.SIGSTOP)
                frozen[key] = found[key]
        return len(frozen) == len(keys)

    until("checkpoints of three trainings", all_frozen)
    return frozen


def ended(process: psutil.Process) -> bool:
    """Return whether a process is gone, or waits for its parent to notice."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_smoke_preset_goes_to_its_end(cluster: Cluster) -> None:
    assert "28 of 28 jobs done in" in cluster.output
    assert cluster.file("results/smoke/report.html").stat().st_size > 10_000
    states = {job["JobState"] for job in cluster.node.jobs()}
    assert states == {"COMPLETED", "TIMEOUT"}


def test_each_job_asks_for_what_its_rule_says(cluster: Cluster) -> None:
    for job in cluster.node.jobs():
        rule = job["Comment"].split("_")[1]
        gpu = rule in ("pretrain", "train", "infer")
        assert job["Partition"] == ("gpu" if gpu else "cpu")
        assert job.get("TresPerJob") == ("gres:gpu:1" if gpu else None)
        if gpu:
            assert "cpu=1," in job["TRES"]
            assert "mem=4000M" in job["TRES"]


@pytest.mark.parametrize("key", [REQUEUED, LIMITED, CRASHED])
def test_an_interrupted_training_ends_in_the_same_bytes(
    cluster: Cluster, key: str, tmp_path: Path
) -> None:
    assert "noisyvos: resuming at iteration" in cluster.file(f"logs/train/{key}.log").read_text()
    alone = cluster.train(key, tmp_path)
    for folder, name in (("runs", "weights.safetensors"), ("results", "curve.csv")):
        assert digest(cluster.file(f"{folder}/smoke/train/{key}/{name}")) == digest(alone / name)


def test_slurm_saw_a_requeue_a_time_limit_and_a_dead_node(cluster: Cluster) -> None:
    (requeued,) = cluster.node.jobs_of("train", REQUEUED)
    assert int(requeued["Restarts"]) >= 1
    first, second = cluster.node.jobs_of("train", LIMITED)
    assert (first["JobState"], second["JobState"]) == ("TIMEOUT", "COMPLETED")
    (crashed,) = cluster.node.jobs_of("train", CRASHED)
    assert int(crashed["Restarts"]) >= 1
    assert {"slurmd", "slurmstepd"} <= set(cluster.killed)


def test_the_time_limit_is_told(cluster: Cluster) -> None:
    _, _, said = cluster.output.partition(f"FAILED train@{LIMITED}")
    assert "DUE TO TIME LIMIT" in said


def test_without_gpus_the_same_bytes(cluster: Cluster) -> None:
    out = "runs/smoke/predictions/pretrained-xmem_tiny-s0-shapes_smoke_val.zip"
    before = digest(cluster.file(out))
    run = cluster.start("--workflow-profile", "profiles/slurm-cpu", *OFTEN, out, "--force")
    assert run.wait(SECONDS) == 0, run.communicate()[0]
    job = cluster.node.jobs()[-1]
    assert job["Comment"].startswith("rule_infer_")
    assert (job["Partition"], job["JobState"]) == ("cpu", "COMPLETED")
    assert "TresPerJob" not in job
    assert digest(cluster.file(out)) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--slurm-status-command", "sacct"], "It keeps no accounts, so `sacct` never tells"),
        (
            ["--default-resources", "slurm_partition=batch", "mem_mb=1000", "runtime=10"],
            "There is no partition 'batch'. Name one of these in the profile: cpu, gpu.",
        ),
        (["--set-threads", "score=64"], "score asks for 64 CPUs, and a node of partition 'cpu'"),
    ],
)
def test_what_cannot_run_is_refused_before_the_first_job(
    cluster: Cluster, arguments: list[str], said: str
) -> None:
    jobs = len(cluster.node.jobs())
    profile = ("--workflow-profile", "profiles/slurm")
    run = cluster.start(*profile, *arguments, "--forcerun", "score")
    output = run.communicate(timeout=SECONDS)[0]
    assert run.returncode == 1
    assert said in output
    assert len(cluster.node.jobs()) == jobs


def test_a_job_that_does_not_start_says_why(cluster: Cluster) -> None:
    """Without its SLURM_CONF srun finds no cluster, as on a site that sets it in a login script."""
    wrapper = cluster.node.base / "bin" / "srun"
    hidden = wrapper.rename(wrapper.with_name("hidden"))
    out = "runs/smoke/predictions/first_mask-shapes_smoke_val.zip"
    try:
        run = cluster.start("--workflow-profile", "profiles/slurm", *OFTEN, out, "--force")
        output = run.communicate(timeout=SECONDS)[0]
    finally:
        hidden.rename(wrapper)
    reason = "srun: fatal: Could not establish a configuration source"
    assert run.returncode == 1
    assert reason in output
    status = json.loads(cluster.space.noisyvos("status", "--json").stdout)
    (job,) = [job for job in status["jobs"] if job["state"] == "failed"]
    assert job["name"] == "baseline@first_mask-shapes_smoke_val"
    assert job["said"] == reason
    assert ".snakemake/slurm_logs/rule_baseline" in job["log"]
