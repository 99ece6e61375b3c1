"""Grid files: what both engines read, and the choice of another preset."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from noisyvos.errors import UserError
from noisyvos.pipeline import cells, grid

PARAMS = Path(__file__).resolve().parents[3] / "params"


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A copy of the parameter files."""
    return Path(shutil.copytree(PARAMS, tmp_path / "params"))


def test_grid_is_written_once_and_checked(params: Path) -> None:
    cells.write("smoke", params)
    before = (params / "cells.yaml").stat().st_mtime_ns
    cells.write("smoke", params)
    assert (params / "cells.yaml").stat().st_mtime_ns == before
    cells.require_fresh(params)
    preset = params / "presets" / "smoke.yaml"
    preset.write_text(preset.read_text().replace("seed: [0]", "seed: [0, 1]"))
    with pytest.raises(UserError, match="noisyvos grid --preset smoke"):
        cells.require_fresh(params)


def test_unknown_preset_changes_nothing(params: Path) -> None:
    before = (params / "cells.yaml").read_bytes()
    with pytest.raises(UserError, match=r"Unknown preset 'demmo'. Did you mean 'demo'\?"):
        cells.write("demmo", params)
    assert (params / "cells.yaml").read_bytes() == before


@pytest.mark.parametrize("text", ["", "[]", "preset: {name: x}", yaml.safe_dump({"train": {}})])
def test_a_file_that_is_no_grid_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "cells.yaml").write_text(text)
    with pytest.raises(UserError, match="not a generated grid"):
        cells.read_cells(tmp_path / "cells.yaml")


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_another_preset_leaves_the_tree_clean(params: Path) -> None:
    cells.write("demo", params)
    (params.parent / ".gitignore").write_text("/scratch/\n")
    git(params.parent, "init", "--quiet")
    git(params.parent, "add", ".")
    git(params.parent, "commit", "--quiet", "-m", "start")
    cells.write("smoke", params)
    assert cells.active_preset(params) == "smoke"
    assert git(params.parent, "status", "--porcelain") == ""
    cells.write("demo", params)
    assert cells.active_preset(params) == "demo"
    assert git(params.parent, "status", "--porcelain") == ""
    path = params / "cells.yaml"
    path.write_text(path.read_text() + "# edited\n")
    assert "cells.yaml" in git(params.parent, "status", "--porcelain"), "nothing is hidden now"


def test_a_preset_may_be_chosen_without_writing_the_grid(params: Path) -> None:
    cells.write("smoke", params)
    before = (params / "cells.yaml").read_bytes()
    demo = cells.load_cells(params, "demo")
    assert len(demo["train"]) == 16
    assert cells.cells_file(params, "smoke") == cells.cells_file(params) == params / "cells.yaml"
    other = cells.cells_file(params, "demo")
    assert cells.read_cells(other) == demo
    assert (params / "cells.yaml").read_bytes() == before
    assert len(cells.load_cells(params)["train"]) == 4


def test_the_cache_follows_every_parameter_file(params: Path) -> None:
    first = cells.load_cells(params, "smoke")
    assert cells.load_cells(params, "smoke") == first
    preset = params / "presets" / "smoke.yaml"
    preset.write_text(preset.read_text().replace("seed: [0]", "seed: [0, 1]"))
    assert len(cells.load_cells(params, "smoke")["train"]) == 8
    store = params.parent / "scratch" / "grids" / "smoke.json"
    store.write_text(store.read_text()[:100])
    assert len(cells.load_cells(params, "smoke")["train"]) == 8


@pytest.mark.parametrize("preset", ["smoke", "demo", "clips"])
def test_a_grid_file_holds_the_grid(preset: str) -> None:
    made = grid.build(preset, PARAMS)
    text = grid.text_of(made)
    assert yaml.safe_load(text) == cells._quick(text) == made


@pytest.mark.parametrize("key", ["no", "y", "1e3", "12", "a-b", "null"])
def test_keys_are_text_in_yaml(key: str) -> None:
    made: dict[str, Any] = {"preset": {"name": "x"}} | {stage: {} for stage in grid.STAGES}
    made["noise"] = {key: {"noise": key}}
    text = grid.text_of(made)
    assert yaml.safe_load(text)["noise"] == cells._quick(text)["noise"] == {key: {"noise": key}}


def test_other_yaml_is_left_to_the_yaml_reader(tmp_path: Path) -> None:
    path = tmp_path / "cells.yaml"
    path.write_text("preset:\n  name: x\ntrain:\n  a:\n    seed: 0\n")
    assert cells._quick(path.read_text()) is None
    assert cells.read_cells(path) == {"preset": {"name": "x"}, "train": {"a": {"seed": 0}}}


def test_a_block_is_tracked_for_any_preset(params: Path) -> None:
    path, key = params / "cells.yaml", "shapes_smoke_train-clean-xmem-xmem_tiny-s0"
    cells.write("demo", params)
    assert cells.tracked_block(path, "smoke", key) == "", "the preset has one block"
    assert cells.tracked_block(path, "gone", key) == "", "tracking must not stop a stage"
    made = cells.load_cells(params, "paper")
    key, cell = next(iter(made["train"].items()))
    assert cells.tracked_block(path, "paper", key) == cell["blocks"][0] == cell["block"]
    alone = cells.load_cells(params, "smoke")["train"]
    assert {cell["block"] for cell in alone.values()} == {"smoke"}, "its experiment is grid/smoke"
