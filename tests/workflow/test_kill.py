"""A run that is killed at random moments and started again ends in the same bytes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kill.py"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.xdist_group("smoke")  # with the other tests of the real run
def test_scores_survive_kills(real: Any, tmp_path: Path) -> None:
    (tmp_path / "undisturbed.json").write_text(json.dumps(real.hashes))
    reference = ("--reference", str(tmp_path / "undisturbed.json"))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--kills", "3", "--seed", "1", *reference],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["kills"] == 3
    assert facts["different"] == []
    assert facts["files"] > 20
