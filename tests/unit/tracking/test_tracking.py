"""Tracking is a view: runs are found again, sweeps are written whole, and no failure reaches the
stage.
"""

import subprocess
from pathlib import Path

import pytest

from noisyvos.tracking import mlflow as tracking
from noisyvos.tracking.publish import ScoredCell, record
from noisyvos.tracking.sweeps import SweepPoint, sweeps_page
from noisyvos.tracking.tags import cell_tags, config_hash, git_sha, training_hash

mlflow = pytest.importorskip("mlflow")


def runs(client, preset: str) -> list:
    """Every live run of a preset."""
    return client.search_runs([client.get_experiment_by_name(f"grid/{preset}").experiment_id])


def test_training_and_scoring_share_one_run_and_changed_settings_start_another(store) -> None:
    with tracking.run(cell="a", preset="p", stage="train", params={"noise": {"q": 0.8}}) as track:
        track.metrics({"loss": 2.0}, step=3)
    with tracking.run(cell="a", preset="p", stage="score") as track:
        track.metrics({"shapes_val/JF": 0.5})
    (only,) = runs(store, "p")
    assert only.data.params["noise.q"] == "0.8"
    assert only.data.metrics == {"loss": 2.0, "shapes_val/JF": 0.5}
    assert only.info.status == "FINISHED"
    with tracking.run(cell="a", preset="p", stage="train", params={"noise": {"q": 0.6}}):
        pass
    assert sorted(run.data.tags["superseded"] for run in runs(store, "p")) == ["no", "yes"]


def test_a_failing_stage_marks_its_run_and_the_error_goes_through(store) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        tracking.run(cell="a", preset="p", stage="train", params={"x": 1}),
    ):
        raise ZeroDivisionError
    assert runs(store, "p")[0].info.status == "FAILED"


def test_sweeps_have_noise_in_percent_as_step_and_are_written_anew(store) -> None:
    with tracking.run(cell="a", preset="p", stage="train", params={"x": 1}):
        pass
    for jf in (0.4, 0.5):
        scored = ScoredCell("a", {"val/JF": jf})
        record(
            "p",
            [scored],
            [SweepPoint("a", "xmem|dilate", 20, {"jf": jf, "q_achieved": 0.801})],
        )
    parents = [run for run in runs(store, "p") if run.data.tags.get("sweep")]
    assert len(parents) == 1
    (point,) = store.get_metric_history(parents[0].info.run_id, "sweep/jf")
    assert (point.step, point.value) == (20, 0.5)
    (child,) = [run for run in runs(store, "p") if run.data.tags.get("cell")]
    assert child.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
    assert child.data.metrics["val/JF"] == 0.5


def test_runs_are_rebuilt_from_results_where_training_left_none(store, tmp_path: Path) -> None:
    (tmp_path / "objects.csv").write_text("sequence,object\n")
    curve = ((1, {"train/loss": 3.0}), (2, {"train/loss": 2.0}))
    summary = {"noise": {"q": 0.8}, "method": {"name": "gce", "kind": "gce"}}
    scored = ScoredCell(
        "a",
        {"val/JF": 0.5},
        summary,
        {"data.eval": "val"},
        curve,
        ((tmp_path / "objects.csv", "scores/val"),),
    )
    record("p", [scored], [])
    record("p", [scored], [])
    (only,) = runs(store, "p")
    assert only.data.params == {"noise.q": "0.8", "method.name": "gce", "method.kind": "gce"}
    assert (only.data.tags["method"], only.data.tags["data.eval"], only.data.tags["noise.q"]) == (
        "gce",
        "val",
        "0.8",
    )
    assert only.data.tags["git_sha"] == "unknown", (
        "the commit checked out now need not be that of the training"
    )
    assert [point.step for point in store.get_metric_history(only.info.run_id, "train/loss")] == [
        1,
        2,
    ]
    assert len(store.get_metric_history(only.info.run_id, "val/JF")) == 1
    assert [file.path for file in store.list_artifacts(only.info.run_id, "scores/val")] == [
        "scores/val/objects.csv"
    ]


def test_a_cell_of_two_blocks_is_one_run_and_the_other_sweep_names_it_by_its_hash(store) -> None:
    """The clean cell belongs to block `core`; the sweep of block `temporal` shows its point all
    the same.
    """
    clean = ScoredCell(
        "clean",
        {"val/JF": 0.6},
        {"seed": 0, "method": {"name": "xmem"}, "noise": {"kind": "clean"}},
        block="core",
    )
    noisy = ScoredCell(
        "noisy",
        {"val/JF": 0.4},
        {"seed": 0, "method": {"name": "xmem"}, "noise": {"kind": "mix"}},
        block="temporal",
    )
    points = [
        SweepPoint(cell, "xmem|mix_ar1", step, {"jf": jf}, {"method": "xmem"}, "temporal")
        for cell, step, jf in (("clean", 0, 0.6), ("noisy", 30, 0.4))
    ]
    record("p", [clean, noisy], points)
    assert [run.data.tags["cell"] for run in runs(store, "core")] == ["clean"]
    parent, child = sorted(runs(store, "temporal"), key=lambda run: "cell" in run.data.tags)
    assert sorted(
        (m.step, m.value) for m in store.get_metric_history(parent.info.run_id, "sweep/jf")
    ) == [(0, 0.6), (30, 0.4)]
    (core,) = runs(store, "core")
    assert parent.data.tags["config_hash.0"] == core.data.tags["config_hash"]
    assert (
        parent.data.tags["config_hash.30"]
        == child.data.tags["config_hash"]
        != core.data.tags["config_hash"]
    )
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert "mlflow.parentRunId" not in core.data.tags


