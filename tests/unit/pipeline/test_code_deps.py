"""Computed code dependencies: closures are complete, and hashes change with code only."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from noisyvos.params.entries import read_family
from noisyvos.pipeline import code_deps
from noisyvos.pipeline.code_deps import EXCLUDED, STAGES, Code, code, code_hash
from noisyvos.pipeline.source_facts import package_facts, read_facts
from noisyvos.registry import Registry

PARAMS = Path(__file__).resolve().parents[3] / "params"

TEXT = '''"""What it is."""
from typing import TYPE_CHECKING
from noisyvos.io import images
if TYPE_CHECKING:
    from noisyvos.report import page


def double(x: int) -> int:
    """Return twice x."""
    from ..noise import base  # here, since it is slow

    return 2 * x
'''


def test_a_digest_changes_with_code_only() -> None:
    before = read_facts(TEXT, "noisyvos.synth.new").digest
    for same in (
        TEXT.replace("What it is", "Something else"),
        TEXT.replace("Return twice x", "Say 2 x"),
        TEXT.replace("# here, since it is slow", "# why"),
        TEXT.replace("\n\n\n", "\n\n\n\n# a comment\n"),
        TEXT.replace('    """Return twice x."""\n', ""),
        TEXT.replace("2 * x", "(2 * x)"),
    ):
        assert same != TEXT
        assert read_facts(same, "noisyvos.synth.new").digest == before
    for other in (
        TEXT.replace("2 * x", "3 * x"),
        TEXT.replace("2 * x", "2.0 * x"),
        TEXT.replace("2 * x", "x * 2"),
        TEXT.replace("double", "twice"),
        TEXT.replace("x: int", "x: int = 0"),
    ):
        assert read_facts(other, "noisyvos.synth.new").digest != before


def test_a_description_of_a_setting_changes_no_digest() -> None:
    def digest(field: str) -> str:
        text = TEXT + f"\n\nclass Some:\n    x: int = {field}\n"
        return read_facts(text, "noisyvos.synth.new").digest

    assert digest('Field(1, ge=0, description="A.")') == digest("Field(1, ge=0)")
    assert digest("Field(1, ge=0)") != digest("Field(2, ge=0)")
    assert digest('other(1, description="A.")') != digest("other(1)")


def test_imports_are_found_in_functions_but_not_for_types_only() -> None:
    found = read_facts(TEXT, "noisyvos.synth.new").imports
    assert {"noisyvos.io.images", "noisyvos.noise.base"} <= set(found)
    assert not [name for name in found if "report" in name]


def kinds_of(modules: frozenset[str]) -> set[str]:
    """Return the modules among `modules` that are in a package of kinds."""
    return {name for name in modules if ".kinds." in name}


KINDS_OF_DATASETS = "noisyvos.datasets.kinds."


def test_a_closure_holds_only_the_kinds_that_a_cell_uses() -> None:
    found = code()
    assert kinds_of(found.entry("methods", "smart", {"kind": "smart"})) == {
        "noisyvos.methods.kinds.smart"
    }
    network = found.entry("models", "stm_tiny", {"kind": "stm_tiny"})
    assert "noisyvos.models.stm.tiny" in network
    assert not [name for name in network if "xmem" in name or "rhmnet" in name]
    for stage in ("train", "infer", "noise"):
        chosen = [code_deps.FAMILIES[family].package for family in STAGES[stage][1].families]
        reached = [
            name
            for name in found.stage(stage)
            if found.facts[name].registers and any(name.startswith(f"{own}.") for own in chosen)
        ]
        assert not reached, f"{stage} depends on kinds that its cell may not use"
        converting = [name for name in found.stage(stage) if name.startswith(KINDS_OF_DATASETS)]
        assert not converting, f"{stage} reads converted data and depends on no conversion"


def test_a_kind_that_builds_another_depends_on_it() -> None:
    def inner(**settings: Any) -> set[str]:
        entry = {"kind": "oracle_clean", **settings}
        names = kinds_of(code().entry("methods", "oracle", entry))
        return {name.rpartition(".")[2] for name in names}

    assert inner() == {"oracle", "cross_entropy"}
    assert inner(method="gce") == {"oracle", "robust"}


@pytest.mark.parametrize("family", ["methods", "models"])
def test_everything_looked_up_while_building_is_in_the_closure(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from noisyvos import methods, models

    seen: list[str] = []
    get = Registry.get

    def spy(self: Registry, name: str) -> Any:
        item = get(self, name)
        seen.append(item.module)
        return item

    monkeypatch.setattr(Registry, "get", spy)
    found = code()
    for name, entry in read_family(PARAMS, family).items():
        seen.clear()
        kind, settings = entry.get("kind", name), {k: v for k, v in entry.items() if k != "kind"}
        if family == "methods":
            methods.from_settings(kind, settings, 100)
        elif "tiny" in kind:  # the others are large; none looks anything up
            models.build(kind, **settings)
        assert set(seen) <= found.entry(family, name, entry), name


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_imports_at_once_is_in_its_closure(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"noisyvos.stages.{STAGES[stage][0]}"
    script = f"import sys, {module}; print(*(n for n in sys.modules if n.startswith('noisyvos')))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    monkeypatch.setattr(code_deps, "EXCLUDED", ())
    assert set(loaded) <= code().stage(stage)


def test_exclusions_name_modules_that_exist() -> None:
    known = set(package_facts()) | {"noisyvos.__init__"}
    assert set(EXCLUDED) <= known


def test_every_stage_of_dvc_yaml_has_its_closure() -> None:
    for stage, (module, about) in STAGES.items():
        assert f"noisyvos.stages.{module}" in code().stage(stage)
        assert not set(about.families) & set(about.unused)


def test_excluded_code_changes_no_hash_and_other_code_changes_exactly_its_own() -> None:
    facts = package_facts()
    before, closures = {}, {}
    found = code()
    for stage in STAGES:
        closures[stage] = found.stage(stage)
        before[stage] = found.hash(closures[stage])
    for module in facts:
        changed = Code({**facts, module: replace(facts[module], digest="changed")})
        stale = {stage for stage in STAGES if changed.hash(changed.stage(stage)) != before[stage]}
        assert stale == {stage for stage in STAGES if module in closures[stage]}, module
        if module.partition(".")[2].split(".")[0] in ("cli", "report", "analysis", "tracking"):
            assert not stale - {"tables", "figures", "report"}, module


def test_a_template_is_a_dependency_of_the_report_alone(tmp_path: Path) -> None:
    found = code()
    owners = {
        name
        for name in found.facts
        if "report.html.j2" in {path.name for path in found.data_files(name)}
    }
    assert owners, "report.html.j2 belongs to the module that renders it"
    holding = {stage for stage in STAGES if owners & found.stage(stage)}
    assert holding == {"report"}


def test_hash_of_a_training_follows_its_own_method(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {"models": {"kind": "xmem_tiny"}, "methods": {"kind": "smart"}}
    before = code_hash("train", entries)
    facts = package_facts()
    for module, same in (
        ("noisyvos.methods.kinds.smart", False),
        ("noisyvos.io.masks", False),
        ("noisyvos.methods.kinds.robust", True),
        ("noisyvos.training.monitor", True),
        ("noisyvos.models.stm.network", True),
    ):
        changed = {**facts, module: replace(facts[module], digest="changed")}
        monkeypatch.setattr(code_deps, "package_facts", lambda changed=changed: changed)
        assert (code_hash("train", entries) == before) is same, module


def test_code_file_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / code_deps.CODE_FILE
    table = code_deps.refresh(path, PARAMS)
    time = path.stat().st_mtime_ns
    assert code_deps.refresh(path, PARAMS) == table
    assert path.stat().st_mtime_ns == time
    assert set(table["stages"]) == set(STAGES)
    assert set(table["methods"]) == set(read_family(PARAMS, "methods"))
