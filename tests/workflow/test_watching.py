"""A run with stand-ins, watched: the display, the log of runs, status, and what changed since."""

import json
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("agreement")  # tests that share fixture `ran`

KEY = "shapes_smoke_train-dilate70-smart_unit-xmem_tiny-s0"


def kinds_of(workspace: Any, cell: str) -> list[tuple[str, str]]:
    found = json.loads(workspace.noisyvos("why", cell, "--json").stdout)
    return [(change["job"], change["kind"]) for change in found["changes"]]


def test_a_run_prints_a_line_now_and_then(workspace: Any) -> None:
    done = workspace.run("snakemake", "--cores", "2", "--forcerun", "noise")
    said = done.stderr.splitlines()
    assert len(said) < 25
    assert any("jobs done" in line for line in said)
    assert "reason:" not in done.stderr


def test_status_after_a_run_is_all_done(workspace: Any) -> None:
    found = json.loads(workspace.noisyvos("status", "--json").stdout)
    assert found["totals"]["done"] == sum(found["totals"].values()) > 20
    assert found["run"]["ended"] > 0
    assert found["run"]["done"] == found["run"]["jobs"]
    done = found["totals"]["done"]
    assert f"preset smoke · {done} jobs: {done} done" in workspace.noisyvos("status").stdout


def test_a_failing_job_is_shown_at_once_and_in_status(workspace: Any) -> None:
    out = workspace.root / "runs" / "smoke" / "train" / KEY
    script = workspace.root.parent / "tools" / "noisyvos"
    text = script.read_text()
    broken = 'import sys\nif sys.argv[1] == "train": sys.exit("noisyvos: no memory is left")\n'
    (out / "weights.safetensors").unlink()
    target = f"runs/smoke/train/{KEY}/weights.safetensors"
    try:
        script.write_text(text.replace("import sys\n", broken, 1))
        done = workspace.run("snakemake", "--cores", "1", "--retries", "0", target, check=False)
        assert done.returncode != 0
        assert f"FAILED train@{KEY}" in done.stderr
        assert "noisyvos: no memory is left" in done.stderr
        found = json.loads(workspace.noisyvos("status", "--json").stdout)
        (job,) = [each for each in found["jobs"] if each["state"] == "failed"]
        assert (job["name"], job["said"]) == (f"train@{KEY}", "noisyvos: no memory is left")
    finally:
        script.write_text(text)
    workspace.run("snakemake", "--cores", "1", target)
    assert json.loads(workspace.noisyvos("status", "--json").stdout)["totals"]["failed"] == 0


def test_why_names_the_parameter_and_the_module(workspace: Any) -> None:
    assert kinds_of(workspace, KEY) == []
    methods = workspace.root / "params" / "methods.yaml"
    module = workspace.root / "src" / "noisyvos" / "noise" / "kinds" / "boundary.py"
    texts = {path: path.read_text() for path in (methods, module)}
    try:
        assert "smart_unit: {" in texts[methods]
        methods.write_text(
            texts[methods].replace("smart_unit: {", "smart_unit: {weights: {union: 0.5}, ", 1)
        )
        assert kinds_of(workspace, KEY) == [(f"train@{KEY}", "parameter")]
        methods.write_text(texts[methods])
        module.write_text(texts[module] + "\n\nUNUSED = 1\n")
        found = json.loads(workspace.noisyvos("why", KEY, "--json").stdout)["changes"]
        assert {change["what"] for change in found} == {"noisyvos.noise.kinds.boundary changed"}
        assert {change["job"] for change in found} == {"noise@shapes_smoke_train-dilate70-s0"}
    finally:
        for path, text in texts.items():
            path.write_text(text)


def test_trace_leads_to_the_raw_files(workspace: Any) -> None:
    found = json.loads(workspace.noisyvos("trace", KEY, "--no-mlflow", "--json").stdout)
    (cell,) = found["cells"]
    assert cell["steps"][0]["stage"] == "train"
    assert cell["steps"][-1]["stage"] == "generate"
    assert {"noise", "pretrain", "synth", "convert"} <= {step["stage"] for step in cell["steps"]}
    train = cell["steps"][0]
    assert train["parameters"]["params/methods.yaml"]["smart_unit"]
    assert all(len(out["sha256"]) == 64 for step in cell["steps"] for out in step["outputs"])
    said = workspace.noisyvos("trace", f"runs/smoke/train/{KEY}", "--no-mlflow").stdout
    assert len(said.splitlines()) < 45


def test_verify_runs_a_cell_again(workspace: Any) -> None:
    done = workspace.noisyvos("verify", "first_mask-shapes_smoke_val", check=False)
    # the outputs here were made by stand-ins, so the real command cannot read them
    assert done.returncode == 1
    assert "The second run of baseline@first_mask-shapes_smoke_val failed" in done.stderr
