"""What changed since a cell was made: one made-up chain, and one change at a time."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noisyvos.errors import UserError
from noisyvos.io.hashing import file_hash, input_hash
from noisyvos.pipeline import code_deps
from noisyvos.pipeline.dvc_yaml import Job, Pipeline
from noisyvos.tracing import records
from noisyvos.tracing.lineage import Lineage
from noisyvos.tracing.verify import compare_outputs, plan, verify
from noisyvos.tracing.why import Change, Comparison, kept_modules

STAGES: dict[str, Any] = {
    "noise": {
        "foreach": "${noise}",
        "do": {
            "cmd": "cp raw.txt data/noisy/${key}.txt",
            "deps": ["raw.txt"],
            "params": [{"params/noise.yaml": ["${key}"]}],
            "outs": ["data/noisy/${key}.txt"],
        },
    },
    "train": {
        "foreach": "${train}",
        "do": {
            "cmd": "cp data/noisy/${item.noise}.txt runs/p/train/${key}/weights.safetensors",
            "deps": ["data/noisy/${item.noise}.txt"],
            "params": [{"params/methods.yaml": ["${item.method}"]}],
            "outs": ["runs/p/train/${key}/weights.safetensors"],
        },
    },
    "infer": {
        "foreach": "${infer}",
        "do": {
            "cmd": "cp runs/p/train/${item.weights}/weights.safetensors runs/p/masks/${key}.zip",
            "deps": ["runs/p/train/${item.weights}/weights.safetensors"],
            "outs": ["runs/p/masks/${key}.zip"],
        },
    },
    "score": {
        "foreach": "${score}",
        "do": {
            "cmd": "cp runs/p/masks/${key}.zip results/p/scores/${key}.csv",
            "deps": ["runs/p/masks/${key}.zip"],
            "outs": ["results/p/scores/${key}.csv"],
        },
    },
}
CELLS: dict[str, Any] = {
    "preset": {"name": "p"},
    "noise": {"dilate": {}},
    "train": {"dilate-mine": {"noise": "dilate", "method": "mine"}},
    "infer": {"dilate-mine-val": {"weights": "dilate-mine"}},
    "score": {"dilate-mine-val": {}},
}
KEY = "dilate-mine-val"


def write_parameters(root: Path, gamma: float = 2.0) -> None:
    (root / "params").mkdir(exist_ok=True)
    (root / "params" / "noise.yaml").write_text("dilate: {q: 0.7}\n")
    (root / "params" / "methods.yaml").write_text(f"mine: {{gamma: {gamma}, inner: {{a: 1}}}}\n")


def record(root: Path, pipeline: Pipeline, job: Job, finished: float) -> None:
    """Write what Snakemake would keep of a job."""
    inputs = pipeline.inputs(job)
    entry = {
        "params": [repr(job.command), repr(pipeline.tracked(job))],
        "input": inputs,
        "input_checksums": {path: f"sha256:{file_hash(root / path)}" for path in inputs},
        "starttime": finished - 1,
        "endtime": finished,
    }
    for out in job.outs:
        path = records.state_file(root / ".snakemake" / "metadata", out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(entry))


@pytest.fixture
def made(tmp_path: Path) -> Callable[[], Lineage]:
    """A chain that ran; each call reads the present state, as a new command would."""
    write_parameters(tmp_path)
    (tmp_path / "raw.txt").write_text("raw")
    pipeline = Pipeline(tmp_path, CELLS, STAGES)
    for number, job in enumerate(pipeline):
        for out in job.outs:
            (tmp_path / out).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(job.command, shell=True, cwd=tmp_path, check=True)
        record(tmp_path, pipeline, job, time.time() - 100 + number)
    return lambda: Lineage(Pipeline(tmp_path, CELLS, STAGES))


def changes(lineage: Lineage, name: str = KEY) -> list[tuple[str, str, str]]:
    (job,) = lineage.find(name)
    return [(each.job, each.kind, each.text) for each in Comparison(lineage).of_chain(job)]


def test_nothing_changed(made: Callable[[], Lineage]) -> None:
    assert changes(made()) == []


def test_a_parameter(made: Callable[[], Lineage], tmp_path: Path) -> None:
    write_parameters(tmp_path, gamma=5)
    assert changes(made()) == [
        (
            "train@dilate-mine",
            "parameter",
            "parameter params/methods.yaml: mine.gamma: 2.0 → 5",
        )
    ]


def test_an_input_from_outside(made: Callable[[], Lineage], tmp_path: Path) -> None:
    (tmp_path / "raw.txt").write_text("other")
    assert changes(made()) == [("noise@dilate", "data", "data raw.txt has another content now")]


def test_weights(made: Callable[[], Lineage], tmp_path: Path) -> None:
    path = "runs/p/train/dilate-mine/weights.safetensors"
    (tmp_path / path).write_text("other")
    assert changes(made()) == [
        ("infer@dilate-mine-val", "weights", f"weights {path} has another content now")
    ]


def test_a_missing_output_and_one_that_was_cut_off(
    made: Callable[[], Lineage], tmp_path: Path
) -> None:
    (tmp_path / "runs/p/masks/dilate-mine-val.zip").unlink()
    out = "data/noisy/dilate.txt"
    mark = records.state_file(tmp_path / ".snakemake" / "incomplete", out)
    mark.parent.mkdir(parents=True)
    mark.write_text("{}")
    assert [(job, kind) for job, kind, _ in changes(made())] == [
        ("noise@dilate", "unfinished"),
        ("infer@dilate-mine-val", "missing"),
        ("score@dilate-mine-val", "data"),
    ]


def test_a_command(
    made: Callable[[], Lineage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    do = dict(
        STAGES["score"]["do"], cmd="cp -p runs/p/masks/${key}.zip results/p/scores/${key}.csv"
    )
    monkeypatch.setitem(STAGES, "score", {"foreach": "${score}", "do": do})
    assert changes(made()) == [("score@dilate-mine-val", "command", "command nothing → -p")]


def test_without_snakemake_the_lock_of_dvc_tells(
    made: Callable[[], Lineage], tmp_path: Path
) -> None:
    lineage = made()
    (job,) = lineage.find("dilate-mine")
    for out in job.outs:
        records.state_file(tmp_path / ".snakemake" / "metadata", out).unlink()
    assert [kind for _, kind, _ in changes(made(), "dilate-mine")] == ["unrecorded"]
    lock = f"""
