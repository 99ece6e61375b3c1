"""The size of the code, and how many files a reader meets on the way through one training.

`python benchmarks/structure.py [--source DIR]` counts the modules of a tree. With `-- ARGUMENTS` it
also runs `noisyvos ARGUMENTS` (a short training) and counts the files whose functions were called.
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


def called(package: Path, arguments: list[str]) -> list[str]:
    """Run `noisyvos` with these arguments and return the modules whose functions were called."""
    from noisyvos.cli import app

    prefix, found = str(package), set()

    def note(frame, event, _):
        code, caller = frame.f_code, frame.f_back
        if event != "call" or not code.co_filename.startswith(prefix):
            return
        runs_at_import = caller is not None and not caller.f_code.co_flags & inspect.CO_OPTIMIZED
        if (
            code.co_flags & inspect.CO_OPTIMIZED and not runs_at_import
        ):  # no bodies of modules, classes
            found.add(code.co_filename)

    sys.setprofile(note)
    threading.setprofile(note)
    try:
        app(arguments, standalone_mode=False)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return sorted(Path(name).relative_to(package).as_posix() for name in found)


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
        files = called(package, options.command)
        print(f"files of one training {len(files)}")
        print("\n".join(f"  {name}" for name in files))


if __name__ == "__main__":
    main()
