"""A copy of the repository in which stages are stand-ins.

The workflow is what is tested here, not what the stages do.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import warm
from repository import copy_repository

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


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the repository with the grid of preset `smoke`.

    Run once from end to end by Snakemake with stand-ins.
    """
    space = copy_of_repository(tmp_path_factory.mktemp("workflow"), STAND_IN)
    space.run("snakemake", "--cores", "2", "--quiet")
    return space


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
