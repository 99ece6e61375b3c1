"""A download that is killed at random moments.

Made-up archives on loopback, a child process, SIGKILL, and what is on disk in the end.
"""

import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import yaml
from loopback import Site, serve

CHILD = """
import sys
from pathlib import Path
from noisyvos.stages import download
base = Path(sys.argv[1])
print("ready", flush=True)
places = {"raw": base / "raw/made", "out": base / "sources/made.json"}
download.run("made", **places, params=base / "params", accept_licence=True)
"""


@dataclass
class Tally:
    """What happened over all trials."""

    trials: int = 0
    kills: int = 0
    resumed: int = 0  # requests for the rest of a file
    differing: int = 0  # trials that ended in other bytes
    failed: int = 0  # runs that were not killed and did not succeed
    seconds: float = 0.0  # of the last run, from the moment the child was ready


def trial(
    folder: Path, site: Site, rng: random.Random, duration: float, kills: int, tally: Tally
) -> dict[str, str]:
    """Run the download in the new folder `folder`, killed at most `kills` times.

    Until it ends by itself; return the sums of its files.
    """
    _write_params(folder, site)
    asked = len(site.ranges)
    for delay in [*(rng.uniform(0, duration) for _ in range(kills)), None]:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder)],
            stdout=subprocess.PIPE,
            env=os.environ | {"NO_PROXY": "127.0.0.1"},
        )
        assert child.stdout is not None
        child.stdout.readline()
        start = time.monotonic()
        try:
            child.wait(delay)
        except subprocess.TimeoutExpired:
            child.kill()
            tally.kills += 1
        child.stdout.close()
        code = child.wait()
        tally.seconds = time.monotonic() - start
        tally.failed += code > 0
        if code >= 0:
            break
    tally.trials += 1
    tally.resumed += len(site.ranges) - asked
    return sums(folder)


def run(
    base: Path, *, kills: int, kills_a_trial: int = 4, seed: int = 0, mebibytes: float = 1.0
) -> Tally:
    """Kill downloads below `base` until `kills` kills were delivered.

    The bytes of an undisturbed download are the measure.
    """
    rng, tally = random.Random(seed), Tally()
    with serve() as site:
        _publish(site, int(mebibytes * 2**20))
        undisturbed = Tally()
        wanted = trial(base / "undisturbed", site, rng, 0, 0, undisturbed)
        while tally.kills < kills and tally.trials < 4 * kills:
            left = min(kills_a_trial, kills - tally.kills)
            tally.differing += (
                trial(base / f"trial{tally.trials}", site, rng, undisturbed.seconds, left, tally)
                != wanted
            )
    return tally


def sums(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below `folder`, hidden ones included.

    The parameter file, which names the port, is left out.
    """
    files = (
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "sources.yaml"
    )
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def _publish(site: Site, size: int) -> None:
    """Serve a zip and a tar.gz of about `size` bytes each, slowly enough for kills to hit."""
    data = random.Random(5)
    files = {f"JPEGImages/cat/{i:05d}.jpg": data.randbytes(size // 40) for i in range(40)}
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"DAVIS/{name}", content)
    with tarfile.open(fileobj=tarred, mode="w:gz", compresslevel=1) as bundle:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.replace("jpg", "png").replace("JPEGImages", "Annotations"))
            entry.size = len(content)
            bundle.addfile(entry, io.BytesIO(content[::-1]))
    site.url("frames.zip", zipped.getvalue(), pause=0.005)
    site.url("masks.tar.gz", tarred.getvalue(), pause=0.004)


def _write_params(folder: Path, site: Site) -> None:
    (folder / "params").mkdir(parents=True)
    files = [{"url": site.url("frames.zip"), "root": "DAVIS"}, {"url": site.url("masks.tar.gz")}]
    wants = [{"path": "JPEGImages/cat/*", "count": 40}, {"path": "Annotations/cat/*", "count": 40}]
    entry = {"kind": "archives", "about": "made up", "files": files, "wants": wants}
    (folder / "params" / "sources.yaml").write_text(yaml.safe_dump({"made": entry}))
