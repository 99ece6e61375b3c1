"""The real preset `smoke`, run once, and what is asked of it.

The functions that its jobs call, a cell verified, its number traced, a method compared.
"""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from engines import closure_of, pipeline

from noisyvos.pipeline.code_deps import EXCLUDED, Code
from noisyvos.pipeline.source_facts import package_facts

TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "own-method.md"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.xdist_group("smoke")]

KEY = "shapes_smoke_train-dilate70-xmem-xmem_tiny-s0"


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "compare" not in path.parts and not path.name.startswith(".")
    }


def test_functions_that_a_real_run_calls_are_in_the_closures(real: Any) -> None:
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


def test_a_real_run_is_verified_traced_and_compared(real: Any, tmp_path: Path) -> None:
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
