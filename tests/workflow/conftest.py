"""A copy of the repository in which stages are stand-ins.

The workflow is what is tested here, not what the stages do.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import warm
from repository import copy_repository

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

# Writes every declared output with content that follows from the arguments alone. An output without
# a suffix is a folder. `noisyvos code` is the real one.
STAND_IN = """#!{python}
import sys
from pathlib import Path
words = sys.argv[1:]
if words[0] == "code":
    from noisyvos.cli import main
    main()
outputs = ["--out", "--inventory", "--manifest", "--summary", "--curve"]
outputs += ["--weights"] * (words[0] != "infer")
for option, value in zip(words, words[1:]):
    if option in outputs:
        path = Path(value)
        path = path if path.suffix else path / "content"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(words))
"""


@dataclass(frozen=True)
class Workspace:
    """A copy of the repository, and how commands run in it."""

    root: Path
    path: str

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command here and return it with its output; Snakemake and DVC start warm."""
        environment = {
            **os.environ,
            "PATH": f"{warm.tools()}{os.pathsep}{self.path}",
            "PYTHONPATH": str(self.root / "src"),
            "OMP_NUM_THREADS": "1",
        }
        environment |= {"CUDA_VISIBLE_DEVICES": "", "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )
        if check:
            assert done.returncode == 0, (
                f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            )
        return done

    def noisyvos(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the real command line, not the stand-in."""
        return self.run("real-noisyvos", *arguments, check=check)


REAL = """#!{python}
from noisyvos.cli import main
main()
"""


def copy_of_repository(base: Path, program: str) -> Workspace:
    """Return a copy of the repository with the grid of preset `smoke`; `program`: its noisyvos."""
    root, tools = base / "repository", base / "tools"
    root.mkdir()
    tools.mkdir()
    copy_repository(root)
    (tools / "noisyvos").write_text(program.format(python=sys.executable))
    (tools / "noisyvos").chmod(0o755)
    space = Workspace(
        root, os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    space.run("git", "init", "--quiet")
    space.noisyvos("grid", "--preset", "smoke")
    return space


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the repository with the grid of preset `smoke`, for fixture `workspace` to copy.

    Run once from end to end by Snakemake with stand-ins.
    """
    space = copy_of_repository(tmp_path_factory.mktemp("ran"), STAND_IN)
    space.run("snakemake", "--cores", "2", "--quiet")
    return space


@pytest.fixture(scope="module")
def workspace(ran: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which stand-ins have run preset `smoke`; it belongs to the module."""
    base = tmp_path_factory.mktemp("workflow")
    shutil.copytree(ran.root.parent, base, symlinks=True, dirs_exist_ok=True)
    return Workspace(base / ran.root.name, ran.path.replace(str(ran.root.parent), str(base)))


@pytest.fixture
def stand_ins(tmp_path: Path) -> Callable[[str], Workspace]:
    """Makes a copy of the repository in which nothing has run.

    Stages are stand-ins that first run the given lines.
    """
    head, body = STAND_IN.split("\n", 1)
    return lambda lines: copy_of_repository(
        tmp_path, "\n".join([head, lines.replace("{", "{{").replace("}", "}}"), body])
    )


@pytest.fixture(scope="module")
def bare_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same with the real command line; nothing has run."""
    return copy_of_repository(tmp_path_factory.mktemp("workflow"), REAL)


@pytest.fixture(scope="module")
def recorded(workspace: Workspace) -> Workspace:
    """The workspace after `noisyvos record`."""
    assert "recorded 28 of 28 cells" in workspace.noisyvos("record").stdout
    return workspace


# Is `noisyvos` for the jobs of a run. It writes down the modules whose functions a job calls.
TRACER = """import json, os, sys, threading, uuid
ROOT = os.path.realpath({package!r}) + os.sep
TRACKING = ROOT + "tracking" + os.sep  # what it calls only shows results
seen, other, importing = set(), set(), "<frozen importlib._bootstrap>"

def note(frame, event, argument):  # returns nothing: lines are not traced
    code = frame.f_code
    name = code.co_filename
    if name in seen or name in other:
        return
    if not (name.startswith(ROOT) and name.endswith(".py")):  # a template of the report is not ours
        other.add(name)
        return
    if not code.co_flags & 1:
        return  # without the flag it is the body of a module or class
    above = frame.f_back
    while above is not None:
        where = above.f_code.co_filename
        if where == importing or where.startswith(TRACKING):
            return  # only an import, or a call that feeds nothing back
        above = above.f_back
    seen.add(name)

sys.settrace(note)
threading.settrace(note)
try:
    from noisyvos.cli import main
    main()
finally:
    sys.settrace(None)
    modules = [name[len(ROOT):-3].replace(os.sep, ".") for name in sorted(seen)]
    with open(os.path.join({traces!r}, uuid.uuid4().hex), "w") as file:
        json.dump({{"command": sys.argv[1:], "modules": modules}}, file)
"""


@dataclass(frozen=True)
class Real:
    """A workspace after a run of `smoke`."""

    space: Workspace
    traces: Path  # what each of its jobs called, a file a job
    hashes: dict[str, str]  # by file, of what the run made


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    """A copy of the repository with the real command line, after a traced run of `smoke`."""
    traces, tools = tmp_path_factory.mktemp("traces"), tmp_path_factory.mktemp("tools")
    bare = copy_of_repository(tmp_path_factory.mktemp("real"), REAL)
    package, tool = bare.root / "src" / "noisyvos", tools / "noisyvos"
    warm.write(tool, TRACER.format(package=str(package), traces=str(traces)))
    space = replace(bare, path=os.pathsep.join([str(tools), bare.path]))
    space.run("snakemake", "--cores", "1")
    warm.write(tool, "from noisyvos.cli import main\nmain()\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        from kill import hashes
    return Real(space, traces, hashes(space.root, "smoke"))
