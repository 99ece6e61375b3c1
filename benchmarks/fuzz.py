"""Change inputs at random and run every command: each must work or refuse in a sentence.

`python benchmarks/fuzz.py --minutes 30` makes a small world of inputs, changes one file or one
option of a command at a time, and runs the command in a forked process. A fault is a traceback, a
run past its limit, a signal, or a change of anything that existed. Each fault is printed with the
seed that repeats it: `--only SEED`. Exit code 1 if there is a fault.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

import fuzz_mutate
import fuzz_run
import fuzz_world

OUTPUTS = {"--out", "--manifest", "--summary", "--curve", "--inventory", "--movie"}
TRAININGS = ("pretrain", "train")
_DIGITS = 64  # of the sum of a file
LIMIT = 60.0  # seconds a command may take; on a quiet machine the longest takes five


@dataclass
class Count:
    """What happened over all cases."""

    worked: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)
    by_command: Counter = field(default_factory=Counter)


def build(folder: Path) -> Path:
    """Make the world in a new folder; RuntimeError if a command fails."""
    world = folder / "world"
    world.mkdir()

    def run(words: list[str], root: Path) -> None:
        ended = fuzz_run.run(words, root, 600)
        if ended.code != 0:
            raise RuntimeError(f"noisyvos {' '.join(words)}\n{ended.said}")

    fuzz_world.make_world(world, run)
    return world


def prepare(
    world: Path, folder: Path, seed: int, quick: bool
) -> tuple[fuzz_world.Command, list[str], str]:
    """Make a changed copy of the world in `folder`/case.

    Return the command, its words, and what was changed. quick: without commands that load a network
    or draw figures.
    """
    stream = random.Random(seed)
    command = stream.choice([each for each in fuzz_world.COMMANDS if not (quick and each.slow)])
    root = folder / "case"
    shutil.rmtree(root, ignore_errors=True)
    fuzz_mutate.copy_world(world, root)
    words, changed = command.words, []
    files = _files(root, command.reads)
    if files and stream.random() < 0.75:
        for _ in range(stream.choice((1, 1, 1, 2))):
            path = stream.choice(files)
            if path.is_file():
                changed.append(f"{path.relative_to(root)}: {fuzz_mutate.mutate_file(path, stream)}")
    else:
        words, how = fuzz_mutate.mutate_words(words, stream)
        changed.append(how)
    return command, words, "; ".join(changed)


def case(world: Path, folder: Path, seed: int, quick: bool = False) -> tuple[str, str, str | None]:
    """Run one case; return the command, what was changed and what is wrong (None: nothing)."""
    command, words, changed = prepare(world, folder, seed, quick)
    root = folder / "case"
    before = fuzz_run.state(root)
    ended = fuzz_run.run(words, root, LIMIT)
    wrong = ended.fault()
    named = tuple(os.path.normpath(word) for word in words if word)
    if "." in named:  # the folder of the case is an output
        named = ("",)
    lost = fuzz_run.changes(before, fuzz_run.state(root), command.allowed, named)
    # a file that an output names is replaced; an input never is
    replaced = _replaced(words, before)
    lost = [each for each in lost if each.removeprefix("lost ") not in replaced]
    if (folder / "evil").exists():
        lost.append("evil beside the world")
    if lost and wrong is None:
        wrong = f"{lost[0]} ({len(lost)} in all, exit code {ended.code})"
    said = f"noisyvos {' '.join(words)}\n  changed: {changed}"
    if wrong is not None:
        wrong = f"{wrong}\n{ended.said[-1500:]}"
    elif ended.code:
        said += f"\n  refused: {ended.said[-600:]}"
    return command.name, said, wrong


def compare(world: Path, folder: Path, seed: int, quick: bool = False) -> str | None:
    """Run a case in a forked process and in a new Python; return how their ends differ."""
    ends = []
    for run in (fuzz_run.run, fuzz_run.run_apart):
        _, words, changed = prepare(world, folder, seed, quick)
        ends.append(run(words, folder / "case", LIMIT))
    forked, apart = ends
    if (forked.code, forked.said) == (apart.code, apart.said):
        return None
    return f"{words}: {changed}\n{forked.code}: {forked.said}\n{apart.code}: {apart.said}"


def _replaced(words: list[str], before: dict[str, str]) -> set[str]:
    """Return the files that a command line names as outputs and not as inputs."""
    named: dict[bool, set[str]] = {True: set(), False: set()}
    for option, word in zip(["", *words], words, strict=False):
        is_output = option in OUTPUTS or (option == "--weights" and words[0] in TRAININGS)
        named[is_output].add(os.path.normpath(word))
    return {
        each
        for each in named[True] - named[False]
        if len(before.get(each, "")) == _DIGITS or before.get(each, "").startswith("link ")
    }


def _files(root: Path, reads: tuple[str, ...]) -> list[Path]:
    """Return the files that a command reads; each place counts the same."""
    found: list[Path] = []
    for place in reads:
        path = root / place
        below = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        texts = [p for p in below if p.suffix not in (".jpg", ".png")]
        found += below + 3 * texts
    return found


def main() -> int:
    """Run cases until the time is over, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--cases", type=int, help="so many cases, in place of --minutes")
    parser.add_argument("--apart", type=int, default=0, help="cases to run in a new Python too")
    parser.add_argument("--only", type=int, help="run this one case and say all of it")
    parser.add_argument("--quick", action="store_true", help="no networks, no figures")
    parser.add_argument("--faults", type=Path, help="a file to add each fault to")
    parser.add_argument("--world", type=Path, help="keep the world here, and use it again")
    options = parser.parse_args()
    fuzz_run.import_all()
    count = Count()
    with tempfile.TemporaryDirectory(prefix="noisyvos-fuzz-") as name:
        folder = Path(name)
        if options.world is None:
            world = build(folder)
        else:
            options.world.mkdir(parents=True, exist_ok=True)
            world = options.world / "world"
            world = world if world.is_dir() else build(options.world)
        if options.only is not None:
            command, said, wrong = case(world, folder, options.only, options.quick)
            print(said, wrong or "", sep="\n")
            return int(wrong is not None)
        for seed in range(options.seed, options.seed + options.apart):
            different = compare(world, folder, seed, options.quick)
            if different is not None:
                count.faults.append(different)
                print(different, flush=True)
        began, seed = time.monotonic(), options.seed
        last = None if options.cases is None else seed + options.cases
        while seed != last and (
            last is not None or time.monotonic() - began < 60 * options.minutes
        ):
            command, said, wrong = case(world, folder, seed, options.quick)
            count.by_command[command] += 1
            if wrong is not None:
                fault = f"seed {seed}: {wrong.splitlines()[0]}: {said}\n{wrong}\n"
                count.faults.append(fault)
                print(fault, flush=True)
                if options.faults is not None:
                    with options.faults.open("a", encoding="utf-8") as file:
                        file.write(fault + "\n")
            elif "\n  refused: " in said:
                count.refused += 1
            else:
                count.worked += 1
            seed += 1
    facts = {
        "cases": sum(count.by_command.values()),
        "worked": count.worked,
        "refused": count.refused,
        "faults": len(count.faults),
        "seconds": round(sum(os.times()[:4]), 1),
        "by_command": dict(sorted(count.by_command.items())),
    }
    print(json.dumps(facts))
    return int(bool(count.faults))


if __name__ == "__main__":
    sys.exit(main())
