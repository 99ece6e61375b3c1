"""An engine is killed by SIGKILL while trainings run again, and tables of before are there.

Nobody may take these for current ones, and the next run makes the right ones. This includes tables
of another preset that shares the replaced data. Clips are made and the report is written by the
real stages. Trainings and scores are planted.
"""

import csv
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from stand_in import PLANT

CELLS = [f"shapes_smoke_train-{noise}-smart_unit-xmem_tiny-s0" for noise in ("clean", "dilate70")]
SCORED = f"{CELLS[1]}-shapes_smoke_val"
RUN = ("snakemake", "--cores", "2", "--config", "retries=0")
PLANTED = """
changed = "union: 0." in Path("params/methods.yaml").read_text()
if words[0] == "noise":
    words.append(Path("params/noise.yaml").read_text())
real = ("generate", "synth", "tables", "figures", "report")
if words[0] in real or "data/converted/shapes_smoke_images" in words:
    from noisyvos.cli import main  # the report shows clips
    main()
if words[0] == "train":
    folder = Path(value["--summary"]).parent
    if "smart_unit" in str(folder) and Path("hold").is_dir():
        Path("hold", folder.name).touch()
        while Path("hold").is_dir():
            time.sleep(0.1)
    plant_training()
if words[0] == "score":
    j = 0.9 if changed and "smart_unit" in value["--out"] else 0.5
    plant_scores((j, j), (j, j))
sys.argv[1:] = words
"""


def kill_in_training(
    space: Any, *, group: bool, run: Sequence[str] = RUN, trainings: int = len(CELLS)
) -> None:
    """Start a run, kill the engine or all its processes while trainings run, and unlock."""
    hold = space.root / "hold"
    hold.mkdir()
    environment = {**os.environ, "PATH": space.path, "PYTHONPATH": str(space.root / "src")}
    with subprocess.Popen(
        run, cwd=space.root, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    ) as engine:
        for _ in range(1200):
            if len(list(hold.iterdir())) == trainings:
                break
            assert engine.poll() is None
            time.sleep(0.1)
        (os.killpg if group else os.kill)(engine.pid, signal.SIGKILL)
    for path in hold.iterdir():
        path.unlink()
    hold.rmdir()  # trainings that live on end now, beside the next run
    space.run("snakemake", "--unlock")


def found(space: Any, *words: str) -> dict[str, Any]:
    return json.loads(space.noisyvos(*words, "--json").stdout)


def known(space: Any) -> set[str]:
    """Return what `why` says of a cell of smoke; dvc.lock has the cells of one preset alone."""
    changes = found(space, "why", SCORED, "--preset", "smoke")["changes"]
    return {each["what"] for each in changes if each["kind"] != "unrecorded"}


