"""Kill conversions at random moments, many times, and compare what is on disk in the end.

`python benchmarks/kill_convert.py [KILLS]`.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
import miniatures


def main(count: int) -> int:
    """Print what happened in `count` kills.

    1 if a half dataset was seen or any conversion ended in other bytes.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tally = miniatures.kill_conversions(Path(folder), kills=count, seed=1)
    print(
        f"{tally.kills} kills, {tally.late} too late, {tally.leftovers} left a temporary folder, "
        f"{time.monotonic() - start:.0f} s"
    )
    print(
        f"half datasets under the final name: {tally.partial}; ended in other bytes or with "
        f"leftovers: {tally.differing}"
    )
    return int(bool(tally.partial or tally.differing))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50))
