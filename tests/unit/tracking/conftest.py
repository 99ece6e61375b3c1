"""A fresh database in seconds: MLflow creates one, and each test gets a copy."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database that MLflow makes, without runs."""
    from noisyvos.tracking import store as stores

    pytest.importorskip("mlflow")
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    stores.connect().search_experiments()
    patch.undo()
    return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path):
    """A client on a fresh database in a fresh working folder."""
    from noisyvos.tracking import store as stores

    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    # mlflow keeps one engine a URI, so each test has its own
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("NOISYVOS_TRACKING", raising=False)
    return stores.connect()