schema: '2.0'
stages:
  train@dilate-mine:
    cmd: {job.command}
    deps:
    - {{path: data/noisy/dilate.txt, hash: md5, md5: bf7bb54e1df6ed2cda7d9dfa0a7c0b0a}}
    params:
      params/methods.yaml:
        mine: {{gamma: 3.0, inner: {{a: 1}}}}
    outs:
    - path: {job.outs[0]}
"""
    (tmp_path / "dvc.lock").write_text(lock)
    assert changes(made(), "dilate-mine") == [
        (
            "train@dilate-mine",
            "parameter",
            "parameter params/methods.yaml: mine.gamma: 3.0 → 2.0",
        ),
        ("train@dilate-mine", "data", "data data/noisy/dilate.txt has another content now"),
    ]


def test_hashes_of_a_training_summary_count_more_than_times(
    made: Callable[[], Lineage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    do = dict(STAGES["train"]["do"])
    do["outs"] = [*do["outs"], "results/p/train/${key}/summary.json"]
    monkeypatch.setitem(STAGES, "train", {"foreach": "${train}", "do": do})
    summary = tmp_path / "results/p/train/dilate-mine/summary.json"
    summary.parent.mkdir(parents=True)
    hashes = {"inputs": {"masks": input_hash(tmp_path / "data/noisy/dilate.txt")}}
    summary.write_text(json.dumps(hashes))
    assert changes(made(), "dilate-mine") == []
    summary.write_text(json.dumps({"inputs": {"masks": "0" * 64}}))
    assert [kind for _, kind, _ in changes(made(), "dilate-mine")] == ["data"]


@pytest.mark.parametrize(
    ("text", "job"),
    [
        (KEY, "score@dilate-mine-val"),
        ("infer@dilate-mine-val", "infer@dilate-mine-val"),
        ("dilate-mine", "train@dilate-mine"),
        ("runs/p/train/dilate-mine", "train@dilate-mine"),
        ("runs/p/train/dilate-mine/weights.safetensors", "train@dilate-mine"),
        ("results/p/scores/dilate-mine-val.csv", "score@dilate-mine-val"),
    ],
)
def test_cells_are_found_by_key_name_and_path(
    made: Callable[[], Lineage], text: str, job: str, tmp_path: Path
) -> None:
    assert [each.name for each in made().find(text)] == [job]
    if "/" in text:
        assert [each.name for each in made().find(str(tmp_path / text))] == [job]


def test_an_unknown_name_finds_nothing(made: Callable[[], Lineage]) -> None:
    assert made().find("dilate-other") == []


def test_long_paths_have_records_in_parts(tmp_path: Path) -> None:
    path = records.state_file(tmp_path, "a" * 400)
    assert path.parent.name.startswith("@")
    assert all(len(part) <= 255 for part in path.relative_to(tmp_path).parts)


def test_the_kept_hashes_of_a_code_state_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "scratch" / "code"
    folder.mkdir(parents=True)
    state = {"table": {"stages": {"train": "h1"}}, "modules": {"noisyvos.seeding": "x"}}
    (folder / "a.json").write_text(json.dumps(state))
    (folder / "b.json").write_text("{")
    assert kept_modules(tmp_path, "stages.train", "h1") == {"noisyvos.seeding": "x"}
    assert kept_modules(tmp_path, "stages.train", "h2") == {}


def test_a_refresh_keeps_the_hashes_of_all_modules(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    shutil.copytree(root / "params", tmp_path / "params")
    table = code_deps.refresh(tmp_path / "data" / "code.json", tmp_path / "params")
    kept = kept_modules(tmp_path, "stages.train", table["stages"]["train"])
    assert set(code_deps.modules_of("stages.train", tmp_path / "params")) <= kept.keys()
    assert kept["noisyvos.seeding"] == code_deps.code().hash(["noisyvos.seeding"])


def test_a_change_in_words() -> None:
    assert Change("a", "code", "noisyvos.seeding changed").text == "code noisyvos.seeding changed"


# ---- verify


def test_a_second_run_is_equal_and_writes_nothing_here(
    made: Callable[[], Lineage], tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    lineage = made()
    (job,) = lineage.find(KEY)
    found = verify(lineage, job, say=lambda text: None)
    assert found["equal"]
    assert found["jobs"] == ["infer@dilate-mine-val", "score@dilate-mine-val"]
    assert [entry["path"] for entry in found["inputs"]] == [
        "runs/p/train/dilate-mine/weights.safetensors"
    ]
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert before == after


def test_the_whole_chain_runs_from_raw_material(
    made: Callable[[], Lineage], tmp_path: Path
) -> None:
    lineage = made()
    (job,) = lineage.find(KEY)
    assert [each.stage for each in plan(lineage, job, chain=True)] == [
        "noise", "train", "infer", "score",
    ]  # fmt: skip
    (tmp_path / "runs/p/train/dilate-mine/weights.safetensors").write_text("tampered with")
    kept = tmp_path / "again"
    found = verify(lineage, job, chain=True, keep=kept, say=lambda text: None)
    assert not found["equal"]
    assert [output["path"] for output in found["outputs"] if not output["equal"]] == [
        "runs/p/train/dilate-mine/weights.safetensors"
    ]
    assert [change["kind"] for change in found["changes"]] == ["weights"]
    assert (kept / "results/p/scores/dilate-mine-val.csv").read_text() == "raw"


def test_what_cannot_be_verified_is_refused(made: Callable[[], Lineage], tmp_path: Path) -> None:
    lineage = made()
    (job,) = lineage.find(KEY)
    with pytest.raises(UserError, match="is not empty"):
        verify(lineage, job, keep=tmp_path)
    (tmp_path / "runs/p/train/dilate-mine/weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors is missing, so the cell cannot"):
        verify(lineage, job)
    (tmp_path / "results/p/scores/dilate-mine-val.csv").unlink()
    with pytest.raises(UserError, match=r"to compare with\. Run it first"):
        verify(lineage, job)


def test_a_failing_second_run_says_why(made: Callable[[], Lineage], tmp_path: Path) -> None:
    lineage = made()
    (job,) = lineage.find("infer@dilate-mine-val")
    broken = Job(job.stage, job.key, "cp nowhere there", job.deps, job.outs, job.params)
    with pytest.raises(UserError, match=r"second run of infer@.* failed \(1\).*nowhere"):
        verify(lineage, broken)


def test_differences_are_described(tmp_path: Path) -> None:
    def pair(name: str, first: str, second: str) -> str:
        for folder, text in (("one", first), ("two", second)):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / name).write_text(text)
        found = compare_outputs(tmp_path / "one" / name, tmp_path / "two" / name)
        assert not found["equal"]
        return found["difference"]

    assert pair("a.json", '{"a": 1, "b": 2}', '{"a": 1, "b": 3}') == "other values of b"
    assert pair("a.csv", "x\n1\n", "x\n2\n") == "line 2: '1' and now '2'"
    assert pair("a.bin", "x", "xy") == "other bytes (1 and now 2 bytes)"
    assert compare_outputs(tmp_path / "one", tmp_path / "two") == {
        "equal": False,
        "difference": "of 3 files 3 differ (a.bin, a.csv, a.json)",
    }
    assert not compare_outputs(tmp_path / "one", tmp_path / "three")["equal"]
