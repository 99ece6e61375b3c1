"""The generated JSON schemas are fresh, and judge entries as the settings classes do."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from noisyvos.params.schemas import require_fresh, schemas
from noisyvos.pipeline.catalog import FAMILIES

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "params").glob("*.yaml")) + sorted((ROOT / "params/presets").glob("*.yaml"))
FILES = [path for path in FILES if path.name != "cells.yaml"]


@pytest.fixture(scope="module")
def made() -> dict[str, dict[str, Any]]:
    return schemas()


def problems(schema: dict[str, Any], content: Any) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema)
    return [error.message for error in validator.iter_errors(content)]


def test_the_committed_schemas_are_fresh() -> None:
    require_fresh(ROOT / "workflow" / "schemas")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_parameter_files_fit_their_schemas(path: Path, made: dict[str, Any]) -> None:
    family = path.stem if path.parent.name == "params" else "preset"
    assert problems(made[family], yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_parameter_files_name_their_schemas(path: Path) -> None:
    first, *_ = path.read_text().splitlines()
    mark, _, address = first.partition("=")
    assert mark == "# yaml-language-server: $schema"
    family = path.stem if path.parent.name == "params" else "preset"
    assert (path.parent / address).resolve() == ROOT / "workflow" / "schemas" / f"{family}.json"
    assert (path.parent / address).is_file()


def test_every_schema_is_valid(made: dict[str, Any]) -> None:
    assert set(made) == {*FAMILIES, "preset"}
    for schema in made.values():
        jsonschema.Draft202012Validator.check_schema(schema)


BAD = {
    "an unknown kind": ("noise", {"x": {"kind": "dilat", "q": 0.8}}),
    "a share above 1": ("noise", {"x": {"kind": "dilate", "q": 1.2}}),
    "the same in an entry named as its kind": ("noise", {"dilate": {"q": 1.2}}),
    "an unknown key": ("methods", {"gce": {"temperature": 1}}),
    "no kind": ("methods", {"own": {"q": 0.3}}),
    "a capital in a name": ("methods", {"GCE": {"kind": "gce"}}),
    "no settings": ("train", {"x": 3}),
    "a schedule of nothing": ("train", {"x": {"iterations": 0, "learning_rate": 0.1}}),
    "a preset without blocks": ("preset", {"title": "x"}),
}
GOOD = {
    "a kind by name": ("methods", {"gce": {"q": 0.3}}),
    "a kind by `kind`": ("methods", {"gce": {"kind": "sce", "alpha": 0.5}}),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_entry_is_marked(case: str, made: dict[str, Any]) -> None:
    family, content = BAD[case]
    assert problems(made[family], content)


@pytest.mark.parametrize("case", GOOD)
def test_a_right_entry_is_not_marked(case: str, made: dict[str, Any]) -> None:
    family, content = GOOD[case]
    assert problems(made[family], content) == []
