"""Run every benchmark, one after the other on an otherwise idle machine, and write what they print to one page.

    python benchmarks/run.py --out docs/performance.md [--material FOLDER] [--only scoring synth ...]

Each prints ratios measured within its own run: against a named peer, or against a floor such as decoding the same files.
Those that need real masks take them from `--material`, a folder with osvos-masks/, and are left out, visibly, without it.
"""

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def commands(material: Path) -> dict[str, tuple[list[str], bool]]:
    """Return for each benchmark its command and whether it can run here."""
    masks = material / "osvos-masks"
    folders = [str(masks / "main/results"), str(masks / "real/Annotations/480p")]
    return {
        "scoring": (["scoring.py", "--masks", str(masks)], masks.is_dir()),
        "noise": (["noise.py", *folders], masks.is_dir()),
        "synth": (["synth.py"], True),
        "overhead": (["overhead.py"], True),
        "stm": (["stm.py"], True),
        "afb_urr": (["afb_urr.py"], True),
        "smart_step": (["smart_step.py"], True),
    }


def run(name: str, command: list[str]) -> tuple[str, bool]:
    """Return the page section of one benchmark and whether it reached its bars."""
    script, *arguments = command
    print(f"{name} ...", flush=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, str(HERE / script), *arguments], capture_output=True, text=True, env=environment)
    text = done.stdout.strip() or done.stderr.strip()
    shown = " ".join(["python", f"benchmarks/{script}", *(Path(a).name if os.sep in a else a for a in arguments)])
    outcome = "" if done.returncode == 0 else f"\n\nEnded with exit code {done.returncode}: a bar was missed, or the run failed."
    return f"## {name}\n\n`{shown}`\n\n```\n{text}\n```{outcome}\n", done.returncode == 0


def processor() -> str:
    """Return the processor's name as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> int:
    """Run the chosen benchmarks and write the page; the exit code is 1 if one missed its bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--material", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", default=None)
    options = parser.parse_args()
    sections, fine = [], True
    for name, (command, possible) in commands(options.material).items():
        if options.only and name not in options.only:
            continue
        if not possible:
            sections.append(f"## {name}\n\nNot run: it needs real masks (`--material`).\n")
            continue
        section, good = run(name, command)
        sections.append(section)
        fine = fine and good
    head = (
        "# Performance\n\nWritten by `make bench`. Ratios are measured within one run, on the same inputs and with equal outputs; "
        f"seconds are CPU seconds of one thread. Processor: {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}.\n\n"
    )
    options.out.write_text(head + "\n".join(sections), encoding="utf-8")
    print(options.out)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
