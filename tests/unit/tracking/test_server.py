"""Whatever the tracking server does, a stage loses seconds and no result."""

import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from noisyvos.errors import UserError
from noisyvos.stages import track as stage
from noisyvos.tracking import mlflow as tracking
from noisyvos.tracking import publish, server


@pytest.fixture
def listening():
    """The URI of a server that accepts connections and never answers."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(5)
        yield f"http://127.0.0.1:{made.getsockname()[1]}"


def test_a_server_that_never_answers_is_named_and_given_up(listening, capsys) -> None:
    began = time.monotonic()
    with pytest.raises(server.NoAnswer, match=r"did not answer within 2 s|cannot be reached"):
        server.probe(listening.replace("//", "//me:secret@"), seconds=2)
    assert time.monotonic() - began < 4
    said = capsys.readouterr().err
    assert f"waiting up to 2 s for the MLflow server {listening}" in said
    assert "secret" not in said


def test_a_refused_port_fails_at_once_and_files_have_no_server() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    for uri in (f"http://127.0.0.1:{port}", f"postgresql+psycopg2://u:p@127.0.0.1:{port}/d"):
        with pytest.raises(server.NoAnswer, match="cannot be reached"):
            server.probe(uri)
    for uri in ("sqlite:///mlflow.db", "mlruns", "file:///tmp/x", "databricks"):
        server.probe(uri)


def test_limits_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in server.LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    server.limit_requests()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    for name in server.LIMITS:
        monkeypatch.setenv(name, "")  # so that it is removed afterwards


def test_the_first_failure_ends_the_tracking_of_a_run(capsys) -> None:
    calls: list[str] = []

    class Dead:
        def __getattr__(self, name: str):
            calls.append(name)
            raise ConnectionError("gone")

    pytest.importorskip("mlflow")
    track = tracking.Track(Dead(), "r")
    for step in range(1000):
        track.metrics({"loss": 1.0}, step)
    track.tags({"a": 1})
    track.artifact("x")
    track.status("FINISHED")
    assert calls == ["log_batch"]
    assert capsys.readouterr().err.count("no longer tracked") == 1


def test_track_claims_nothing_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    loaded = SimpleNamespace(preset={"name": "p"}, any_scored=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NOISYVOS_TRACKING", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr(stage, "load_results", lambda *paths: loaded)
    monkeypatch.setattr(publish, "scored_cells", lambda results: [])
    folders = dict.fromkeys(("cells", "results", "predictions", "converted"), tmp_path)
    with pytest.raises(UserError, match="does not have all scores"):
        stage.run(**folders)
    assert "are in MLflow" not in capsys.readouterr().out
    monkeypatch.setenv("NOISYVOS_TRACKING", "off")
    with pytest.raises(UserError, match="switched off"):
        stage.run(**folders)
