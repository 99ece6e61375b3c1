"""Downloads that are killed at random moments end in the same bytes as one that was left alone."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
import kills


def test_killed_downloads_end_in_the_same_bytes(tmp_path: Path) -> None:
    tally = kills.run(tmp_path, kills=5, kills_a_trial=3)
    assert tally.kills == 5
    assert (tally.failed, tally.differing) == (0, 0)
