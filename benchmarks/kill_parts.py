"""Kill single commands, the hand-over between engines and a tracking server; fill the disk.

`python benchmarks/kill_parts.py stages --count 400` runs the commands of the small world of
benchmarks/fuzz.py. Each is killed with SIGKILL at a random moment and started again. What existed
must be unchanged after the kill, and the result must be the bytes of an undisturbed run. Other
parts: `disk` (a disk that is full at a random moment, on a small tmpfs; needs root), `record`,
`adopt` and `dvc` (in a repository with a small finished grid), and `server` (MLflow's server is
killed during a training). Exit code 1 if anything differs.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

import fuzz_mutate
import fuzz_run
import fuzz_world
import kill
import psutil
import yaml
from fuzz import build

SLOW = 300.0  # seconds that a command may take on a busy machine
# checkpoints, archives and the record of them grow with the work
GROWING = ("out/scratch", "out/archives", "out/i.archives.json", "out/packed")
ENGINES = ("record", "adopt", "dvc")


def visible(state: dict[str, str], below: str = "") -> dict[str, str]:
    """Return what a state holds without hidden files, which killed processes leave."""
    return {
        name: what
        for name, what in state.items()
        if name.startswith(below) and not any(part.startswith(".") for part in name.split("/"))
    }


def start(words: list[str], folder: Path) -> int:
    """Start a command in a forked process and return its number."""
    said = folder.parent / f"{folder.name}.said"
    sys.stdout.flush()
    child = os.fork()
    if not child:
        fuzz_run._be(words, folder, said)
    return child


def end(child: int) -> None:
    """Kill a command and the processes that it started."""
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


class Trials:
    """Commands of the world, each with the bytes and the time of an undisturbed run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.world = folder, build(folder)
        self.expected: dict[str, dict[str, str]] = {}
        self.seconds: dict[str, float] = {}
        self.commands = [each for each in fuzz_world.COMMANDS if "--out" in each.words]

    def fresh(self) -> Path:
        """Return a new copy of the world."""
        root = self.folder / "case"
        shutil.rmtree(root, ignore_errors=True)
        fuzz_mutate.copy_world(self.world, root)
        return root

    def learn(self, command: fuzz_world.Command) -> None:
        """Run a command undisturbed if that was not done yet."""
        if command.line in self.expected:
            return
        root = self.fresh()
        ended = fuzz_run.run(command.words, root, SLOW)
        if ended.code != 0:
            raise RuntimeError(f"{command.line}\n{ended.said}")
        self.expected[command.line] = visible(fuzz_run.state(root), "out")
        self.seconds[command.line] = ended.seconds

    def finish(self, command: fuzz_world.Command, root: Path, before: dict[str, str]) -> list[str]:
        """Return what is wrong after a disturbed run, and after the same command once more."""
        after = fuzz_run.state(root)
        wrong = [f"lost {name}" for name in before if after.get(name) != before[name]]
        expected = self.expected[command.line]
        wrong += [
            f"half-written {name}"
            for name, what in visible(after, "out").items()
            if expected.get(name) != what and not name.startswith(GROWING)
        ]
        ended = fuzz_run.run(command.words, root, SLOW)
        if ended.code != 0:
            return [*wrong, f"the second run fails: {ended.said[-300:]}"]
        found = visible(fuzz_run.state(root), "out")
        names = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        return wrong + [f"differs {name}" for name in names]


def stages(count: int, stream: random.Random) -> dict:
    """Kill single commands at random moments of their work."""
    fuzz_run.import_all()
    wrong, killed = [], 0
    by_command: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="noisyvos-kill-") as name:
        trials = Trials(Path(name).resolve())
        for number in range(count):
            command = stream.choice(trials.commands)
            trials.learn(command)
            root = trials.fresh()
            before = fuzz_run.state(root)
            child = start(command.words, root)
            time.sleep(stream.random() * trials.seconds[command.line])
            done, _ = os.waitpid(child, os.WNOHANG)
            if not done:
                end(child)
                killed += 1
                by_command[command.name] = by_command.get(command.name, 0) + 1
            found = trials.finish(command, root, before)
            if found:
                wrong.append(f"{command.line}: {found[:3]}")
                print(wrong[-1], flush=True)
            if number % 50 == 49:
                print(f"{number + 1} trials, {killed} kills, {len(wrong)} wrong", flush=True)
    return {"trials": count, "kills": killed, "wrong": wrong, "by_command": by_command}


