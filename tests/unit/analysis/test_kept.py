"""The page shows the comparisons that the tables keep, and no others."""

import json
from pathlib import Path
from typing import Any

import pytest
from report_workspace import make_workspace, places

from noisyvos.analysis import kept
from noisyvos.analysis.comparison import Comparison, comparisons
from noisyvos.analysis.results import Results, load_results
from noisyvos.errors import UserError
from noisyvos.report.page import _rows
from noisyvos.stages import report, tables

CELL = "val-dilate-sce-tiny-s1"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Two methods with scores and tables."""
    root = make_workspace(tmp_path, ("gce", "sce"))
    tables.run(**places(root), out=root / "results/p/tables", track=False)
    return root


def page(root: Path) -> bytes:
    out = root / "results/p/report.html"
    report.run(**places(root), figures=root / "results/p/figures", out=out)
    return out.read_bytes()


def kept_file(root: Path) -> Path:
    return root / "results/p/tables" / kept.KEPT.format("val")


def not_again(*_: Any) -> dict[str, Comparison]:
    raise AssertionError("the comparisons are computed again")


def shown(found: dict[str, Comparison]) -> list[dict[str, list]]:
    return [_rows(view.table) for each in found.values() for view in each.views]


def test_the_page_is_the_same_with_and_without_them(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(kept, "comparisons", not_again)
        read = page(workspace)
    kept_file(workspace).unlink()
    assert page(workspace) == read


@pytest.mark.parametrize("what", ["scores", "summary", "unfinished", "missing", "grid", "code"])
def test_they_are_computed_again_after_a_change(
    workspace: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_results(**places(workspace))
    scores = before.scores_of(f"{CELL}-val") / "objects.csv"
    summary = workspace / f"results/p/train/{CELL}/summary.json"
    if what == "scores":
        scores.write_text(scores.read_text().replace("0.67", "0.47").replace("0.68", "0.48"))
    if what == "missing":
        scores.unlink()
    if what == "summary":
        summary.write_text(summary.read_text().replace("0.801", "0.701"))
    if what == "code":
        monkeypatch.setattr("noisyvos.pipeline.code_deps.Code.hash", lambda *_: "other")
    unfinished = {f"score@{CELL}-val": ""} if what == "unfinished" else {}
    cells = before.cells | ({"preset": before.preset | {"title": "x"}} if what == "grid" else {})
    now = Results(cells, before.results, before.predictions, before.converted, unfinished)
    called: list[str] = []
    monkeypatch.setattr(kept, "comparisons", lambda *_: called.append("again") or {})
    folder = workspace / "results/p/tables"
    assert kept.recalled(folder, now, "val") == {}
    assert called == ["again"]


def test_they_show_what_was_computed(workspace: Path) -> None:
    results = load_results(**places(workspace))
    computed = comparisons(results, "val")
    read = kept.recalled(workspace / "results/p/tables", results, "val")
    assert shown(read) == shown(computed)
    assert [(name, each.title, each.place, each.empty) for name, each in read.items()] == [
        (name, each.title, each.place, each.empty) for name, each in computed.items()
    ]
    assert len(shown(read)) > 1


def test_a_damaged_file_is_refused_by_its_name(workspace: Path) -> None:
    path = kept_file(workspace)
    content = json.loads(path.read_text())
    del content["comparisons"][0]["views"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"comparisons-val.json: .*damaged: .*views.*Delete it"):
        page(workspace)