def means(root: Path, place: str) -> dict[tuple[str, str], str]:
    with (root / place / "tables/scores-shapes_smoke_val.csv").open() as lines:
        return {(row["line"], row["noise"]): row["JF"] for row in csv.DictReader(lines)}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_old_tables_are_not_taken_for_current_ones(stand_ins: Callable[[str], Any]) -> None:
    space = stand_ins(f"{PLANT}{PLANTED}")
    root, results = space.root, space.root / "results/smoke"
    space.run(*RUN)
    before = means(root, "results/smoke")
    assert before["smart_unit", "dilate70"] == before["xmem", "dilate70"] == "0.5"
    assert found(space, "status")["out_of_date"] == ""
    assert found(space, "trace", "50.0", "--place", "1", "--no-mlflow")["out_of_date"] == ""
    methods = root / "params/methods.yaml"
    text = methods.read_text()
    methods.write_text(text.replace("smart_unit: {", "smart_unit: {weights: {union: 0.5}, ", 1))

    kill_in_training(space, group=False)
    assert means(root, "results/smoke") == before  # the tables of before are there
    status = found(space, "status")
    assert "the tables, figures and report of results/smoke" in status["out_of_date"]
    assert "2 of 6 scored cells are not made again yet" in status["out_of_date"]
    assert status["stages"]["score"] == {"done": 4, "outdated": 2}
    assert status["stages"]["report"] == {"outdated": 1}
    assert "Out of date: the tables, figures and report" in space.noisyvos("status").stdout
    said = found(space, "trace", "50.0", "--place", "1", "--no-mlflow")["out_of_date"]
    assert said.startswith("This number is out of date: the tables: outdated results/smoke/tables")
    kinds = {each["job"]: each["kind"] for each in found(space, "why", SCORED)["changes"]}
    assert kinds[f"score@{SCORED}"] == kinds[f"infer@{SCORED}"] == "outdated"
    assert '<p class="synthetic" id="outdated"' in (results / "report.html").read_text()
    by_hand = space.noisyvos("tables", "--out", "by-hand").stderr
    assert "Out of date: the tables of by-hand show earlier results; 2 of 6 scored" in by_hand
    space.noisyvos("report")
    assert ("smart_unit", "dilate70") not in means(root, "results/smoke/so_far")
    assert means(root, "results/smoke/so_far")["xmem", "dilate70"] == "0.5"

    space.run(*RUN)
    after = means(root, "results/smoke")
    assert after["smart_unit", "dilate70"] == after["smart_unit", "clean"] == "0.9"
    assert after["xmem", "dilate70"] == "0.5"
    assert found(space, "status")["out_of_date"] == ""
    assert 'id="outdated"' not in (results / "report.html").read_text()
    assert found(space, "why", SCORED)["changes"] == []

    methods.write_text(text.replace("smart_unit: {", "smart_unit: {weights: {union: 0.25}, ", 1))
    kill_in_training(space, group=True)
    assert "2 of 6 scored cells" in found(space, "status")["out_of_date"]
    methods.write_text(text.replace("smart_unit: {", "smart_unit: {weights: {union: 0.5}, ", 1))
    rules = set(space.run(*RUN, "--dry-run").stdout.splitlines())
    names = ("train", "infer", "score", "tables", "figures", "report")
    assert {f"rule {name}:" for name in names} <= rules  # also where the edit is taken back


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_tables_of_another_preset_on_replaced_labels(
    stand_ins: Callable[[str], Any], engine: str
) -> None:
    space = stand_ins(f"{PLANT}{PLANTED}")
    root, labels = space.root, "data/noisy/shapes_smoke_train-dilate70-s0.zip"
    presets = root / "params/presets"
    (presets / "sharer.yaml").write_text((presets / "smoke.yaml").read_text())

    def command(preset: str) -> tuple[str, ...]:
        if engine == "snakemake":
            return ("snakemake", "--cores", "2", "--config", f"preset={preset}", "retries=0")
        space.noisyvos("grid", "--preset", preset)
        return ("dvc", "repro")

    for preset in ("smoke", "sharer"):
        space.run(*command(preset))
    for preset in ("smoke", "sharer"):
        assert found(space, "status", "--preset", preset)["out_of_date"] == ""
    assert known(space) == set()
    noise = root / "params/noise.yaml"
    text, before = noise.read_text(), (root / labels).read_text()
    noise.write_text(re.sub(r"(?m)^(dilate70: \{)", r"\1rate: 0.5, ", text))
    assert noise.read_text() != text
    kill_in_training(space, group=True, run=command("sharer"), trainings=1)
    noise.write_text(text)  # what is there shows it, also where the edit is taken back
    assert (root / labels).read_text() != before

    status = found(space, "status", "--preset", "smoke")
    assert "the tables, figures and report of results/smoke" in status["out_of_date"]
    assert "2 of 6 scored cells are not made again yet" in status["out_of_date"]
    assert status["stages"]["train"] == {"done": 2, "outdated": 2}
    assert any(labels in what for what in known(space))
    traced = found(space, "trace", "50.0", "--place", "1", "--no-mlflow", "--preset", "smoke")
    assert f"{labels} was made again since" in traced["out_of_date"]
    space.noisyvos("report", "--preset", "smoke")
    assert ("xmem", "clean") in means(root, "results/smoke/so_far")
    assert ("xmem", "dilate70") not in means(root, "results/smoke/so_far")
    page = root / "results/smoke/report.html"
    assert ("a run of preset sharer began" in page.read_text()) == (engine == "snakemake")

    space.run(*command("smoke"))
    assert (root / labels).read_text() == before
    assert found(space, "status", "--preset", "smoke")["out_of_date"] == ""
    assert known(space) == set()
    assert 'id="outdated"' not in page.read_text()


@pytest.fixture(autouse=True)
def no_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYVOS_TRACKING", "off")
