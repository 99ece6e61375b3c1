"""What the commands of tables, figures and page say before they start."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from noisyvos.cli import app
from noisyvos.pipeline import dvc_yaml
from noisyvos.stages import figures, report, tables
from noisyvos.watching import status

OLD = "Out of date: the {} show earlier results."


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository of preset p whose scores are out of date; no stage runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params").mkdir()
    (tmp_path / "params/cells.yaml").write_text("preset: {name: p}\ntrain: {}\n")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    for stage in (tables, figures, report):
        monkeypatch.setattr(stage, "run", lambda **_: None)
    monkeypatch.setattr(dvc_yaml, "load", lambda preset: SimpleNamespace(preset=preset))
    monkeypatch.setattr(status, "of_old_scores", of_old_scores)


def of_old_scores(pipeline: Any, what: str) -> str:
    return OLD.format(what) if pipeline.preset == "p" else ""


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("tables --out t", "tables of t"),
        ("figures --out f", "figures of f"),
        ("report --figures f --out r.html", "numbers of r.html"),
    ],
)
def test_earlier_scores_are_named_where_a_user_asks(places: None, command: str, what: str) -> None:
    said = CliRunner().invoke(app, command.split())
    assert said.exit_code == 0
    assert said.stderr == f"noisyvos: {OLD.format(what)}\n"
    said = CliRunner().invoke(app, [*command.split(), "--results", "results/p"])  # as in dvc.yaml
    assert (said.exit_code, said.stderr) == (0, "")
