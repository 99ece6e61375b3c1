"""Run every benchmark, one after the other on an otherwise idle machine.

And write what they print to one page.

python benchmarks/run.py --out docs/performance.md [--material FOLDER] [--only scoring synth ...]

With `--only`, the page keeps what it says of the other benchmarks, each with the commit that it was
measured at. Each prints ratios measured within its own run: against a named peer, or against a
floor such as decoding the same files. Those that need real masks take them from `--material`, a
folder with osvos-masks/ and real-clips/, and are left out, visibly, without it. The page is written
after each one.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from noisyvos.io.atomic import atomic_file

HERE = Path(__file__).resolve().parent
# how a benchmark begins the line for the table, where its ratios are not in sentences
SUMMARY = "summary: "


@dataclass(frozen=True)
class Kept:
    """What an earlier page says of a benchmark: its row and its section."""

    row: str
    section: str


@dataclass(frozen=True)
class Outcome:
    """What became of one benchmark."""

    name: str
    command: str
    seconds: float | None  # CPU time; None: not run
    text: str
    reached: bool

    def row(self) -> str:
        """Return its row of the table."""
        if self.seconds is None:
            return f"| {self.name} | | not run: {self.text} | |"
        lines = self.text.splitlines()
        summary = [line.removeprefix(SUMMARY) for line in lines if line.startswith(SUMMARY)]
        found = (
            summary
            or [line.strip() for line in lines if "ratio" in line or " times " in line]
            or lines[-1:]
        )
        figures = "<br>".join(line.replace("|", "/") for line in found[:6])
        return (
            f"| [{self.name}](#{self.name}) | {self.seconds:.0f} | {figures} | "
            f"{'yes' if self.reached else 'no'} |"
        )

    def section(self) -> str:
        """Return its section of the page."""
        if self.seconds is None:
            return f"## {self.name}\n\nNot run: {self.text}.\n"
        missed = "" if self.reached else "\n\nA bar was missed, or the run failed."
        return (
            f"## {self.name}\n\n`{self.command}`, measured at {commit()}\n\n"
            f"```\n{self.text}\n```{missed}\n"
        )

    def kept(self) -> Kept:
        """Return what the page says of it."""
        return Kept(self.row(), self.section())


def earlier(path: Path, names: Iterable[str]) -> dict[str, Kept]:
    """Return what a page says of the benchmarks in `names`; a section keeps its commit.

    A section without a commit was measured at that of the page.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    measured = re.search(r"^`make bench` writes this page\. Measured at ([^\s,]+)", text, re.M)
    at = measured[1].rstrip(".") if measured else "an unknown commit"
    found = {}
    for name in names:
        row = re.search(rf"^\| (\[{name}\]\(#{name}\)|{name}) \|.*$", text, re.M)
        section = re.search(rf"^## {name}\n.*?(?=^## |\Z)", text, re.M | re.S)
        if row and section:
            own = section[0].rstrip() + "\n"
            own = re.sub(r"^(`python [^`\n]+`)$", rf"\1, measured at {at}", own, flags=re.M)
            found[name] = Kept(row[0], own)
    return found


def commands(material: Path) -> dict[str, tuple[list[str], Path | None]]:
    """Return for each benchmark its command and the folder that it needs, if any."""
    masks, clips = material / "osvos-masks", material / "real-clips"
    folders = [str(masks / "main/results"), str(masks / "real/Annotations/480p")]
    return {
        "xmem": (["xmem.py"], None),
        "xmem_three_objects": (["xmem.py", "--objects", "3", "--frames", "4"], None),
        "stm": (["stm.py"], None),
        "stm_resnet18": (["stm.py", "--model", "stm_resnet18"], None),
        "afb_urr": (["afb_urr.py"], None),
        "smart_step": (["smart_step.py"], None),
        "synth": (["synth.py"], None),
        "overhead": (["overhead.py"], None),
        "noise": (["noise.py", *folders, "--every", "16"], masks),
        "scoring": (["scoring.py", "--masks", str(masks)], masks),
        "loader": (["loader.py", str(clips)], clips),
        "long_video": (["long_video.py"], None),
    }


def run(name: str, command: list[str]) -> Outcome:
    """Run one benchmark in a process of its own."""
    script, *arguments = command
    print(f"{name} ...", flush=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120", "NO_COLOR": "1"}
    before = os.times()
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )
    after = os.times()
    seconds = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    text = (
        done.stdout.strip()
        or "\n".join(done.stderr.strip().splitlines()[-1:])
        or "It printed nothing."
    )
    shown = " ".join(
        ["python", f"benchmarks/{script}", *(Path(a).name if os.sep in a else a for a in arguments)]
    )
    return Outcome(name, shown, seconds, text, done.returncode == 0)


def processor() -> str:
    """Return the processor's name as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.partition(":")[2].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@cache
def commit() -> str:
    """Return the short hash of the commit that is measured, marked if files had changed."""
    try:
        return subprocess.check_output(
            ["git", "describe", "--always", "--abbrev=7", "--dirty=+changed", "--exclude=*"],
            cwd=HERE,
            text=True,
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return "an unknown commit"


def main() -> int:
    """Run the chosen benchmarks and write the page; the exit code is 1 if one missed its bars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--material", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", default=None)
    options = parser.parse_args()
    commit()  # before the page itself changes
    every = commands(options.material)
    if unknown := set(options.only or ()) - set(every):
        parser.error(
            f"unknown benchmark {', '.join(sorted(unknown))}: choose of {', '.join(every)}"
        )
    page = earlier(options.out, every) if options.only else {}
    reached = True
    for name, (command, needed) in every.items():
        if options.only and name not in options.only:
            continue
        if needed is not None and not needed.is_dir():
            outcome = Outcome(name, "", None, f"it needs `{needed.name}` in `--material`", True)
        else:
            outcome = run(name, command)
        reached = reached and outcome.reached
        page[name] = outcome.kept()
        # after each, so that a run that is broken off leaves what it has
        write_page(options.out, [page[each] for each in every if each in page])
    print(options.out)
    return 0 if reached else 1


def write_page(path: Path, parts: list[Kept]) -> None:
    """Write the table and what each benchmark printed."""
    machine = (
        f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"torch {version('torch')}"
    )
    head = (
        f"# Performance\n\n`make bench` writes this page. Measured at {commit()}, except for "
        "sections that name another commit.\n\n"
        "- Ratios are measured within one run, on the same inputs and with equal outputs.\n"
        "- Seconds are CPU seconds of one thread unless stated otherwise.\n"
        "- Inputs are generated (synthetic) or real masks and clips, as each benchmark says.\n"
        f"- Machine: {machine}.\n\n"
    )
    beside = (HERE / "peers.md").read_text(encoding="utf-8")
    table = "| benchmark | CPU s in all | ratios | bars reached |\n|---|---|---|---|\n" + "\n".join(
        part.row for part in parts
    )
    with atomic_file(path) as temporary:
        Path(temporary).write_text(
            "\n".join((head + table, "", beside, *(part.section for part in parts))),
            encoding="utf-8",
        )


if __name__ == "__main__":
    sys.exit(main())
