"""The generated reference is complete: every key has a meaning, and no meaning is left over."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from noisyvos.pipeline.catalog import FAMILIES

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The hook that writes the reference; skipped without what builds the site."""
    pytest.importorskip("latex2mathml", reason="the extra `docs` is not installed")
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_generate"] = module
    spec.loader.exec_module(module)
    return module


def test_every_key_has_a_meaning(generate: ModuleType) -> None:
    without = [
        f"{generate.short_name(kind)}.{key}"
        for kind in generate.settings_classes()
        for key in kind.model_fields
        if key not in generate.descriptions(kind)
    ]
    assert not without, "say it in Field(description=...)"


def test_every_family_has_a_page_with_its_entries_and_settings() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.glob("reference/*.md"))
    for family in FAMILIES:
        assert f"<!-- generated: settings:{family} -->" in text
        if family != "sources":
            assert f"<!-- generated: entries:{family} -->" in text


def test_settings_table_tells_type_bounds_default_and_meaning(generate: ModuleType) -> None:
    table = generate.part("settings:corruptions")
    assert "| `size` | integer (≥ 1, ≤ 1001) | **required** | Side of the window in pixels" in table
    noise = generate.part("settings:noise")
    assert "| `temporal` | `iid` \\| `ar1` \\| `persistent` | `iid` |" in noise


def test_command_section_tells_options(generate: ModuleType) -> None:
    text = generate.part("cli")
    assert "## `noisyvos convert visor`" in text
    assert "| `--keep-all`, `--keep-first-frame-only` |  | Objects to keep." in text
    assert "| `--video` | **required** | A movie file or a folder of frames." in text


def test_graph_leads_from_raw_data_to_the_report(generate: ModuleType) -> None:
    into = {name: generate.edges_into(name) for name in generate.pipeline()}
    assert set(into["convert"]) == {"generate", "download"}
    assert set(into["train"]) >= {"noise", "pretrain", "start", "start_from"}
    assert "score" in into["tables"]
    kept = generate.shortest(into_sets := {name: set(each) for name, each in into.items()})
    # they imply `convert`, `mix` and `start`
    assert kept["train"] == {"pretrain", "pretrain_live", "pretrain_videos"}
    assert kept["noise"] == {"convert", "link", "mix"}
    assert all(kept[name] <= into_sets[name] for name in kept)
    drawn = generate.part("dag")
    read = {each for before in into.values() for each in before}
    connected = {name for name in into if into[name] or name in read}
    assert drawn.count('class="stage"') == len(connected) >= 17
    assert drawn.count('class="edge"') == sum(len(each) for each in kept.values())
