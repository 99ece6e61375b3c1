"""Kill a run at random moments and start it again, until it ends.

Are the scores still the same bytes?

`python benchmarks/kill.py --kills 20` copies the repository twice and runs preset `smoke`
undisturbed in one copy. In the other it kills a random process of the run with SIGKILL (Snakemake
itself, a stage, one of its workers), again and again. A run that ends before all kills are spent
starts anew. Exit code 1 if a byte differs. `--reference FILE` names what `hashes` gave for an
undisturbed run of the same code, as JSON; none runs here then.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
from repository import copy_repository  # noqa: E402

MADE = ("data", "runs", "results", "scratch", "logs", ".snakemake")


def environment(root: Path) -> dict[str, str]:
    """Return the environment of a run in `root`.

    This Python, the copy's sources, no tracking, no GPU.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(root / "src"),
        "NOISYVOS_TRACKING": "off",
        "CUDA_VISIBLE_DEVICES": "",
    }


def start(root: Path, preset: str, cores: int) -> psutil.Popen:
    """Start the run, as a person would after a crash: remove Snakemake's own lock, go on."""
    env = environment(root)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(
        [sys.executable, "-c", "from noisyvos.cli import main; main()", "grid", "--preset", preset],
        cwd=root,
        env=env,
        check=True,
    )
    subprocess.run(["snakemake", "--unlock"], cwd=root, env=env, check=False, **quiet)
    return psutil.Popen(
        ["snakemake", "--cores", str(cores), "--quiet"],
        cwd=root,
        env=env,
        start_new_session=True,
        **quiet,
    )


def kill_one(run: psutil.Popen, stream: random.Random) -> str:
    """Kill one process of the run and return what it was; empty if the run is over."""
    try:
        processes = [run, *run.children(recursive=True)]
        victim = stream.choice(processes)
        words = [Path(word).name for word in victim.cmdline()[:3] if not word.startswith("-")]
        victim.kill()
    except (psutil.NoSuchProcess, IndexError):
        return ""
    return " ".join(words)


def end_orphans(root: Path) -> None:
    """End the processes that outlived the run they belonged to.

    Those whose working folder is `root`.
    """
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == root:
                process.kill()
                process.wait()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def hashes(root: Path, preset: str) -> dict[str, str]:
    """Return the SHA-256 of every score, prediction and network of a run.

    The journals that tracking keeps beside networks hold times, so they are left out.
    """
    files = [
        *(root / "results" / preset / "scores").rglob("*"),
        *(root / "runs" / preset).rglob("*"),
    ]
    kept = sorted(
        path
        for path in files
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".jsonl"
    )
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in kept
    }


def copied(root: Path) -> Path:
    """Copy the repository to the new folder `root` and return it."""
    root.mkdir()
    copy_repository(root)
    return root


def run_undisturbed(root: Path, preset: str, cores: int) -> tuple[dict[str, str], float]:
    """Run to the end in a new folder; return what `hashes` gives, and the seconds it took."""
    copied(root)
    began = time.monotonic()
    if start(root, preset, cores).wait() != 0:
        raise RuntimeError("the undisturbed run failed")
    return hashes(root, preset), round(time.monotonic() - began, 1)


def run_with_kills(
    root: Path, preset: str, kills: int, mean_seconds: float, cores: int, stream: random.Random
) -> tuple[list[str], int]:
    """Run until all kills are spent and the run has ended well.

    Return what was killed and how often it was started.
    """
    killed: list[str] = []
    starts = 0
    for _ in range(50 + 3 * kills):
        run = start(root, preset, cores)
        starts += 1
        while run.poll() is None:
            if len(killed) >= kills:
                run.wait()
                break
            try:
                run.wait(timeout=stream.expovariate(1 / mean_seconds))
            except psutil.TimeoutExpired:
                what = kill_one(run, stream)
                if what:
                    killed.append(what)
                    print(f"kill {len(killed)}/{kills}: {what}", flush=True)
        if run.returncode == 0:
            end_orphans(root)
            if len(killed) >= kills:
                return killed, starts
            for name in MADE:
                shutil.rmtree(root / name, ignore_errors=True)
    raise RuntimeError(f"the run did not end after {starts} starts and {len(killed)} kills")


def main() -> int:
    """Run both and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--preset", default="smoke")
    parser.add_argument("--mean-seconds", type=float, default=8.0, help="between two kills")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reference", type=Path, help="hashes of an undisturbed run, as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="noisyvos-kill-") as folder:
        expected, undisturbed = (
            (json.loads(options.reference.read_text()), None)
            if options.reference
            else run_undisturbed(Path(folder) / "calm", options.preset, options.cores)
        )
        root = copied(Path(folder) / "killed")
        stream = random.Random(options.seed)
        killed, starts = run_with_kills(
            root, options.preset, options.kills, options.mean_seconds, options.cores, stream
        )
        found = hashes(root, options.preset)
    different = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    facts = {
        "kills": len(killed),
        "starts": starts,
        "seconds_undisturbed": undisturbed,
        "files": len(expected),
        "different": different,
    }
    print(json.dumps(facts))
    return 1 if different or not expected else 0


if __name__ == "__main__":
    sys.exit(main())
