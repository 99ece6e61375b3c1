"""Which results of earlier runs are marked as out of date, and when."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from noisyvos.pipeline.dvc_yaml import Pipeline
from noisyvos.pipeline.outdated import Marks, left_undone, warn_on_page, watch
from noisyvos.tracing.records import state_file

STAGES = {
    "train": {"foreach": "${train}", "do": {"cmd": "t", "outs": ["runs/${key}.bin"]}},
    "score": {
        "foreach": "${train}",
        "do": {"cmd": "s", "deps": ["runs/${key}.bin"], "outs": ["scores/${key}"]},
    },
    "tables": {"cmd": "t", "deps": ["scores"], "outs": ["tables"]},
    "report": {"cmd": "r", "deps": ["tables"], "outs": ["report.html"]},
}
PAGE = "<html><body>\n<header>\n<h1>Results</h1>\n</header></body></html>"


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    cells = {"preset": {"name": "p"}, "train": {"a": {}, "b": {}}}
    for name in ("scores/a", "scores/b", "tables"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "report.html").write_text(PAGE)
    return Pipeline(tmp_path, cells, STAGES)


def snakemake_job(name: str, *jobs: Any) -> Any:
    rule, _, key = name.partition("@")
    wildcards = SimpleNamespace(key=key) if key else SimpleNamespace()
    return SimpleNamespace(
        rule=SimpleNamespace(name=rule), wildcards=wildcards, is_group=lambda: bool(jobs), jobs=jobs
    )


def test_all_that_depends_on_a_job_is_marked_once(pipeline: Pipeline) -> None:
    marked: list[str] = []
    marks = Marks(pipeline, marked.append)
    marks.before(["train@a"])
    assert marked == ["scores/a", "tables", "report.html"]  # not the scores of b
    marks.before(["score@a", "train@a"])
    assert len(marked) == 3
    marks.before(["train@b"])
    assert marked[3:] == ["scores/b"]


def test_what_was_never_made_is_not_marked(pipeline: Pipeline) -> None:
    (pipeline.root / "tables").rmdir()
    marked: list[str] = []
    Marks(pipeline, marked.append).before(["train@a"])
    assert marked == ["scores/a", "report.html"]


def test_the_page_says_so_once(pipeline: Pipeline) -> None:
    page = pipeline.root / "report.html"
    Marks(pipeline, lambda out: None).before(["train@a"])
    said = page.read_text()
    assert said.startswith('<html><body>\n<header>\n<p class="synthetic" id="outdated"')
    assert "Out of date: at 20" in said
    assert said.endswith("<h1>Results</h1>\n</header></body></html>")
    warn_on_page(page, "train@b")
    assert page.read_text() == said


def test_pages_of_other_presets_say_which_run_replaces_their_data(tmp_path: Path) -> None:
    noise = {
        "foreach": "${noise}",
        "do": {"cmd": "n", "outs": ["data/noisy/${key}.zip", "data/noisy/${key}.json"]},
    }
    train = {
        "foreach": "${train}",
        "do": {
            "cmd": "t",
            "deps": ["data/noisy/${item.noise}.zip"],
            "outs": ["runs/${preset.name}/${key}.bin"],
        },
    }
    report = {
        "cmd": "r",
        "deps": ["runs/${preset.name}"],
        "outs": ["results/${preset.name}/report.html"],
    }
    stages = {"noise": noise, "train": train, "report": report}

    def preset(name: str, *noises: str) -> Pipeline:
        page = tmp_path / "results" / name / "report.html"
        page.parent.mkdir(parents=True)
        page.write_text(PAGE)
        used = {each: {"noise": each} for each in noises}
        return Pipeline(
            tmp_path, {"preset": {"name": name}, "noise": dict(used), "train": used}, stages
        )

    own, sharer, other = preset("own", "x"), preset("sharer", "x", "y"), preset("other", "y")
    marked: list[str] = []
    marks = Marks(own, marked.append, lambda: [sharer, other])
    marks.before(["train@x"])  # each preset has a training of its own
    assert (tmp_path / "results/sharer/report.html").read_text() == PAGE
    marks.before(["noise@x"])
    assert marked == ["results/own/report.html"]  # results of other presets may be right
    page = (tmp_path / "results/sharer/report.html").read_text()
    assert "a run of preset own began to make data again" in page
    assert "(first of them: train@x)" in page
    assert "`noisyvos status --preset sharer`" in page
    assert (tmp_path / "results/other/report.html").read_text() == PAGE


def test_jobs_of_snakemake_and_of_its_groups(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked, begun = [], []
    persistence = SimpleNamespace(_mark_incomplete=lambda out, job: marked.append(out))
    workflow = SimpleNamespace(
        persistence=persistence, dag=SimpleNamespace(register_running=begun.append)
    )
    monkeypatch.setattr("sys.argv", ["snakemake", "--touch"])
    watch(pipeline, workflow, pytest.fail)
    workflow.dag.register_running([snakemake_job("train@a")])
    assert not marked  # `noisyvos adopt` runs nothing
    monkeypatch.setattr("sys.argv", ["snakemake"])
    watch(pipeline, workflow, pytest.fail)
    group = snakemake_job("group", snakemake_job("train@b"), snakemake_job("score@b"))
    workflow.dag.register_running([group])
    assert sorted(marked) == ["report.html", "scores/b", "tables"]
    assert begun[1:] == [[group]]


def test_another_release_of_snakemake_is_no_error(pipeline: Pipeline) -> None:
    said: list[str] = []
    watch(pipeline, SimpleNamespace(), said.append)
    assert said[0].startswith("Results of earlier runs cannot be marked as out of date: ")
    begun: list[Any] = []
    workflow = SimpleNamespace(dag=SimpleNamespace(register_running=begun.append))
    watch(pipeline, workflow, said.append)
    workflow.dag.register_running([snakemake_job("train@a")])
    assert len(begun) == 1
    assert said[1].startswith("Results of earlier runs could not be marked as out of date: ")


def test_what_is_left_undone(pipeline: Pipeline) -> None:
    assert left_undone(pipeline, ("train", "score")) == []
    for out in ("runs/a.bin", "scores/a", "tables"):
        mark = state_file(pipeline.root / ".snakemake" / "incomplete", out)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text("{}")
    assert left_undone(pipeline, ("train", "score")) == ["score@a", "train@a"]
