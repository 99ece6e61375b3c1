"""The journal of a training keeps every point once, whatever happens to the process."""

import math
from pathlib import Path

import pytest

from noisyvos.tracking import journal as journals
from noisyvos.tracking import system
from noisyvos.tracking.inputs import of_evaluation, of_training

START = {"identity": "a", "settings": {"seed": 0}}


def values(path: Path, name: str) -> list[tuple[int, float]]:
    """Steps and values of a metric in a journal."""
    found = journals.read(path)
    assert found is not None
    return [(point.step, point.value) for point in found.ordered() if point.name == name]


def test_a_resumed_training_that_repeats_itself_adds_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first = journals.Writer(path, START)
    for step in (4, 8, 12):
        first.row({"train/loss": 1 / step, "gradient/norm": 2.0, "system/cpu": 50.0}, step)
    with path.open("a") as file:
        file.write('{"step": 16, "val')  # killed in mid-line
    began = journals.read(path).began
    second = journals.Writer(path, START)
    assert second.resumed
    for step in (8, 12, 16):
        second.row({"train/loss": 1 / step, "gradient/norm": 2.5, "system/cpu": 70.0}, step)
    second.end("FINISHED")
    assert values(path, "train/loss") == [(step, 1 / step) for step in (4, 8, 12, 16)]
    assert values(path, "gradient/norm") == [(4, 2.0), (8, 2.0), (12, 2.0), (16, 2.5)]
    found = journals.read(path)
    assert (found.status, found.rewritten, found.began) == ("FINISHED", False, began)
    assert path.read_text().count('"step": 8,') == 1


def test_other_values_replace_the_rest_of_the_curve(tmp_path: Path) -> None:
    """On a GPU a resumed training may differ; a method that relabels starts anew at step 4."""
    path = tmp_path / "journal.jsonl"
    writer = journals.Writer(path, START)
    for step in (4, 8, 12):
        writer.row({"train/loss": 1.0, "system/cpu": 50.0}, step)
    writer.row({"train/loss": 2.0, "system/cpu": 60.0}, 4)
    assert writer.journal.rewritten
    assert values(path, "train/loss") == [(4, 2.0)]
    assert values(path, "system/cpu") == [(4, 60.0)]


def test_other_settings_inputs_or_code_begin_a_new_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journals.Writer(path, START).row({"train/loss": 1.0}, 4)
    other = journals.Writer(path, START | {"identity": "b"})
    assert not other.resumed
    assert values(path, "train/loss") == []


def test_values_that_are_no_numbers_come_back(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    writer = journals.Writer(path, START)
    for _ in range(2):  # repeated, as after a kill
        writer.row({"train/loss": 1.0, "gradient/norm": math.inf, "train/other": math.nan}, 4)
    assert not writer.journal.rewritten
    assert values(path, "gradient/norm") == [(4, math.inf)]
    assert math.isnan(values(path, "train/other")[0][1])


def test_a_journal_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writer = journals.Writer(tmp_path / "file" / "journal.jsonl", START)
    writer.row({"train/loss": 1.0}, 4)
    writer.end("FINISHED")
    assert [point.value for point in writer.journal.ordered()] == [1.0]
    assert journals.read(tmp_path / "file" / "journal.jsonl") is None


def test_the_machine_is_sampled_by_the_names_of_mlflow() -> None:
    sampler = system.Sampler()
    sum(range(10**5))
    found = sampler.take()
    assert 0 <= found["system/cpu_utilization_percentage"] <= 100
    assert 0 < found["system/system_memory_usage_percentage"] < 100
    assert 10 < found["system/process_memory_megabytes"] < 1e5


def test_gpus_are_numbered_as_the_process_numbers_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake nvidia-smi lists three GPUs, of which this process has the third and the first."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\n"
        "echo 'GPU-aa, 90, 1000, 2000, 300.5'\n"
        "echo 'GPU-bb, 1, 1, 2000, 20'\n"
        "echo 'GPU-cc, 50, 500, 2000, [N/A]'\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = system.gpu_use(["cc", "aa"])
    assert found == {
        "gpu_0_utilization_percentage": 50.0,
        "gpu_0_memory_usage_megabytes": pytest.approx(524.288),
        "gpu_0_memory_usage_percentage": 25.0,
        "gpu_1_utilization_percentage": 90.0,
        "gpu_1_memory_usage_megabytes": pytest.approx(1048.576),
        "gpu_1_memory_usage_percentage": 50.0,
        "gpu_1_power_usage_watts": 300.5,
    }
    assert system.gpu_use([]) == {}


def test_inputs_have_the_hashes_of_the_summary(tmp_path: Path) -> None:
    summary = {
        "dataset": "shapes_train",
        "inputs": {"dataset": "a" * 64, "masks": "b" * 64, "noise_manifest": "c" * 64},
        "noise": {"noise": "dilate80", "kind": "dilate", "q": 0.8, "q_achieved": 0.79, "seed": 1},
    }
    sources = {"dataset": "data/converted/shapes_train", "masks": "data/noisy/shapes-d80-s1.zip"}
    frames, labels = of_training(summary, sources)
    assert (frames.name, frames.short, frames.context) == ("shapes_train", "a" * 32, "training")
    assert (labels.name, labels.digest, labels.context) == ("shapes-d80-s1", "b" * 64, "labels")
    assert labels.source == "data/noisy/shapes-d80-s1.zip"
    assert (labels.facts["q_achieved"], labels.facts["noise_manifest"]) == (0.79, "c" * 64)
    pretraining = {"clips": "images-demo-s0", "inputs": {"clips": "d" * 64, "init": "e"}}
    (clips,) = of_training(pretraining, {})
    assert (clips.name, clips.digest) == ("images-demo-s0", "d" * 64)
    assert of_evaluation(tmp_path / "none", "davis") is None
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "meta.json").write_text("{}")
    found = of_evaluation(tmp_path / "val", "davis")
    assert (found.name, found.context) == ("val", "evaluation")
    (tmp_path / "val" / "meta.json").write_text("{ }")
    assert of_evaluation(tmp_path / "val", "davis").digest != found.digest