@contextmanager
def small_disk(place: Path):
    """Mount a tmpfs at `place`, and yield what sets its size in KiB."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], check=True)

    def resize(kibibytes: int) -> None:
        options = f"remount,size={kibibytes}k"
        subprocess.run(["mount", "-o", options, str(place)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def disk(count: int, stream: random.Random) -> dict:
    """Fill the disk of the outputs at a random moment: its size is drawn before each run."""
    fuzz_run.import_all()
    wrong, full, worked = [], 0, 0
    with tempfile.TemporaryDirectory(prefix="noisyvos-disk-") as name:
        trials = Trials(Path(name).resolve())
        commands = [each for each in trials.commands if each.words[0] not in ("point", "download")]
        for _ in range(count):
            command = stream.choice(commands)
            trials.learn(command)
            root = trials.fresh()
            before = fuzz_run.state(root)
            with small_disk(root / "out") as resize:
                resize(stream.choice((4, 8, 12, 16, 24, 40, 80, 160, 320)))
                ended = fuzz_run.run(command.words, root, SLOW)
                resize(64 * 1024)
                worked += ended.code == 0
                full += ended.code == 1
                found = trials.finish(command, root, before)
            if ended.fault() is not None:
                found.append(f"{ended.fault()}: {ended.said[-400:]}")
            if ended.code == 1 and not any(w in ended.said for w in ("space", "full", "memory")):
                found.append(f"says something else: {ended.said[-300:]}")
            if found:
                wrong.append(f"{command.line}: {found[:3]}")
                print(wrong[-1], flush=True)
    return {"trials": count, "refused": full, "had_room": worked, "wrong": wrong}


def make_repository(root: Path) -> None:
    """Write a repository with the grid of the small world, for both engines."""
    root.mkdir()
    kill.copy_repository(root)
    shutil.rmtree(root / "params")
    with tempfile.TemporaryDirectory() as name:
        world = build(Path(name).resolve())
        shutil.copytree(world / "params", root / "params")
        shutil.copytree(world / "raw", root / "data" / "raw" / "own")
    env = kill.environment(root)
    for command in (
        ["git", "init", "-q", "."],
        ["git", "add", "params", "workflow", "Snakefile"],
        ["git", "-c", "user.name=x", "-c", "user.email=x@y.example", "commit", "-qm", "x"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        [sys.executable, "-m", "noisyvos", "grid", "--preset", "fuzz"],
    ):
        subprocess.run(command, cwd=root, env=env, check=True, capture_output=True)


def run_engine(root: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the repository to its end."""
    return subprocess.run(
        command, cwd=root, env=kill.environment(root), capture_output=True, text=True, check=False
    )


SNAKEMAKE = ["snakemake", "--cores", "1", "--quiet", "--config", "preset=fuzz"]
NOISYVOS = [sys.executable, "-m", "noisyvos"]


def nothing_to_do(root: Path) -> str:
    """Return what Snakemake would still run; empty if nothing."""
    done = run_engine(root, [*SNAKEMAKE, "--dry-run"])
    lines = [line for line in done.stdout.splitlines() if line.startswith(("rule", "total"))]
    return "; ".join(lines) if done.returncode == 0 else done.stderr[-300:]


def kill_somewhere(root: Path, command: list[str], seconds: float, stream: random.Random) -> bool:
    """Start a command, kill all its processes at a random moment; return whether it was killed."""
    quiet = subprocess.DEVNULL
    run = psutil.Popen(
        command, cwd=root, env=kill.environment(root), start_new_session=True,
        stdout=quiet, stderr=quiet,
    )  # fmt: skip
    try:
        run.wait(timeout=stream.uniform(0.2, 1.0) * seconds)
    except psutil.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        kill.end_orphans(root)
        for lock in root.glob(".dvc/tmp/*lock"):  # as DVC's message says
            lock.unlink()
        return True
    return False


def other_stages(lock: Path, expected: dict) -> list[str]:
    """Return the stages whose entries differ; DVC appends them in the order they end in."""
    found = yaml.safe_load(lock.read_text())["stages"]
    names = {*found, *expected["stages"]}
    return sorted(name for name in names if found.get(name) != expected["stages"].get(name))


