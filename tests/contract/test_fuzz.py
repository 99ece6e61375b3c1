"""A small part of benchmarks/fuzz.py: changed inputs of every kind, for every command.

Each case works or is refused in a sentence: no traceback, no hang, no change of what existed.
"""

import json
import subprocess
import sys
from pathlib import Path

import fuzz_mutate
import fuzz_run
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz.py"
CASES = 110  # about 40 seconds of one core, the making of the world included


@pytest.mark.timeout(900)
def test_changed_inputs_work_or_are_refused() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--cases", str(CASES), "--seed", "7", "--apart", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["cases"] == CASES
    assert facts["faults"] == 0
    assert facts["worked"] > 10, "mutations that change nothing that matters"
    assert facts["refused"] > 50, "mutations that are noticed"


@pytest.mark.parametrize(
    ("code", "said", "fault"),
    [
        (0, "", None),
        (1, "noisyvos: a.json: this file is damaged.", None),
        (None, "", "hangs"),
        (1, "Traceback (most recent call last):\n", "traceback"),
        (1, "noisyvos: [Errno 2] No such file", "traceback"),
        (-11, "", "signal 11"),
        (70, "", "exit code 70"),
        (1, "", "says nothing"),
        (1, "x" * 3000, "says too much"),
    ],
)
def test_faults_are_recognised(code: int | None, said: str, fault: str | None) -> None:
    assert fuzz_run.Ended(code, said, 0.0).fault() == fault


def test_changes_of_what_existed_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("1")
    (tmp_path / "gone").mkdir()
    before = fuzz_run.state(tmp_path)
    assert fuzz_run.changes(before, before, (), ()) == []
    (tmp_path / "in").write_text("2")
    (tmp_path / "gone").rmdir()
    (tmp_path / "stray").write_text("")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".x.7.tmp").write_text("")
    found = fuzz_run.changes(before, fuzz_run.state(tmp_path), (), ())
    assert found == ["left out/.x.7.tmp", "left stray", "lost gone", "lost in"]
    assert fuzz_run.changes(before, fuzz_run.state(tmp_path), ("in", "gone"), ("stray",)) == [
        "left out/.x.7.tmp"
    ]


def test_equal_seeds_give_equal_mutations() -> None:
    import random

    data = json.dumps({"videos": {"a": {"objects": {"1": {"frames": ["0"]}}}}}).encode()
    results = [
        [fuzz_mutate.mutate_bytes(Path("a.json"), data, random.Random(seed)) for seed in range(40)]
        for _ in range(2)
    ]
    assert results[0] == results[1]
    assert len({changed for changed, _ in results[0]}) > 30
