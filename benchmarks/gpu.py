"""What this project does on a GPU, in at most eight minutes, as one page.

    python benchmarks/gpu.py [--out docs/performance-gpu.md] [--limit 480] [--only xmem stm ...]
    python benchmarks/gpu.py --rehearse --out page.md     # the same code on a CPU, small

The page is written after every measurement, so that a run that is broken off leaves what it has.
Parts run in the order of their worth. A part that does not fit into what is left of the limit is
left out, visibly; a part that fails says why and the next one starts. Without a GPU, and without
`--rehearse`, the parts are listed and nothing runs. Snakemake, DVC and MLflow are not needed.
"""

import argparse
import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import gpu_parts
import torch
from gpu_parts import FULL, SMALL, Row, Scale
from run import commit

from noisyvos.io.atomic import write_text

ROOT = Path(__file__).resolve().parents[1]
GOALS = (
    "XMem: at least 200 frames a second with one object and 150 with three; "
    "a SMART step: at most 1.2 plain steps. "
    "XMem's authors report 40.3 frames a second on DAVIS 2016 and 33.9 on DAVIS 2017, "
    "in half precision on a GPU they do not name."
)


def machine(scale: Scale) -> str:
    """Return the name of what is measured."""
    if scale.device == "cpu":
        return f"a CPU ({platform.machine()})"
    properties = torch.cuda.get_device_properties(0)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"


@dataclass
class Page:
    """The page and the rows on it."""

    path: Path
    scale: Scale
    limit: float
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds of the limit that are left."""
        return self.limit - (time.monotonic() - self.started)

    def add(self, row: Row) -> None:
        """Add a row and write the page."""
        self.rows.append(row)
        print(f"[{self.limit - self.left:4.0f} s] {row.part}: {row.what}: {row.figure}", flush=True)
        self.write()

    def note(self, text: str) -> None:
        """Add a remark, as about a part that was left out."""
        self.notes.append(text)
        print(text, flush=True)
        self.write()

    def write(self) -> None:
        """Write the page, and its rows as JSON beside it."""
        rehearsal = self.scale is SMALL
        head = "a rehearsal on a CPU with small networks: its figures mean nothing"
        lines = [
            "# Performance on a GPU",
            "",
            f"`make gpu` writes this page. Measured at {commit()}"
            f"{f', {head}' if rehearsal else ''}.",
            "",
            f"- Machine: {machine(self.scale)}, {os.cpu_count()} CPU cores, Python "
            f"{platform.python_version()}, torch {torch.__version__}.",
            f"- Goals: {GOALS}",
            "- Frames per second count everything from a decoded frame in the host's memory to its "
            "mask there. Videos are noise (synthetic), weights are random.",
            f"- {self.limit - self.left:.0f} s of {self.limit:.0f} s were used.",
            *(f"- {note}" for note in self.notes),
        ]
        for part in dict.fromkeys(row.part for row in self.rows):
            lines += ["", f"## {part}", "", "| what | figure | remark |", "|---|---|---|"]
            own = (row for row in self.rows if row.part == part)
            lines += [f"| {row.what} | {row.figure} | {row.remark} |" for row in own]
        write_text(self.path, "\n".join(lines) + "\n")
        content = {"machine": machine(self.scale), "rows": [asdict(row) for row in self.rows]}
        write_text(self.path.with_suffix(".json"), json.dumps(content, indent=1) + "\n")


def run(page: Page, only: list[str] | None) -> bool:
    """Run the parts that fit into the limit; return whether none failed."""
    fine = True
    for name, part in gpu_parts.PARTS.items():
        if only and name not in only:
            continue
        wanted = part.seconds if page.scale is FULL else 0
        if page.left < wanted:
            page.note(f"{name}: left out, {page.left:.0f} s are left and it takes about {wanted}.")
            continue
        rows: Iterator[Row] = part.measure(page.scale, page.started + page.limit)
        try:
            with contextlib.closing(rows):  # type: ignore[type-var]
                for row in rows:
                    page.add(row)
        except Exception as error:  # one that fails must not cost the others
            fine = False
            first = (str(error).splitlines() or [""])[0][:200]
            page.note(f"{name}: failed ({type(error).__name__}: {first})")
        if page.scale.device == "cuda":
            torch.cuda.empty_cache()
    page.write()
    return fine


def main() -> int:
    """Run the parts; the exit code is 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs/performance-gpu.md")
    parser.add_argument("--limit", type=float, default=480, help="seconds in all")
    parser.add_argument("--only", nargs="*", choices=list(gpu_parts.PARTS), default=None)
    parser.add_argument("--rehearse", action="store_true", help="small, on a CPU")
    options = parser.parse_args()
    if not options.rehearse and not torch.cuda.is_available():
        print("There is no GPU here, so nothing is measured. On a GPU this would run:")
        for name, part in gpu_parts.PARTS.items():
            print(f"  {name:9s} about {part.seconds:3d} s  {part.about}")
        print(f"and write {options.out}. `--rehearse` runs the same code on this CPU, small.")
        return 0
    if options.rehearse:
        torch.set_num_threads(1)
    page = Page(options.out, SMALL if options.rehearse else FULL, options.limit)
    fine = run(page, options.only)
    print(options.out)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
