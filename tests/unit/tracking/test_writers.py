"""Many processes that write at once, and processes that are killed, lose no run and no point."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from noisyvos.tracking import journal as journals
from noisyvos.tracking import mlflow as tracking
from noisyvos.tracking import store as stores
from noisyvos.tracking.publish import ScoredCell, record

pytest.importorskip("mlflow")

WRITERS, STEPS = 16, 40
KILLED, SAVED = 33, 30  # last step before the kill, and that of the last checkpoint
SETTINGS = {"stage": "train", "dataset": "d", "seed": 0, "noise": {"noise": "x80", "q": 0.8}}
ORIGIN = {"inputs": {"dataset": "a" * 64, "masks": "b" * 64}, "code": "c"}
WRITE = f"""
import os, signal, sys
from pathlib import Path
from noisyvos.tracking import mlflow as tracking, store
store.load()  # once, before the forks
def write(cell, seed, last):
    with tracking.run(cell=cell, preset="p", stage="train", params={SETTINGS} | {{"seed": seed}},
                      origin={ORIGIN}, journal=Path("runs") / cell / "journal.jsonl") as track:
        for step in range(1, last + 1):
            track.metrics({{"train/loss": seed + 1 / step, "gradient/norm": 2.0}}, step)
        if last < {STEPS}:
            os.kill(os.getpid(), signal.SIGKILL)
children = []
for seed in range({WRITERS}):
    child = os.fork()
    if not child:
        write(f"cell-{{seed}}", seed, {STEPS})
        os._exit(0)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
write("killed", 0, {KILLED})
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder with what the processes wrote, their exit codes, and what they said."""
    folder = tmp_path_factory.mktemp("written")
    env = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    env.pop("NOISYVOS_TRACKING", None)
    command = [sys.executable, "-c", WRITE]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=env, cwd=folder
    )
    return folder, done.stdout, done.stderr


@pytest.fixture
def client(written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A client on a copy of it, in a copy of its folder."""
    folder = tmp_path / "copy"
    shutil.copytree(written[0], folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.delenv("NOISYVOS_TRACKING", raising=False)
    return stores.connect()


def run_of(client, cell: str):
    """The only current run of a cell."""
    experiment = client.get_experiment_by_name("grid/p").experiment_id
    (run,) = stores.Store(client, "p").find(experiment, "cell", cell)
    return run


def curve(client, cell: str, name: str = "train/loss") -> list[tuple[int, float]]:
    """The points of a cell's run."""
    history = client.get_metric_history(run_of(client, cell).info.run_id, name)
    return sorted((point.step, point.value) for point in history)


def points(seed: int, last: int) -> list[tuple[int, float]]:
    """What a writer sends up to a step."""
    return [(step, seed + 1 / step) for step in range(1, last + 1)]


def test_writers_that_start_at_once_on_a_fresh_file_lose_nothing(written, client) -> None:
    assert written[1] == f"{[0] * WRITERS}\n"
    assert "warning" not in written[2], written[2]
    for seed in range(WRITERS):
        cell = f"cell-{seed}"
        assert curve(client, cell) == points(seed, STEPS)
        assert len(curve(client, cell, "system/cpu_utilization_percentage")) == STEPS
        run = run_of(client, cell)
        assert run.info.status == "FINISHED"
        assert len(run.inputs.dataset_inputs) == 2
    names = [run.info.run_name for run in client.search_runs([run.info.experiment_id])]
    assert sorted(names) == sorted(["killed", *(f"cell-{seed}" for seed in range(WRITERS))])


@pytest.mark.parametrize("then", ["resume", "track", "track and resume", "other values"])
def test_a_killed_run_has_all_points_once(client, then: str) -> None:
    """The journal has all points up to the kill, MLflow a part, the checkpoint another part."""
    assert len(curve(client, "killed")) < KILLED, "the last points were not sent before the kill"
    weights = Path("runs/killed/weights.safetensors")
    summary: dict = {}
    expected = points(0, KILLED)
    if then.startswith("track"):
        record("p", [ScoredCell("killed", weights=weights)], [])
        assert curve(client, "killed") == expected
        assert run_of(client, "killed").info.status == "KILLED"
    if then != "track":
        change = 0.5 if then == "other values" else 0.0  # a GPU need not repeat its values
        again = [(step, change + 1 / step) for step in range(SAVED + 1, STEPS + 1)]
        with tracking.run(
            cell="killed",
            preset="p",
            stage="train",
            params=SETTINGS,
            origin=ORIGIN,
            journal=weights.with_name(journals.NAME),
        ) as track:
            for step, value in again:
                track.metrics({"train/loss": value, "gradient/norm": 3.0}, step)
        expected = points(0, SAVED) + again
        assert curve(client, "killed") == expected
        norms = curve(client, "killed", "gradient/norm")
        assert [step for step, _ in norms] == list(range(1, STEPS + 1))
        assert run_of(client, "killed").info.status == "FINISHED"
        summary = SETTINGS | ORIGIN
    record("p", [ScoredCell("killed", {"val/JF": 0.5}, summary, weights=weights)], [])
    assert curve(client, "killed") == expected
    assert run_of(client, "killed").data.metrics["val/JF"] == 0.5
