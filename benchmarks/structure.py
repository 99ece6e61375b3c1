"""The size of the code, and how many files a reader meets on the way through one training.

`python benchmarks/structure.py [--source DIR]` counts the modules of a tree. With `-- ARGUMENTS` it
also runs `noisyvos ARGUMENTS` (a short training of this tree) and counts the files whose functions
were called: by the whole command, and by the iterations alone, from the batch to the curve.
"""

import argparse
import inspect
import statistics
import sys
import threading
from pathlib import Path


def sizes(package: Path) -> dict[str, int]:
    """Return the number of lines of every module below `package`."""
    return {
        path.relative_to(package).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted(package.rglob("*.py"))
    }


def called(package: Path, arguments: list[str]) -> tuple[list[str], list[str]]:
    """Run `noisyvos` with these arguments and return the modules whose functions were called.

    The first list is of the whole command. The second is of what runs between the first call of
    `take_step` and the end of the training loop.
    """
    from noisyvos.cli import app

    prefix = str(package)
    first, last = str(package / "training/step.py"), str(package / "training/monitor.py")
    found: tuple[set[str], set[str]] = (set(), set())
    iterating = False

    def note(frame, event, _):
        nonlocal iterating
        code, caller = frame.f_code, frame.f_back
        if event != "call" or not code.co_filename.startswith(prefix):
            return
        if code.co_filename == first and code.co_name == "take_step":
            iterating = True
        if code.co_filename == last and code.co_name == "close":
            iterating = False
        runs_at_import = caller is not None and not caller.f_code.co_flags & inspect.CO_OPTIMIZED
        if (
            code.co_flags & inspect.CO_OPTIMIZED and not runs_at_import
        ):  # no bodies of modules, classes
            found[0].add(code.co_filename)
            if iterating:
                found[1].add(code.co_filename)

    sys.setprofile(note)
    threading.setprofile(note)
    try:
        app(arguments, standalone_mode=False)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    whole, loop = (
        sorted(Path(name).relative_to(package).as_posix() for name in names) for names in found
    )
    return whole, loop


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=Path(__file__).resolve().parents[1] / "src")
    parser.add_argument("command", nargs="*", help="arguments of noisyvos, after --")
    options = parser.parse_args()
    package = options.source.resolve() / "noisyvos"
    lines = sizes(package)
    filled = {name: count for name, count in lines.items() if not name.endswith("__init__.py")}
    largest = max(lines, key=lines.get)
    print(f"modules              {len(lines)}")
    print(f"lines                {sum(lines.values())}")
    print(f"median module        {statistics.median(lines.values()):.0f}")
    print(f"median, no __init__  {statistics.median(filled.values()):.0f}")
    print(f"largest module       {lines[largest]} ({largest})")
    if options.command:
        sys.path.insert(0, str(options.source.resolve()))
        whole, loop = called(package, options.command)
        print(f"files of the iterations {len(loop)}, of the whole command {len(whole)}")
        print("\n".join(f"  {'iteration' if name in loop else '':9}  {name}" for name in whole))


if __name__ == "__main__":
    main()
