"""A run of preset `smoke` in which one training fails: what is scored is reported all the same.

Clips are made and the report is written by the real stages. Trainings and scores are planted, and
the others are stand-ins.
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stand_in import PLANT

KEY = "shapes_smoke_train-dilate70-smart_unit-xmem_tiny-s0"
SCORED = f"{KEY}-shapes_smoke_val"
RUN = ("snakemake", "--cores", "2", "--config", "retries=0")
PLANTED = """
if KEY in words and os.environ.get("NO_MEMORY"):
    sys.exit("noisyvos: no memory is left")
if words[0] in ("generate", "synth") or "data/converted/shapes_smoke_images" in words:
    from noisyvos.cli import main  # the report shows clips
    main()
if words[0] == "train":
    plant_training()
if words[0] == "score":
    plant_scores((0.5, 0.6), (0.7, 0.8))
sys.argv[1:] = words
"""


def missing(root: Path) -> dict[str, tuple[str, str]]:
    path = root / "results/smoke/so_far/tables/missing.csv"
    with path.open() as lines:
        return {row["cell"]: (row["job"], row["reason"]) for row in csv.DictReader(lines)}


def test_what_is_scored_is_reported_and_the_next_run_makes_the_tables(
    stand_ins: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = stand_ins(f"KEY = {KEY!r}\n{PLANT}{PLANTED}")
    root = space.root
    results, so_far = root / "results/smoke", root / "results/smoke/so_far"
    reason = (f"train@{KEY}", "last line of its log: noisyvos: no memory is left")

    monkeypatch.setenv("NO_MEMORY", "1")
    done = space.run(*RUN, check=False)
    assert done.returncode == 1
    assert f"FAILED train@{KEY}" in done.stderr
    assert "1 of 6 score jobs are not done" in done.stderr
    assert "results/smoke/so_far/report.html: what is scored so far" in done.stderr
    assert missing(root) == {SCORED: reason}
    page = (so_far / "report.html").read_text()
    assert "no memory is left" in page
    assert KEY in page
    assert not (results / "report.html").exists()
    assert not (results / "tables").exists()

    monkeypatch.delenv("NO_MEMORY")
    made = (so_far / "report.html").stat().st_mtime_ns
    space.run(*RUN)
    assert (results / "report.html").is_file()
    assert (results / "tables").is_dir()
    assert (so_far / "report.html").stat().st_mtime_ns == made

    # a second run that fails leaves the earlier scores of the cell, which are out of date
    monkeypatch.setenv("NO_MEMORY", "1")
    again = (*RUN, "--forcerun", f"runs/smoke/train/{KEY}/weights.safetensors")
    assert "so far" not in space.run(*again, "--dry-run").stderr
    assert (so_far / "report.html").stat().st_mtime_ns == made
    done = space.run(*again, check=False)
    assert done.returncode == 1
    assert (results / f"scores/{SCORED}/objects.csv").is_file()
    assert missing(root) == {SCORED: reason}
    assert (so_far / "report.html").stat().st_mtime_ns > made
    monkeypatch.delenv("NO_MEMORY")
    rules = set(space.run(*RUN, "--dry-run").stdout.splitlines())
    assert {f"rule {name}:" for name in ("train", "score", "tables", "figures", "report")} <= rules
