"""Kill downloads at random moments, many times, and compare what is on disk in the end.

`python benchmarks/kill_download.py [KILLS]`.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
import kills


def main(count: int) -> int:
    """Print what happened in `count` kills; 1 if any download failed or ended in other bytes."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tally = kills.run(Path(folder), kills=count, seed=1)
    seconds = time.monotonic() - start
    print(
        f"{tally.kills} kills in {tally.trials} downloads, {tally.resumed} requests for the rest "
        f"of a file, {seconds:.0f} s"
    )
    print(f"ended in other bytes: {tally.differing}; failed: {tally.failed}")
    return int(bool(tally.differing or tally.failed))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50))
