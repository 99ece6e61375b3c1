"""The sizes of networks in git are what torch counts; a changed network is counted anew."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from noisyvos.models.base import MODELS
from noisyvos.params.entries import read_family
from noisyvos.params.presets import read_preset
from noisyvos.pipeline import weight_sizes
from noisyvos.pipeline.estimate import describe

ROOT = Path(__file__).resolve().parents[3]
PRESETS = sorted(path.stem for path in (ROOT / "params/presets").glob("*.yaml"))
ENTRIES = read_family(ROOT / "params", "models")
SHIPPED = json.loads((ROOT / weight_sizes.SHIPPED).read_text())


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_size_in_git_is_that_of_the_network_on_the_cpu(name: str) -> None:
    entry = dict(ENTRIES[name])
    item = MODELS.get(entry.pop("kind"))
    state = item.build(item.validate(entry, name)).state_dict()
    assert SHIPPED[name]["bytes"] == sum(4 * value.numel() for value in state.values())


@pytest.mark.parametrize("preset", PRESETS)
def test_the_file_in_git_has_the_networks_of_each_preset(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Mapping[str, Any], model: str) -> int:
        pytest.fail(f"{model} has changed: run `noisyvos schema`")

    monkeypatch.setattr(weight_sizes, "weight_bytes", refuse)
    monkeypatch.setattr(weight_sizes, "COUNTED", Path("absent.json"))
    models = {
        model
        for block in read_preset(ROOT / "params", preset).blocks.values()
        for model in block.model
    }
    sizes = weight_sizes.weight_sizes(models, ENTRIES, ROOT)
    assert sizes == {model: SHIPPED[model]["bytes"] for model in models}


def test_a_plan_in_a_fresh_clone_imports_no_torch(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / weight_sizes.SHIPPED).parent.mkdir()
    shutil.copy(ROOT / weight_sizes.SHIPPED, tmp_path / weight_sizes.SHIPPED)
    code = (
        "import sys; from pathlib import Path; from noisyvos.pipeline.estimate import describe;"
        "print(describe('paper', Path('params'))); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "disk: weights about 301 GB" in done.stdout


def test_a_plan_counts_a_network_once_and_again_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = Path(shutil.copytree(ROOT / "params", tmp_path / "params"))
    counted: list[str] = []
    count = weight_sizes.weight_bytes

    def counting(entry: Mapping[str, Any], model: str) -> int:
        counted.append(model)
        return count(entry, model)

    monkeypatch.setattr(weight_sizes, "weight_bytes", counting)
    first = describe("smoke", params)
    assert describe("smoke", params) == first
    assert counted == ["xmem_tiny"]
    models = params / "models.yaml"
    models.write_text(models.read_text().replace("xmem_tiny: {}", "xmem_tiny: {key_stage: early}"))
    assert describe("smoke", params) != first, "its keys have other weights"
    assert counted == ["xmem_tiny"] * 2
    (tmp_path / weight_sizes.COUNTED).write_text("{ cut")
    describe("smoke", params)
    assert counted == ["xmem_tiny"] * 3


@pytest.mark.parametrize("text", ["{ cut", "[]", '{"xmem_tiny": 3}', '{"xmem_tiny": {"of": "a"}}'])
def test_a_damaged_file_in_git_counts_as_absent(tmp_path: Path, text: str) -> None:
    (tmp_path / "workflow").mkdir()
    (tmp_path / weight_sizes.SHIPPED).write_text(text)
    sizes = weight_sizes.weight_sizes(["xmem_tiny"], ENTRIES, tmp_path)
    assert sizes == {"xmem_tiny": SHIPPED["xmem_tiny"]["bytes"]}


def test_a_changed_size_in_git_changes_the_plan(tmp_path: Path) -> None:
    params = Path(shutil.copytree(ROOT / "params", tmp_path / "params"))
    rows = SHIPPED | {"xmem_tiny": SHIPPED["xmem_tiny"] | {"bytes": 9_000_000_000}}
    (tmp_path / "workflow").mkdir()
    (tmp_path / weight_sizes.SHIPPED).write_text(json.dumps(rows))
    assert "about 27 GB of checkpoint" in describe("smoke", params)
