"""Snakemake and DVC run the same commands on the same files and call the same cells stale."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from engines import (
    dvc_jobs,
    edited,
    snakemake_jobs,
    spelled_out,
    stale_in_dvc,
    stale_in_snakemake,
)

pytestmark = pytest.mark.xdist_group("agreement")


def test_every_job_has_the_command_inputs_and_outputs_of_its_stage(workspace: Any) -> None:
    snakemake, dvc = snakemake_jobs(workspace), dvc_jobs(workspace)
    outputs = set().union(*dvc)
    assert len(dvc) == 28
    assert set(snakemake) == set(dvc)
    for outs, (command, deps) in dvc.items():
        assert snakemake[outs] == (command, spelled_out(deps, outputs))


def test_recorded_run_is_clean_in_both(recorded: Any) -> None:
    workspace = recorded
    assert workspace.run("dvc", "status", "--json").stdout.strip() == "{}", "code included"
    assert "up to date" in workspace.run("dvc", "repro").stdout
    assert "Nothing to be done" in workspace.run("snakemake", "--dry-run").stdout


SMART = (
    "params/methods.yaml",
    "smart_unit: {kind: smart, preset: unit}",
    "smart_unit: {kind: smart, preset: unit, dice: 0.5}",
)
NOISE = (
    "params/noise.yaml",
    "dilate70: {kind: dilate, q: 0.7}",
    "dilate70: {kind: dilate, q: 0.65}",
)
SOURCE = ("src/noisyvos/methods/kinds/smart.py", "import torch\n", "import torch\n\n_EDIT = 1\n")
COMMENT = ("src/noisyvos/methods/kinds/smart.py", '"""SMART:', '# edited\n"""The SMART method:')
COMMAND = ("dvc.yaml", "score --for-report", "score --workers 1 --for-report")


def trained(names: set[str]) -> set[str]:
    """Return the training cells among job names, without what is common to all."""
    return {
        name.removeprefix("train@shapes_smoke_train-").removesuffix("-xmem_tiny-s0")
        for name in names
        if name.startswith("train@")
    }


def test_a_methods_weight_makes_its_own_cells_stale_in_both(recorded: Any) -> None:
    workspace = recorded
    with (
        edited(workspace, SMART),
        edited(workspace, ("params/methods.yaml", "gce: {}", "gce: {q: 0.5}")),
    ):
        stale = stale_in_dvc(workspace)
        assert trained(stale) == {"clean-smart_unit", "dilate70-smart_unit"}
        assert stale_in_snakemake(workspace) == stale
        said = workspace.noisyvos("record").stdout  # which must not bless what is stale
        assert "recorded 19 of 28 cells" in said
        assert stale_in_dvc(workspace) == stale
    assert (
        "adopted 28 of 28 cells" in workspace.noisyvos("adopt").stdout
    )  # the edit is taken back: all is as recorded


def test_source_and_command_edits_make_the_same_cells_stale_in_both(recorded: Any) -> None:
    workspace = recorded
    with edited(workspace, COMMENT):
        assert stale_in_dvc(workspace) == stale_in_snakemake(workspace) == set()
    with edited(workspace, SOURCE):
        stale = stale_in_dvc(workspace)
        assert trained(stale) == {"clean-smart_unit", "dilate70-smart_unit"}
        assert stale_in_snakemake(workspace) == stale
    with edited(workspace, COMMAND):
        stale = stale_in_dvc(workspace)
        assert len([name for name in stale if name.startswith("score@")]) == 6
        assert trained(stale) == set()
        assert stale_in_snakemake(workspace) == stale


def test_adopt_hands_over_exactly_what_dvc_verified(recorded: Any) -> None:
    workspace = recorded
    shutil.rmtree(workspace.root / ".snakemake" / "metadata")
    for path in (workspace.root / "data").rglob("*"):
        path.touch()  # as after a checkout: times say nothing
    assert "adopted 28 of 28 cells" in workspace.noisyvos("adopt").stdout
    with edited(workspace, NOISE):  # edits after the hand-over are seen
        stale = stale_in_dvc(workspace)
        assert trained(stale) == {"dilate70-xmem", "dilate70-smart_unit"}
        assert stale_in_snakemake(workspace) == stale
        assert "adopted 18 of 28 cells" in workspace.noisyvos("adopt").stdout


MIX = (
    "params/datasets.yaml",
    "# benchmarks at the published resolution",
    "toy_mix: {kind: mix, parts: [{dataset: shapes_smoke_train, repeat: 5}, {dataset: "
    "clips_train}]}\n",
)


DISTURBED = (
    "params/presets/smoke.yaml",
    "    seed: [0]",
    "    seed: [0]\n    prompts: [mix80, mix70]\n    corruptions: [blur9]",
)
BLUR = (
    "params/corruptions.yaml",
    "blur9: {kind: box_blur, size: 9}",
    "blur9: {kind: box_blur, size: 7}",
)


