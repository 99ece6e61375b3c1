"""Scores against values that the official tools gave for the same masks."""

import json
import math
from pathlib import Path

import pytest

from noisyvos.metrics import score

STATISTICS = ("J_mean", "J_recall", "J_decay", "F_mean", "F_recall", "F_decay")


def folders(shared: Path, group: str, name: str) -> tuple[Path, Path]:
    root = shared / "data" / "osvos-masks" / (f"cases/{name}" if group == "cases" else group)
    return root / "results", root / "Annotations" / "480p"


@pytest.fixture(scope="module")
def expected(shared: Path) -> dict:
    return json.loads((shared / "parity" / "scoring.json").read_text())["sets"]


def assert_close(found: float, wanted: float | str) -> None:
    wanted = float(wanted)
    assert math.isnan(found) if math.isnan(wanted) else abs(found - wanted) < 1e-9


def check(shared: Path, group: str, name: str, protocol: str, wanted: dict) -> None:
    """Compare every frame, object and total of one root, or see it refused by name."""
    if "error" in wanted:
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            score(*folders(shared, group, name), protocol)
        assert name in str(caught.value)
        assert "0000" in str(caught.value)  # the frame
        return
    result = score(*folders(shared, group, name), protocol, decay="official")
    assert [f"{item.sequence}_{item.object}" for item in result.items] == list(wanted["objects"])
    for item, (_, _, row) in zip(result.items, result.object_rows(), strict=True):
        values = wanted["objects"][f"{item.sequence}_{item.object}"]
        assert item.region.tolist() == pytest.approx(values["J"], abs=1e-12, rel=0)
        assert item.boundary.tolist() == pytest.approx(values["F"], abs=1e-12, rel=0)
        for found, key in zip(row, STATISTICS, strict=True):
            assert_close(found, values[key])
    for key, value in wanted["global"].items():
        assert_close(result.means[key], value)


@pytest.mark.parametrize("protocol", ["davis", "visor"])
def test_drawn_cases(shared: Path, expected: dict, protocol: str) -> None:
    assert len(expected["cases"]) == 51
    for name, modes in expected["cases"].items():
        check(shared, "cases", name, protocol, modes[protocol])


@pytest.mark.parametrize("protocol", ["davis", "visor"])
@pytest.mark.parametrize("group", ["main", "real"])
def test_real_masks(shared: Path, expected: dict, group: str, protocol: str) -> None:
    check(shared, group, group, protocol, expected[group][group][protocol])


@pytest.mark.parametrize("group", ["main", "real"])
def test_csv_files_of_the_official_tool(shared: Path, group: str) -> None:
    files = score(*folders(shared, group, group)).csv_files("val")
    for name in ("global_results-val.csv", "per-sequence_results-val.csv"):
        assert (
            files[name].encode() == (shared / "parity" / "scoring_csv" / group / name).read_bytes()
        )


def test_decay_of_a_long_sequence_is_right_unless_the_bug_is_asked_for(shared: Path) -> None:
    both = folders(shared, "cases", "length_300_decay_uint8_wrap")
    assert math.isnan(score(*both, decay="official").means["J-Decay"])
    result = score(*both)
    values = result.items[0].region
    assert result.means["J-Decay"] == pytest.approx(
        values[:75].mean() - values[223:].mean(), abs=1e-12
    )


def test_options(shared: Path) -> None:
    """What is refused by default and read when asked for."""
    result = score(*folders(shared, "cases", "bad_binary_0_255_gt"), binary=True)
    assert [item.object for item in result.items] == [1]
    assert score(
        *folders(shared, "cases", "bad_missing_sequence"), skip_missing=True
    ).skipped_sequences == ("other",)
    assert len(score(*folders(shared, "cases", "bad_extra_id"), ignore_extra_ids=True).items) == 2
    assert len(score(*folders(shared, "cases", "bad_pred_255"), ignore_extra_ids=True).items) == 2
    late = score(*folders(shared, "cases", "late_object_pred_with_it"), "youtube_vos")
    counts = {item.object: len(item.frames) for item in late.items}
    assert counts[1] == 11
    assert 0 < counts[3] < 11