def engine(part: str, count: int, stream: random.Random) -> dict:
    """Kill `record`, `adopt` or `dvc repro` at random moments, and compare the end."""
    wrong, killed = [], 0
    with tempfile.TemporaryDirectory(prefix="noisyvos-engine-") as name:
        root = Path(name).resolve() / "run"
        make_repository(root)
        done = run_engine(root, SNAKEMAKE)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        began = time.monotonic()
        if run_engine(root, [*NOISYVOS, "record"]).returncode:
            raise RuntimeError("the undisturbed record failed")
        seconds = time.monotonic() - began
        expected, scores = (
            yaml.safe_load((root / "dvc.lock").read_text()),
            kill.hashes(root, "fuzz"),
        )
        if part == "dvc":
            # without DVC's memory of earlier runs, which would bring everything back in a second
            command = ["dvc", "repro", "--quiet", "--no-run-cache"]
            shutil.rmtree(root / ".dvc" / "cache" / "runs", ignore_errors=True)
            seconds *= 3
        else:
            command = [*NOISYVOS, part]
        for _ in range(count):
            if part == "record":
                for old in (root / "dvc.lock", root / ".dvc" / "cache"):
                    shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
            if part == "dvc":
                for made in ("runs", "results", "data/converted", "data/noisy", "dvc.lock"):
                    path = root / made
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                for _ in range(3):
                    killed += kill_somewhere(root, command, seconds, stream)
            else:
                killed += kill_somewhere(root, command, seconds, stream)
                if part == "record" and (still := nothing_to_do(root)):
                    wrong.append(f"Snakemake would run: {still}")
            ended = run_engine(root, command)
            if ended.returncode:
                wrong.append(f"{part} fails after a kill: {ended.stderr[-400:]}")
            elif part != "adopt" and (other := other_stages(root / "dvc.lock", expected)):
                wrong.append(f"another dvc.lock: {other}")
            if kill.hashes(root, "fuzz") != scores:
                wrong.append("other scores")
            if part == "adopt" and (still := nothing_to_do(root)):
                wrong.append(f"after adopt Snakemake would run: {still}")
            print(f"{part}: {killed} kills, {len(wrong)} wrong {wrong[-1:]}", flush=True)
    return {"kills": killed, "wrong": wrong}


def server(count: int, stream: random.Random) -> dict:
    """Kill MLflow's server during a training: the outputs must be there, and the same."""
    wrong: list[str] = []
    slowest = 0.0
    with tempfile.TemporaryDirectory(prefix="noisyvos-server-") as name:
        folder = Path(name).resolve()
        fuzz_run.import_all()
        world = build(folder)
        line = next(each for each in fuzz_world.COMMANDS if each.words[0] == "train").line
        words = line.replace("--no-track ", "").split()
        files: list[bytes] = []
        for number in range(count + 1):
            root = folder / "case"
            shutil.rmtree(root, ignore_errors=True)
            fuzz_mutate.copy_world(world, root)
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            mlflow = [sys.executable, "-m", "mlflow", "server", "--port", str(port)]
            store = f"sqlite:///{folder}/m{number}.db"
            run = psutil.Popen(
                [*mlflow, "--workers", "1", "--backend-store-uri", store], cwd=folder,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            uri = f"http://127.0.0.1:{port}"
            _wait_for(port)
            env = os.environ | {"MLFLOW_TRACKING_URI": uri, "CUDA_VISIBLE_DEVICES": ""}
            env.pop("NOISYVOS_TRACKING", None)
            began = time.monotonic()
            training = subprocess.Popen(
                [*NOISYVOS, *words], cwd=root, env=env, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            if number:
                time.sleep(stream.uniform(0.1, 1) * slowest)
                with suppress(ProcessLookupError):
                    os.killpg(run.pid, signal.SIGKILL)
            said, _ = training.communicate()
            took = time.monotonic() - began
            slowest = max(slowest, took) if not number else slowest
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            if training.returncode or "Traceback" in said:
                wrong.append(said[-600:])
                continue
            files.append((root / "out/w.safetensors").read_bytes())
            if files[-1] != files[0]:
                wrong.append("other weights")
            print(f"server: kill {number}, training took {took:.1f} s", flush=True)
    return {"kills": count, "seconds_undisturbed": round(slowest, 1), "wrong": wrong}


def _wait_for(port: int) -> None:
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.5)
    raise RuntimeError("MLflow's server does not start")


PARTS: dict[str, Callable[[int, random.Random], dict]] = {
    "stages": stages,
    "disk": disk,
    "server": server,
}


def main() -> int:
    """Run one part and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=[*PARTS, *ENGINES])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    stream = random.Random(options.seed)
    if options.part in PARTS:
        facts = PARTS[options.part](options.count, stream)
    else:
        facts = engine(options.part, options.count, stream)
    print(json.dumps(facts))
    return int(bool(facts["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