def test_the_address_of_the_sweeps_is_said_and_kept_in_the_experiment(store, capsys) -> None:
    record(
        "p",
        [ScoredCell("a", {"val/JF": 0.5})],
        [SweepPoint("a", "xmem|dilate", 20, {"jf": 0.5})],
    )
    (parent,) = [run.info.run_id for run in runs(store, "p") if "sweep" in run.data.tags]
    said = capsys.readouterr().out
    experiment = store.get_experiment_by_name("grid/p")
    page = sweeps_page(experiment.experiment_id, [parent])
    assert parent in page
    assert "workflowType=machine_learning" in page, (
        "else the UI opens on pages that show nothing of these runs"
    )
    assert f"http://127.0.0.1:5000/{page}" in said
    assert f"({page})" in experiment.tags["mlflow.note.content"]
    many = sweeps_page("1", [parent] * 100)
    assert len(many) < 200
    assert parent not in many


def test_presets_do_not_take_each_others_runs_in_one_experiment(store) -> None:
    for preset, value in (("p", 0.5), ("q", 0.7)):
        record(preset, [ScoredCell("a", {"val/JF": value}, block="core")], [])
    assert sorted(run.data.metrics["val/JF"] for run in runs(store, "core")) == [0.5, 0.7]


def test_tags_of_a_cell_are_all_that_people_filter_by() -> None:
    summary = {
        "stage": "train",
        "model": {"name": "xmem", "kind": "xmem"},
        "method": {"name": "smart_parity", "kind": "smart", "preset": "released", "parity": True},
        "schedule": {"name": "xmem_stage3", "batch": 8},
        "seed": 2,
        "dataset": "davis17_train",
        "noise": {"kind": "dilate", "q": 0.8, "seed": 2},
        "inputs": {"init": "aa", "noise_manifest": "bb", "masks": "cc"},
        "code": "dd",
    }
    found = cell_tags(summary)
    assert found.pop("config_hash") == config_hash(summary)
    assert found.pop("training_hash") == training_hash(summary)
    assert training_hash(summary | {"code": "ee"}) != training_hash(summary)
    assert training_hash(summary | {"final": {"loss": 1}}) == training_hash(summary)
    names = {
        "stage": "train",
        "model": "xmem",
        "method": "smart_parity",
        "method.preset": "released",
        "parity": "true",
        "schedule": "xmem_stage3",
        "seed": 2,
    }
    traces = {
        "noise_manifest_hash": "bb",
        "init_ckpt_hash": "aa",
        "code": "dd",
        "data.train": "davis17_train",
    }
    assert found == names | traces | {"noise.kind": "dilate", "noise.q": 0.8, "noise.seed": 2}
    assert config_hash(summary | {"seed": 3}) != config_hash(summary)
    assert config_hash(
        summary | {"cell": "other", "code": "ee", "final": {"loss": 1}}
    ) == config_hash(summary)


def test_the_commit_is_named_and_changes_are_said(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *who, *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    assert git_sha(tmp_path) == "unknown"
    git("init", "--quiet")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "--quiet", "-m", "first")
    assert git_sha(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "file").write_text("two")
    assert git_sha(tmp_path) == git("rev-parse", "HEAD") + "+changed"


def test_a_broken_store_costs_one_warning_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NOISYVOS_TRACKING", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nosuchscheme://nowhere")
    with tracking.run(cell="a", preset="p", stage="train", params={"x": 1}) as track:
        track.metrics({"loss": 1.0})
    assert "not tracked" in capsys.readouterr().err


def test_tracking_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISYVOS_TRACKING", "off")
    with tracking.run(cell="a", preset="p", stage="train", params={"x": 1}) as track:
        track.metrics({"loss": 1.0})
    record("p", [ScoredCell("a", {"JF": 0.1})], [])
    assert list(tmp_path.iterdir()) == []


def test_a_short_training_may_leave_its_run_to_tables(store, tmp_path: Path, monkeypatch) -> None:
    """Snakemake asks for that, because `tables` imports MLflow anyway."""
    monkeypatch.setenv("NOISYVOS_TRACKING", "late")

    def train(cell: str) -> None:
        place = tmp_path / cell / "journal.jsonl"
        params = {"seed": 0}
        with tracking.run(
            cell=cell, preset="p", stage="train", params=params, journal=place
        ) as track:
            track.metrics({"train/loss": 3.0}, step=1)
            track.metrics({"train/loss": 2.0}, step=2)

    train("short")
    assert store.get_experiment_by_name("grid/p") is None
    weights = tmp_path / "short" / "weights.safetensors"
    record("p", [ScoredCell("short", {"val/JF": 0.5}, {"seed": 0}, weights=weights)], [])
    (only,) = runs(store, "p")
    assert only.info.status == "FINISHED"
    assert "rebuilt" not in only.data.tags
    assert [p.value for p in store.get_metric_history(only.info.run_id, "train/loss")] == [3.0, 2.0]

    monkeypatch.setattr(tracking, "_LATE_SECONDS", 0.0)
    train("long")
    of = {run.data.tags["cell"]: run for run in runs(store, "p")}
    assert of["long"].info.status == "FINISHED"
    history = store.get_metric_history(of["long"].info.run_id, "train/loss")
    assert [(p.step, p.value) for p in history] == [(1, 3.0), (2, 2.0)]


def test_a_training_that_fails_early_is_in_mlflow_at_once(store, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("NOISYVOS_TRACKING", "late")

    def fail() -> None:
        journal = tmp_path / "journal.jsonl"
        params = {"x": 1}
        with tracking.run(
            cell="a", preset="p", stage="train", params=params, journal=journal
        ) as track:
            track.metrics({"train/loss": 3.0}, step=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    (only,) = runs(store, "p")
    assert (only.info.status, only.data.metrics["train/loss"]) == ("FAILED", 3.0)
