"""Snakemake is killed by SIGKILL while trainings run again, and tables of before are there.

Nobody may take these for current ones, and the next run makes the right ones. Clips are made and
the report is written by the real stages. Trainings and scores are planted.
"""

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stand_in import PLANT

CELLS = [f"shapes_smoke_train-{noise}-smart_unit-xmem_tiny-s0" for noise in ("clean", "dilate70")]
SCORED = f"{CELLS[1]}-shapes_smoke_val"
RUN = ("snakemake", "--cores", "2", "--config", "retries=0")
PLANTED = """
changed = "union: 0." in Path("params/methods.yaml").read_text()
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


def kill_in_training(space: Any, *, group: bool) -> None:
    """Start a run, kill Snakemake or all its processes while trainings run, and unlock."""
    hold = space.root / "hold"
    hold.mkdir()
    environment = {**os.environ, "PATH": space.path, "PYTHONPATH": str(space.root / "src")}
    with subprocess.Popen(
        RUN, cwd=space.root, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    ) as run:
        for _ in range(1200):
            if len(list(hold.iterdir())) == len(CELLS):
                break
            assert run.poll() is None
            time.sleep(0.1)
        (os.killpg if group else os.kill)(run.pid, signal.SIGKILL)
    for path in hold.iterdir():
        path.unlink()
    hold.rmdir()  # trainings that live on end now, beside the next run
    space.run("snakemake", "--unlock")


def found(space: Any, *words: str) -> dict[str, Any]:
    return json.loads(space.noisyvos(*words, "--json").stdout)


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


@pytest.fixture(autouse=True)
def no_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYVOS_TRACKING", "off")
