"""The rehearsal of `benchmarks/gpu.py`: the same code on a CPU, small, without what a GPU lacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ABSENT = ("snakemake", "dvc", "mlflow")


def benchmark(tmp_path: Path, *options: str) -> subprocess.CompletedProcess:
    """Run it where packages that a lent GPU lacks cannot be imported."""
    blocked = tmp_path / "blocked"
    blocked.mkdir(exist_ok=True)
    for name in ABSENT:
        (blocked / f"{name}.py").write_text(f"raise ImportError('{name} is not here')\n")
    path = os.pathsep.join((str(blocked), str(ROOT / "src")))
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks/gpu.py", "--out", tmp_path / "page.md", *options],
        env=os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )


def test_without_a_gpu_it_says_what_it_would_do(tmp_path) -> None:
    done = benchmark(tmp_path)
    assert done.returncode == 0
    assert "There is no GPU here" in done.stdout
    assert all(f"  {part}" in done.stdout for part in ("xmem", "training", "stm", "cell"))
    assert not (tmp_path / "page.md").exists()


def test_a_rehearsal_writes_the_page(tmp_path) -> None:
    done = benchmark(tmp_path, "--rehearse", "--only", "machine", "xmem", "others")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.md").read_text()
    assert "a rehearsal on a CPU" in page
    for wanted in (
        "| matrix product in TF32 |",
        "## XMem_tiny at 32 x 48",
        "| 3 objects, fp16, CUDA graphs, 2 videos at once |",
        "## AOC-Net_tiny at 32 x 48",
    ):
        assert wanted in page
    rows = json.loads((tmp_path / "page.json").read_text())["rows"]
    rates = [row for row in rows if "frames/s" in row["figure"]]
    assert len(rates) == 5 * 2 * 2 + 3 * 2  # kinds, objects, videos; networks, kinds
    assert all(float(row["figure"].split()[0]) > 0 for row in rates)


def test_what_does_not_fit_is_left_out_and_a_failure_costs_no_other_part(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu_parts

    import gpu

    def broken(scale, deadline):
        yield gpu_parts.Row("Broken", "first", "1")
        raise RuntimeError("out of luck")

    def fine(scale, deadline):
        page = (tmp_path / "page.md").read_text()  # what was measured before is there already
        yield gpu_parts.Row("Fine", "second", str("| first | 1 |" in page))

    def late(scale, deadline):
        raise AssertionError

    monkeypatch.setattr(
        gpu_parts,
        "PARTS",
        {
            "broken": gpu_parts.Part(1, "", broken),
            "fine": gpu_parts.Part(1, "", fine),
            "late": gpu_parts.Part(900, "", late),
        },
    )
    monkeypatch.setattr(gpu_parts, "FULL", gpu_parts.SMALL)
    monkeypatch.setattr(gpu, "FULL", gpu_parts.SMALL)
    page = gpu.Page(tmp_path / "page.md", gpu_parts.SMALL, 60)
    assert gpu.run(page, None) is False
    text = (tmp_path / "page.md").read_text()
    assert "| first | 1 |" in text
    assert "broken: failed (RuntimeError: out of luck)" in text
    assert "| second | True |" in text
    assert "late: left out" in text


@pytest.mark.slow
def test_a_rehearsal_trains_and_scores_a_cell(tmp_path) -> None:
    done = benchmark(tmp_path, "--rehearse", "--only", "training", "cell", "--limit", "600")
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "page.md").read_text()
    assert "| SMART's step over a plain one |" in page
    assert "| J&F (synthetic videos, shortened trainings) | 0." in page
