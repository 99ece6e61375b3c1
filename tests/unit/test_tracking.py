"""Tracking is a view: runs are found again, sweeps are written whole, and no failure reaches the stage."""

from pathlib import Path

import pytest

from noisyvos import tracking

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A client on a fresh database in a fresh working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")  # mlflow keeps one engine a URI, so each test has its own
    monkeypatch.delenv("NOISYVOS_TRACKING", raising=False)
    return tracking._connect()


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
    with pytest.raises(ZeroDivisionError), tracking.run(cell="a", preset="p", stage="train", params={"x": 1}):
        raise ZeroDivisionError
    assert runs(store, "p")[0].info.status == "FAILED"


def test_sweeps_have_noise_in_percent_as_step_and_are_written_anew(store) -> None:
    with tracking.run(cell="a", preset="p", stage="train", params={"x": 1}):
        pass
    for jf in (0.4, 0.5):
        scored = tracking.Scored("a", {"val/JF": jf})
        tracking.record("p", [scored], [tracking.SweepPoint("a", "xmem|dilate", 20, {"jf": jf, "q_achieved": 0.801})])
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
    scored = tracking.Scored("a", {"val/JF": 0.5}, {"noise": {"q": 0.8}}, {"method": "gce"}, curve, (tmp_path / "objects.csv",))
    tracking.record("p", [scored], [])
    tracking.record("p", [scored], [])
    (only,) = runs(store, "p")
    assert only.data.params == {"noise.q": "0.8"}
    assert only.data.tags["method"] == "gce"
    assert [point.step for point in store.get_metric_history(only.info.run_id, "train/loss")] == [1, 2]
    assert len(store.get_metric_history(only.info.run_id, "val/JF")) == 1
    assert [file.path for file in store.list_artifacts(only.info.run_id, "scores")] == ["scores/objects.csv"]


def test_a_broken_store_costs_one_warning_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nosuchscheme://nowhere")
    with tracking.run(cell="a", preset="p", stage="train", params={"x": 1}) as track:
        track.metrics({"loss": 1.0})
    assert "not tracked" in capsys.readouterr().err


def test_tracking_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISYVOS_TRACKING", "off")
    with tracking.run(cell="a", preset="p", stage="train", params={"x": 1}) as track:
        track.metrics({"loss": 1.0})
    tracking.record("p", [tracking.Scored("a", {"JF": 0.1})], [])
    assert list(tmp_path.iterdir()) == []
