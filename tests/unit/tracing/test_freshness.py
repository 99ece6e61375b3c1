"""Which results are out of date, told from times and records at the moment of reading."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from noisyvos.io.hashing import file_hash
from noisyvos.pipeline.dvc_yaml import Pipeline
from noisyvos.tracing.freshness import Freshness
from noisyvos.tracing.records import same_content, state_file
from noisyvos.watching.status import of_old_scores

STAGES = {
    "noise": {"foreach": "${noise}", "do": {"cmd": "n", "outs": ["data/noisy/${key}.zip"]}},
    "train": {
        "foreach": "${noise}",
        "do": {
            "cmd": "t",
            "deps": ["data/noisy/${key}.zip"],
            "outs": ["results/p/train/${key}/summary.json"],
        },
    },
    "score": {
        "foreach": "${noise}",
        "do": {
            "cmd": "s",
            "deps": ["results/p/train/${key}/summary.json"],
            "outs": ["results/p/scores/${key}"],
        },
    },
    "tables": {"cmd": "t", "deps": ["results/p/scores"], "outs": ["results/p/tables"]},
}
CELLS = {"preset": {"name": "p"}, "noise": {"a": {}, "b": {}}}
Touch = Callable[[str, int], None]


@pytest.fixture
def touch(tmp_path: Path) -> Touch:
    def set_time(path: str, time: int) -> None:
        os.utime(tmp_path / path, (time, time))

    return set_time


@pytest.fixture
def pipeline(tmp_path: Path, touch: Touch) -> Pipeline:
    """A finished run, a second after another."""
    for key in CELLS["noise"]:
        labels = tmp_path / f"data/noisy/{key}.zip"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(f"labels {key}")
        summary = tmp_path / f"results/p/train/{key}/summary.json"
        summary.parent.mkdir(parents=True)
        summary.write_text(json.dumps({"inputs": {"masks": file_hash(labels)}}))
        (tmp_path / f"results/p/scores/{key}").mkdir(parents=True)
        (tmp_path / f"results/p/scores/{key}/objects.csv").write_text("J\n0.5\n")
    (tmp_path / "results/p/tables").mkdir()
    pipeline = Pipeline(tmp_path, CELLS, STAGES)
    for time, stage in enumerate(STAGES, start=1000):
        for out in pipeline.outputs([stage]):
            touch(out, time)
    touch("data/noisy", 1000)
    return pipeline


def outdated(pipeline: Pipeline) -> dict[str, str]:
    return Freshness(pipeline).outdated()


def test_a_finished_run_is_current(pipeline: Pipeline) -> None:
    assert outdated(pipeline) == {}


def test_replaced_labels_make_all_that_depends_on_them_outdated(pipeline: Pipeline) -> None:
    (pipeline.root / "data/noisy/a.zip").write_text("other labels")
    reason = "data/noisy/a.zip was made again since"
    assert outdated(pipeline) == dict.fromkeys(["train@a", "score@a", "tables"], reason)


def test_tables_made_by_hand_are_called_out_of_date(pipeline: Pipeline) -> None:
    assert of_old_scores(pipeline, "tables of x") == ""
    (pipeline.root / "data/noisy/a.zip").write_text("other labels")
    assert of_old_scores(pipeline, "tables of x") == (
        "Out of date: the tables of x show earlier results; 1 of 2 scored cells are not made "
        "again yet. `snakemake` goes on and makes them anew."
    )
    (pipeline.root / "results/p/scores/a/objects.csv").unlink()
    (pipeline.root / "results/p/scores/a").rmdir()
    assert of_old_scores(pipeline, "tables of x") == ""  # missing, and not shown


def test_equal_labels_made_again_change_nothing(pipeline: Pipeline) -> None:
    (pipeline.root / "data/noisy/a.zip").write_text("labels a")
    assert outdated(pipeline) == {}


def test_labels_that_a_killed_run_removed(pipeline: Pipeline, touch: Touch) -> None:
    (pipeline.root / "data/noisy/b.zip").unlink()
    reason = "data/noisy/b.zip was removed since, or was never made here"
    assert outdated(pipeline) == dict.fromkeys(["train@b", "score@b", "tables"], reason)
    record = state_file(pipeline.root / ".snakemake" / "metadata", "data/noisy/b.zip")
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    assert outdated(pipeline)["train@b"] == "data/noisy/b.zip was removed since"
    touch("data/noisy", 1000)  # never there, as after `dvc pull` of the results alone
    assert outdated(pipeline) == {}


def test_half_made_labels_of_another_preset(pipeline: Pipeline) -> None:
    mark = state_file(pipeline.root / ".snakemake" / "incomplete", "data/noisy/a.zip")
    mark.parent.mkdir(parents=True)
    mark.write_text("{}")
    reason = "data/noisy/a.zip is half made"
    assert outdated(pipeline) == dict.fromkeys(["train@a", "score@a", "tables"], reason)


def test_a_later_folder_counts_by_its_time_or_its_record(pipeline: Pipeline, touch: Touch) -> None:
    touch("results/p/scores/a", 2000)
    reason = "results/p/scores/a was made again since"
    assert outdated(pipeline) == {"tables": reason}
    digest = folder_md5(pipeline.root / "results/p/scores")
    entry = f"path: results/p/scores, hash: md5, md5: {digest}"
    lock = f"stages:\n  tables:\n    cmd: t\n    deps:\n    - {{{entry}}}\n    outs:\n    - path: "
    (pipeline.root / "dvc.lock").write_text(f"{lock}results/other/tables\n")
    assert outdated(pipeline) == {"tables": reason}  # the lock is of another preset
    (pipeline.root / "dvc.lock").write_text(f"{lock}results/p/tables\n# later\n")
    assert outdated(pipeline) == {}  # DVC knows that the scores are the same
    (pipeline.root / "results/p/scores/a/objects.csv").write_text("J\n0.6\n")
    assert outdated(pipeline) == {"tables": reason}


def test_the_stamp_of_snakemake_is_the_time_of_a_folder(pipeline: Pipeline, touch: Touch) -> None:
    (pipeline.root / "results/p/scores/b/.snakemake_timestamp").touch()
    touch("results/p/scores/b/.snakemake_timestamp", 2000)
    touch("results/p/scores/b", 1002)
    assert outdated(pipeline) == {"tables": "results/p/scores/b was made again since"}


def test_hashes_of_folders_are_those_of_dvc(tmp_path: Path) -> None:
    for name in ("b/x.txt", "b-c.txt", "a.txt", ".noisyvos", ".snakemake_timestamp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    recorded = f"md5:{folder_md5(tmp_path)}"
    assert same_content(tmp_path, recorded) is True
    (tmp_path / "a.txt").write_text("other")
    assert same_content(tmp_path, recorded) is False
    assert same_content(tmp_path / "none", recorded) is None


def folder_md5(folder: Path) -> str:
    """Return the hash of a folder by DVC's own code."""
    hash_info = pytest.importorskip("dvc_data.hashfile.hash_info")
    tree_of = pytest.importorskip("dvc_data.hashfile.tree")
    hashing = pytest.importorskip("dvc_data.hashfile.hash")
    tree = tree_of.Tree()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ".snakemake_timestamp":
            digest = hashing.file_md5(str(path))
            parts = path.relative_to(folder).parts
            tree.add(parts, None, hash_info.HashInfo("md5", digest))
    tree.digest()
    return tree.hash_info.value
