"""The real preset `smoke`, run once, and what is asked of it.

The functions that its jobs call, a cell verified, its number traced, a method compared.
"""

import csv
import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import warm
from engines import closure_of, pipeline

from noisyvos.pipeline.code_deps import EXCLUDED, Code
from noisyvos.pipeline.source_facts import package_facts

TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "own-method.md"
KEY = "shapes_smoke_train-dilate70-xmem-xmem_tiny-s0"


# Is `noisyvos` for the jobs of the run. It writes down the modules whose functions a job calls.
TRACER = """import json, os, sys, threading, uuid
ROOT = os.path.realpath({package!r}) + os.sep
TRACKING = ROOT + "tracking" + os.sep  # what it calls only shows results
seen, importing = set(), "<frozen importlib._bootstrap>"

def note(frame, event, argument):
    code = frame.f_code
    name = code.co_filename
    ours = name.startswith(ROOT) and name.endswith(".py")  # not a template of the report
    if event != "call" or name in seen or not ours or not code.co_flags & 1:
        return  # without the flag it is the body of a module or class
    above = frame.f_back
    while above is not None:
        where = above.f_code.co_filename
        if where == importing or where.startswith(TRACKING):
            return  # only an import, or a call that feeds nothing back
        above = above.f_back
    seen.add(name)

sys.setprofile(note)
threading.setprofile(note)
try:
    from noisyvos.cli import main
    main()
finally:
    sys.setprofile(None)
    modules = [name[len(ROOT):-3].replace(os.sep, ".") for name in sorted(seen)]
    with open(os.path.join({traces!r}, uuid.uuid4().hex), "w") as file:
        json.dump({{"command": sys.argv[1:], "modules": modules}}, file)
"""


@dataclass(frozen=True)
class Real:
    """A workspace after a run of `smoke`, and the folder of what each of its jobs called."""

    space: Any
    traces: Path


@pytest.fixture(scope="module")
def real(bare_workspace: Any, tmp_path_factory: pytest.TempPathFactory) -> Real:
    """The workspace with the real command line in place of stand-ins, after a run of `smoke`."""
    traces, tools = tmp_path_factory.mktemp("traces"), tmp_path_factory.mktemp("tools")
    package, tool = bare_workspace.root / "src" / "noisyvos", tools / "noisyvos"
    warm.write(tool, TRACER.format(package=str(package), traces=str(traces)))
    space = replace(bare_workspace, path=os.pathsep.join([str(tools), bare_workspace.path]))
    space.run("snakemake", "--cores", "1")
    warm.write(tool, "from noisyvos.cli import main\nmain()\n")
    return Real(space, traces)


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "compare" not in path.parts and not path.name.startswith(".")
    }


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_functions_that_a_real_run_calls_are_in_the_closures(real: Real) -> None:
    """Every module of which a job called a function is in the closure of the job."""
    workspace = real.space
    package = workspace.root / "src" / "noisyvos"
    current = pipeline(workspace)
    code = Code(package_facts(package), package)
    jobs = {job.command: job for job in current}
    checked = set()
    for file in real.traces.iterdir():
        found = json.loads(file.read_text())
        job = jobs[" ".join(["noisyvos", *found["command"]])]
        checked.add(job.name)
        called = {f"noisyvos.{name}".removesuffix(".__init__") for name in found["modules"]}
        counted = {
            name
            for name in called
            if not any(name == other or name.startswith(f"{other}.") for other in EXCLUDED)
        }
        assert counted, job.name
        missed = counted - closure_of(job, code, workspace.root / "params")
        assert not missed, f"{job.name} calls {sorted(missed)}, which its closure lacks"
    assert checked == {job.name for job in current}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_real_run_is_verified_traced_and_compared(real: Real, tmp_path: Path) -> None:
    space = real.space
    # verify: a training and a scored cell repeat byte by byte
    for cell, count in ((KEY, 3), (f"{KEY}-shapes_smoke_val", 2)):
        said = space.noisyvos("verify", cell).stdout
        assert f"{count} of {count} outputs equal" in said

    # trace: the number of the score table leads to the cell
    results = space.root / "results" / "smoke"
    with (results / "tables" / "scores-shapes_smoke_val.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["noise"] == "dilate70"]
    number = next(f"{100 * float(row['JF']):.4f}" for row in rows if row["line"] == "xmem")
    told = json.loads(space.noisyvos("trace", number, "--json").stdout)
    assert f"{KEY}-shapes_smoke_val" in told["place"]["cells"]
    (cell,) = [each for each in told["cells"] if each["cell"] == f"{KEY}-shapes_smoke_val"]
    assert cell["mlflow"]["experiment"] == "grid/smoke"
    assert cell["changes"] == []

    # compare: the tutorial's method from a folder outside, with everything else left alone
    found = re.search(r"```python\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    mine = tmp_path / "my method.py"
    mine.write_text(found[1])
    before = bytes_below(results), bytes_below(space.root / "params")
    compare = ("compare", str(mine), "--preset", "smoke", "--cores", "1")
    said = space.noisyvos(*compare).stdout
    assert "| focal |" in said
    for noise in ("clean", "dilate70"):
        for other in ("xmem", "smart_unit"):
            assert f"| {noise} | focal − {other} |" in said
    folder = results / "compare" / "focal"
    assert (folder / "figures" / "noise-curves-shapes_smoke_val.png").is_file()
    assert "focal" in (folder / "report.html").read_text(encoding="utf-8")
    with (folder / "tables" / "scores-shapes_smoke_val.csv").open() as lines:
        assert {"xmem", "smart_unit", "focal"} <= {row["line"] for row in csv.DictReader(lines)}
    assert (bytes_below(results), bytes_below(space.root / "params")) == before
    assert "Nothing to be done" in space.run("snakemake", "--cores", "1").stderr

    # a second call trains nothing
    again = space.noisyvos(*compare)
    assert "Nothing to be done" in again.stderr