def test_a_mix_and_disturbed_inputs_wait_for_what_they_need_in_both(workspace: Any) -> None:
    from dvc.repo import Repo

    text = (workspace.root / "params/cells.yaml").read_text()
    preset = ("params/presets/smoke.yaml", "dataset: shapes_smoke_train", "dataset: toy_mix")
    try:
        with edited(workspace, MIX), edited(workspace, preset), edited(workspace, DISTURBED):
            workspace.noisyvos("grid", "--preset", "smoke")
            made = "data/converted/toy_mix"
            scored = [
                f"results/smoke/scores/disturbed/{name}-shapes_smoke_val"
                for name in ("first_mask", "toy_mix-clean-xmem-xmem_tiny-s0")
            ]
            workspace.run("snakemake", "--cores", "2", "--quiet", "all", "--", *scored)
            snakemake, dvc = snakemake_jobs(workspace, *scored), dvc_jobs(workspace)
            command, inputs = snakemake[frozenset({made})]
            assert inputs == {"data/converted/shapes_smoke_train", "data/converted/clips_train"}
            assert command.endswith("--raw data/converted --out data/converted/toy_mix")
            outputs = set().union(*dvc)
            # generate, download, four conversions, mix, clips, clean labels, two noisy prompts,
            # start, pretrain, train, twice infer and score
            assert len(snakemake) == 18
            for outs, job in snakemake.items():
                assert job == (dvc[outs][0], spelled_out(dvc[outs][1], outputs))
            noisy = [
                command
                for command, deps in snakemake.values()
                if "data/noisy/shapes_smoke_val-mix80-s0.zip" in deps
            ]
            assert [
                command.count("--disturb prompt_mix80=data/noisy/shapes_smoke_val-mix80-s0.zip")
                for command in noisy
            ] == [1, 1]
            assert sorted(command.count("corruption_blur9") for command in noisy) == [0, 1]
            trained = next(
                deps
                for outs, (command, deps) in dvc.items()
                if command.startswith("noisyvos train")
            )
            assert made in trained
            key = "toy_mix-clean-xmem-xmem_tiny-s0-shapes_smoke_val"
            before = stale_in_snakemake(workspace)
            assert f"infer_disturbed@{key}" not in before
            with edited(workspace, BLUR):
                assert stale_in_snakemake(workspace) - before == {
                    f"{stage}_disturbed@{key}" for stage in ("infer", "score")
                }, "a baseline sees no image"
            with Repo(str(workspace.root)) as repo:
                [tracked] = [
                    dep.params
                    for stage in repo.index.stages
                    if stage.name == f"infer_disturbed@{key}"
                    for dep in stage.deps
                    if dep.def_path == BLUR[0]
                ]
            assert set(tracked) == {"blur9"}
    finally:
        (workspace.root / "params/cells.yaml").write_text(text)


def test_stale_grid_is_refused_before_any_job(workspace: Any) -> None:
    with edited(workspace, ("params/presets/smoke.yaml", "seed: [0]", "seed: [0, 1]")):
        done = workspace.run("snakemake", "--dry-run", check=False)
    assert done.returncode != 0
    assert "noisyvos grid --preset smoke" in done.stdout + done.stderr


def test_wrong_parameters_are_refused_before_any_job(workspace: Any) -> None:
    with edited(workspace, (*NOISE[:2], "dilate70: {kind: dilate, q: 1.7}")):
        done = workspace.run("snakemake", "--dry-run", check=False)
    assert done.returncode != 0
    assert "noise.yaml: dilate70: q" in done.stdout + done.stderr


def test_declared_preset_is_dry_run_only(workspace: Any) -> None:
    text = (workspace.root / "params/cells.yaml").read_text()
    try:
        with edited(
            workspace, ("params/presets/smoke.yaml", "[xmem, smart_unit]", "[xmem, not_there_yet]")
        ):
            refused = workspace.noisyvos("grid", "--preset", "smoke", check=False)
            assert refused.returncode == 1
            assert "not_there_yet" in refused.stderr
            with edited(
                workspace,
                ("params/presets/smoke.yaml", "synthetic: true", "synthetic: true\ndeclared: true"),
            ):
                workspace.noisyvos("grid", "--preset", "smoke")
                assert "total" in workspace.run("snakemake", "--dry-run").stdout
                run = workspace.run("snakemake", "--cores", "1", check=False)
                assert run.returncode != 0
                assert "not_there_yet" in run.stdout + run.stderr
    finally:
        (workspace.root / "params/cells.yaml").write_text(text)


def test_snakemakes_stamp_is_hidden_from_dvc() -> None:
    ignored = (Path(__file__).resolve().parents[2] / ".dvcignore").read_text().splitlines()
    assert ".snakemake_timestamp" in ignored


def test_committed_grid_is_that_of_the_demo() -> None:
    from noisyvos.pipeline.grid import render

    params = Path(__file__).resolve().parents[2] / "params"
    assert (params / "cells.yaml").read_text() == render("demo", params)
