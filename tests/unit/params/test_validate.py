"""Validation of the parameter files: every error is found, named and explained at once."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from noisyvos.errors import UserError
from noisyvos.params.entries import read_yaml
from noisyvos.params.validate import check, check_once
from noisyvos.pipeline.catalog import FAMILIES
from noisyvos.registry import Registry

PARAMS = Path(__file__).resolve().parents[3] / "params"


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A copy of the parameter files."""
    return Path(shutil.copytree(PARAMS, tmp_path / "params"))


def append(params: Path, file: str, text: str) -> None:
    path = params / file
    path.write_text(path.read_text() + text)


def test_the_files_here_are_valid() -> None:
    check(PARAMS)


BAD = {
    "unknown kind": (
        "noise.yaml",
        "x: {kind: dilat, q: 0.8}\n",
        "noise.yaml: x: Unknown kind 'dilat'. Did you mean 'dilate'?",
    ),
    "no kind": (
        "models.yaml",
        "x: {size: 3}\n",
        "An entry without `kind` has its name as kind.",
    ),
    "q above 1": (
        "noise.yaml",
        "x: {kind: dilate, q: 1.2}\n",
        "noise.yaml: x: q: Input should be less than or equal to 1",
    ),
    "q of 0": (
        "noise.yaml",
        "x: {kind: dilate, q: 0}\n",
        "noise.yaml: x: q: Input should be greater than 0",
    ),
    "unknown key": (
        "methods.yaml",
        "x: {kind: gce, temperature: 1}\n",
        "methods.yaml: x: temperature: Extra inputs are not permitted",
    ),
    "negative seed": (
        "sources.yaml",
        "x: {kind: shapes, seed: -1}\n",
        "sources.yaml: x: seed: Input should be greater than or equal to 0",
    ),
    "dash in a name": (
        "noise.yaml",
        "dilate-80: {kind: dilate, q: 0.8}\n",
        "the name 'dilate-80' may have only lower-case letters",
    ),
    "capitals in a name": (
        "methods.yaml",
        "GCE: {kind: gce}\n",
        "the name 'GCE' may have only lower-case letters",
    ),
    "no settings": ("train.yaml", "x: 3\n", "train.yaml: x: expected settings, got 3"),
    "no iterations": (
        "train.yaml",
        "x: {iterations: 0, learning_rate: 0.1}\n",
        "train.yaml: x: iterations: Input should be greater than or equal to 1",
    ),
    "unknown source": (
        "datasets.yaml",
        "x: {kind: folder, source: shape}\n",
        "datasets.yaml: x: Unknown source 'shape'. Did you mean",
    ),
    "unknown part of a mix": (
        "datasets.yaml",
        "x: {kind: mix, parts: [{dataset: davis17_trian}]}\n",
        "datasets.yaml: x: parts: Unknown dataset 'davis17_trian'. Did you mean 'davis17_train'?",
    ),
    "a mix of mixes": (
        "datasets.yaml",
        "x: {kind: mix, parts: [{dataset: tao_train_x5}]}\n",
        "datasets.yaml: x: parts: 'tao_train_x5' is a mix itself",
    ),
    "still images in a mix": (
        "datasets.yaml",
        "x: {kind: mix, parts: [{dataset: davis17_train}, {dataset: coco_train}]}\n",
        "datasets.yaml: x: parts: 'coco_train' holds still images, 'davis17_train' videos",
    ),
    "a mix of nothing": (
        "datasets.yaml",
        "x: {kind: mix, source: shapes}\n",
        "datasets.yaml: x: parts: expected a list",
    ),
    "a key twice": (
        "noise.yaml",
        "clean: {kind: clean}\n",
        "noise.yaml: the key 'clean' is given twice",
    ),
    "broken YAML": ("noise.yaml", "x: {kind: clean\n", "noise.yaml: this file is not valid YAML"),
    "unknown name in a preset": (
        "presets/smoke.yaml",
        "inference: defaults\n",
        "Unknown evaluation setting 'defaults'. Did you mean 'default'?",
    ),
    "unknown key in a preset": (
        "presets/smoke.yaml",
        "methods: [xmem]\n",
        "smoke.yaml: methods: Extra inputs are not permitted",
    ),
    "a protocol of a set that is not evaluated": (
        "presets/smoke.yaml",
        "protocols: {shapes_smoke_vall: visor}\n",
        "'shapes_smoke_vall' is not an evaluation set of this preset",
    ),
    "unknown protocol of a set": (
        "presets/smoke.yaml",
        "protocols: {shapes_smoke_val: davos}\n",
        "smoke.yaml: evaluate.shapes_smoke_val.protocol: Input should be 'davis'",
    ),
    "unknown protocol": (
        "presets/smoke.yaml",
        "protocol: davos\n",
        "smoke.yaml: evaluate.shapes_smoke_val.protocol: Input should be 'davis'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_parameters_are_explained(params: Path, case: str) -> None:
    file, text, message = BAD[case]
    append(params, file, text)
    with pytest.raises(UserError) as caught:
        check(params)
    assert message in str(caught.value)


def test_published_quirks_and_their_corrections_do_not_share_a_block(params: Path) -> None:
    preset = params / "presets" / "smoke.yaml"
    preset.write_text(preset.read_text().replace("[xmem, smart_unit]", "[xmem, smart_parity]"))
    with pytest.raises(
        UserError,
        match=r"smoke\.yaml: core: 'smart_parity' is as published .* and 'xmem' is corrected",
    ):
        check(params, settings=False)


def test_a_missing_file_is_named(params: Path) -> None:
    (params / "noise.yaml").unlink()
    with pytest.raises(UserError, match=r"noise\.yaml: no such parameter file"):
        check(params)


@pytest.mark.parametrize("family", ["noise", "datasets", "sources", "methods"])
@pytest.mark.parametrize("content", [b"x: {kind: clean\n", b"70: {}\n", b"x: \xe9\n"])
def test_one_broken_file_is_one_error(params: Path, family: str, content: bytes) -> None:
    (params / f"{family}.yaml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        check(params)
    assert str(caught.value).startswith("1 error in the parameter files:")
    assert len(str(caught.value).splitlines()) == 2
    assert f"{family}.yaml: " in str(caught.value)


def test_a_broken_entry_is_one_error_although_presets_use_it(params: Path) -> None:
    path = params / "methods.yaml"
    path.write_text(path.read_text().replace("\nxmem: {}\n", "\nxmem:\n"))
    with pytest.raises(
        UserError, match=r"^1 error in .*\n.*methods\.yaml: xmem: expected settings"
    ):
        check(params)


@pytest.mark.parametrize("value", ["nan", "inf", ".nan", "true"])
def test_a_share_is_a_finite_number(params: Path, value: str) -> None:
    append(params, "noise.yaml", f"x: {{kind: dilate, q: {value}}}\n")
    with pytest.raises(UserError, match=r"noise\.yaml"):
        check(params)


def test_all_errors_come_at_once(params: Path) -> None:
    append(params, "noise.yaml", "x: {kind: nothing_like_it}\n")
    append(params, "methods.yaml", "Bad-Name: {kind: gce}\n")
    append(params, "presets/smoke.yaml", "inference: fast\n")
    with pytest.raises(UserError) as caught:
        check(params)
    message = str(caught.value)
    assert "3 errors" in message
    assert all(part in message for part in ("nothing_like_it", "Bad-Name", "'fast'"))


def test_kinds_read_from_the_source_are_those_registered() -> None:
    for family in FAMILIES.values():
        registry = family.load()
        if isinstance(registry, Registry):
            assert tuple(family.kinds()) == registry.names(), family.file


def test_light_validation_imports_nothing_slow() -> None:
    code = (
        "import sys; from noisyvos.pipeline.grid import render; from pathlib import Path;"
        "render('demo', Path(sys.argv[1])); slow = ('torch', 'mlflow', 'cv2', 'pandas', 'scipy');"
        "print([name for name in slow if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(PARAMS)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_slow_part_runs_again_only_after_a_change(
    params: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr("noisyvos.params.validate.check", lambda folder: calls.append(folder))
    stamp = tmp_path / "scratch" / "checked"
    check_once(params, stamp)
    check_once(params, stamp)
    assert len(calls) == 1
    append(params, "noise.yaml", "x: {kind: dilate, q: 0.5}\n")
    check_once(params, stamp)
    assert len(calls) == 2


@pytest.mark.parametrize("entry", ["visor", 3, [1], True])
def test_an_evaluation_set_that_is_no_mapping_is_named(params: Path, entry: object) -> None:
    path = params / "presets/smoke.yaml"
    preset = read_yaml(path)
    preset["evaluate"] = {"shapes_smoke_val": entry}
    path.write_text(yaml.safe_dump(preset))
    with pytest.raises(UserError, match=r"smoke\.yaml: evaluate\.shapes_smoke_val: "):
        check(params)
