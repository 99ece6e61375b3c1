"""The pre-registered hypotheses on planted scores whose answer is known by hand."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from noisyvos.analysis.comparison import comparisons
from noisyvos.analysis.families import ScoreTables
from noisyvos.analysis.questions.hypotheses import (
    hypothesis_notes,
    hypothesis_table,
    hypothesis_view,
)
from noisyvos.analysis.registered import HYPOTHESES, MEANING
from noisyvos.analysis.results import Results
from noisyvos.analysis.statistics.paired import sign_flip_below
from noisyvos.errors import UserError
from noisyvos.params.presets import Preset, read_preset
from noisyvos.pipeline.grid import Catalogue, expand

PARAMS = Path(__file__).resolve().parents[3] / "params"
VIDEOS = 30
Effect = Callable[[str, str], float]  # (label noise, method) -> points


@functools.cache
def cells(preset: str) -> dict[str, Any]:
    """The grid of a preset."""
    return expand(read_preset(PARAMS, preset), Catalogue(PARAMS))


def planted(
    effect: Effect,
    *,
    grid: dict[str, Any] | None = None,
    absent: tuple[str, ...] = (),
    by_seed: dict[int, float] | None = None,
    iou: dict[str, float] | None = None,
) -> ScoreTables:
    """Scores of a grid (default: preset `hypotheses`): 60 points + effect + what a seed adds, the
    same in every video.
    """
    return ScoreTables(
        results(effect, grid or cells("hypotheses"), absent, by_seed or {}, iou or {}), "shapes_val"
    )


def results(
    effect: Effect,
    grid: dict[str, Any],
    absent: tuple[str, ...],
    by_seed: dict[int, float],
    iou: dict[str, float],
) -> Results:
    """The results behind `planted`."""
    tables, missing = [], []
    for key, cell in grid["score"].items():
        if cell["role"] != "trained":
            continue
        if key.startswith(absent) if absent else False:
            missing.append(key)
            continue
        kind, q = MEANING.get(cell["noise"], (cell["noise"], 0.7))
        value = (
            60
            + effect(cell["noise"], cell["method"])
            + by_seed.get(cell["seed"], 0.0) * (cell["method"] == "smart_unit")
        )
        facts = {
            "key": key,
            "role": "trained",
            "evaluation": "shapes_val",
            "kind": kind,
            "q_achieved": iou.get(cell["noise"], q),
        }
        facts |= {
            "noise": cell["noise"],
            "method": cell["method"],
            "seed": cell["seed"],
            "noise_seed": cell["seed"],
            "object": 1,
        }
        tables.append(
            pd.DataFrame(
                {
                    **facts,
                    "sequence": [f"v{index:02d}" for index in range(VIDEOS)],
                    "JF": value / 100,
                }
            )
        )
    found = Results(
        {"preset": {"name": "p", "synthetic": True}} | {s: grid[s] for s in ("train", "score")},
        Path(),
        Path(),
        Path(),
    )
    found.__dict__.update(objects=pd.concat(tables, ignore_index=True), missing=missing)
    return found


def main_rows(scores: ScoreTables) -> pd.DataFrame:
    """The row of every claim."""
    table = hypothesis_table(scores)
    return table[table["role"] == "main"].set_index("hypothesis")


def as_claimed(noise: str, method: str) -> float:
    """Scores under which every claim holds, by amounts that the test below works out."""
    lost = 1 - MEANING[noise][1]
    value = -20 * lost - (5 if noise.endswith("_persistent") else 0)
    if method == "smart_unit":
        value += 2
    if method == "smart_released":
        value += 3 if noise == "dilate70" else 1
    if method in ("gce", "sce", "apl") and noise.startswith("mix"):
        value += 4
    if method == "ce_plain":
        value += 10 * lost
    return value - (10 * lost if method == "xmem" else 0)


def test_all_claims_hold_where_they_were_planted() -> None:
    """By hand: H1 2 + 10 x 0.25; H2 3 - 1; H3 -10 x 0.25; H4 (10 + 10) x 0.1 for each 0.1 of IoU;
    H5 5.
    """
    table = main_rows(planted(as_claimed))
    assert table["value"].to_dict() == pytest.approx(
        {"H1": 4.5, "H2": 2.0, "H3": -2.5, "H4": 2.0, "H5": 5.0}
    )
    assert set(table["verdict"]) == {"supported"}
    assert table["p"].tolist() == pytest.approx([1 / 10_001] * 5, abs=2e-4)
    assert table["p_holm"].max() == pytest.approx(5 / 10_001, abs=1e-3)
    assert set(table["tests"]) == {5}
    for bound in ("low", "high", "sequences_low", "seeds_high"):
        assert table[bound].to_numpy() == pytest.approx(table["value"].to_numpy()), (
            "no spread was planted"
        )


def test_nothing_is_claimed_where_nothing_differs() -> None:
    """All methods alike at every noise: no difference, so p = 1; H3 claims no gain, and that is
    what there is.
    """
    table = main_rows(planted(lambda noise, method: -30 * (1 - MEANING[noise][1])))
    assert table["value"].tolist() == pytest.approx([0] * 5)
    assert table.loc[["H1", "H2", "H4", "H5"], "p"].tolist() == [1] * 4
    assert (
        table.loc[["H1", "H2", "H4", "H5"], "verdict"] == "not shown: the interval covers 0"
    ).all()
    assert table.loc["H3", "verdict"] == "supported"


def test_the_other_way_round_contradicts() -> None:
    def reverse(noise: str, method: str) -> float:
        extra = {
            "smart_unit": -3.0,
            "gce": 2.0,
            "sce": 2.0,
            "apl": 2.0,
            "xmem": 10 * (1 - MEANING[noise][1]),
        }.get(method, 0.0)
        return (
            extra
            + (3 if noise.endswith("_persistent") else 0)
            - (2 if (noise, method) == ("dilate70", "smart_released") else 0)
        )

    table = main_rows(planted(reverse))
    assert all(text.startswith("contradicted") for text in table["verdict"])
    assert table.loc["H3", "p"] == 1


def test_the_slope_is_on_the_noise_that_labels_really_had() -> None:
    """ce_plain gains 10 points a unit of lost IoU: halving what mix70 lost changes the slope as
    least squares says.
    """
    scores = planted(
        lambda noise, method: 1.0 * (method == "ce_plain" and noise == "mix70"),
        iou={"mix70": 0.715},
    )
    names = [place[0] for place in HYPOTHESES[3].main.places[::2]]
    lost = np.array([1 - (0.715 if name == "mix70" else MEANING[name][1]) for name in names])
    gains = np.array([1.0 * (name == "mix70") for name in names])
    assert main_rows(scores).loc["H4", "value"] == pytest.approx(
        0.1 * np.polyfit(lost, gains, 1)[0]
    )


def test_h1_always_stands_beside_the_method_without_dice() -> None:
    table = hypothesis_table(planted(as_claimed))
    rows = table[table["hypothesis"] == "H1"]
    assert rows["contrast"].tolist() == [
        "smart_unit − xmem",
        "smart_unit − ce_topp (both without dice)",
    ]
    assert rows["value"].tolist() == pytest.approx([4.5, 2.0])
    assert rows["verdict"].tolist() == ["supported", ""]
    assert rows["p_holm"].notna().tolist() == [True, False], (
        "only registered claims are in the family of Holm"
    )
    shown = hypothesis_view(table)
    assert shown.loc["H1", "contrast"].tolist()[1].startswith("beside: smart_unit − ce_topp")


def test_seeds_that_disagree_show_nothing() -> None:
    table = main_rows(planted(lambda noise, method: 0.0, by_seed={0: 6.0, 1: -6.0, 2: 1.0}))
    assert table.loc["H1", "sequences_low"] == pytest.approx(1 / 3), "the videos agree"
    assert table.loc["H1", "low"] < 0 < table.loc["H1", "high"]
    assert table.loc["H1", "verdict"] == "not shown: the interval covers 0"


@pytest.mark.parametrize("preset", ["demo", "sweep"])
def test_cells_that_are_not_in_the_grid_are_named_and_nothing_stands_in(preset: str) -> None:
    table = main_rows(planted(lambda noise, method: 0.0, grid=cells(preset)))
    assert set(table["verdict"]) == {"not in this grid"}
    assert table["value"].isna().all()
    assert "smart_unit at dilate70" in table.loc["H1", "lacks"]
    if preset == "demo":  # it has smart_released: not what H1 names
        assert "smart_unit at dilate80" in table.loc["H1", "lacks"]
    shown = hypothesis_view(
        hypothesis_table(planted(lambda noise, method: 0.0, grid=cells(preset)))
    )
    assert (
        shown["verdict"].str.match(r"not in this grid: (?:[^;]+; ){2}[^;]+ and \d+ more").any()
    ), "short enough to read"


def test_holm_is_over_the_hypotheses_that_are_evaluated() -> None:
    values = read_preset(PARAMS, "hypotheses").model_dump()
    values["blocks"] = {name: values["blocks"][name] for name in ("h1", "h5")}
    table = main_rows(planted(as_claimed, grid=expand(Preset(**values), Catalogue(PARAMS))))
    assert table["tests"].to_dict() == {"H1": 2, "H2": 0, "H3": 0, "H4": 0, "H5": 2}
    assert (table["status"] == "not in this grid").to_dict() == {
        "H1": False,
        "H2": True,
        "H3": True,
        "H4": True,
        "H5": False,
    }
    assert table.loc[["H1", "H5"], "p_holm"].tolist() == pytest.approx(
        [2 * p for p in table.loc[["H1", "H5"], "p"]]
    )


def test_missing_runs_are_not_filled_in_and_withhold_p() -> None:
    one = ("shapes_train-erode70-smart_released-xmem_tiny_fine-s1",)
    table = main_rows(planted(as_claimed, absent=one))
    assert (table.loc["H2", "seeds"], table.loc["H2", "value"]) == (2, pytest.approx(2.0))
    assert table.loc["H2", "lacks"] == "1 of 12 runs are not scored; no p value"
    assert math.isnan(table.loc["H2", "p"])
    assert table.loc["H2", "verdict"] == "as claimed, no p value"
    assert set(table["tests"]) == {4}
    whole = tuple(
        f"shapes_train-erode70-smart_released-xmem_tiny_fine-s{seed}" for seed in range(3)
    )
    row = main_rows(planted(as_claimed, absent=whole)).loc["H2"]
    assert (row["verdict"], row["lacks"]) == ("missing", "3 of 12 runs are not scored")


def test_labels_that_only_bear_the_name_are_refused() -> None:
    table = main_rows(planted(as_claimed, iou={"dilate80": 0.65}))
    assert table.loc["H1", "verdict"] == "not in this grid"
    assert table.loc["H1", "lacks"] == "dilate80 is dilate at IoU 0.65 here, not dilate at 0.80"
    assert table.loc["H2", "verdict"] == "supported"


def test_cells_of_other_networks_are_never_pooled() -> None:
    values = read_preset(PARAMS, "hypotheses").model_dump()
    values["blocks"]["h2"]["model"] = (
        "stm_tiny",
    )  # smart_released is only trained with it, ce_topp with both
    table = main_rows(planted(as_claimed, grid=expand(Preset(**values), Catalogue(PARAMS))))
    assert table.loc["H2", "model"] == "stm_tiny"
    assert table.loc["H1", "model"] == "xmem_tiny_fine"


def test_other_objects_are_refused() -> None:
    found = results(as_claimed, cells("hypotheses"), (), {}, {})
    rows = found.objects
    odd = (rows["noise"] == "mix70") & (rows["method"] == "xmem") & (rows["sequence"] == "v03")
    assert odd.sum() == 3
    found.__dict__["objects"] = rows[~odd]
    with pytest.raises(UserError, match="different objects"):
        hypothesis_table(ScoreTables(found, "shapes_val"))


def test_the_report_has_the_section_and_says_that_it_is_a_rehearsal() -> None:
    found = results(as_claimed, cells("hypotheses"), (), {}, {})
    name, comparison = next(iter(comparisons(found, "shapes_val").items()))
    assert name == "hypotheses"
    (view,) = comparison.views
    assert "(synthetic)" in view.caption
    assert any("rehearsal" in note for note in view.notes)
    assert any("5 of 5 hypotheses" in note for note in view.notes)
    assert any("anti-conservative" in note for note in view.notes)
    assert view.notes[-1] == "Everything else in this report is exploratory."
    empty = hypothesis_notes(
        hypothesis_table(planted(as_claimed, grid=cells("demo"))), "shapes_val"
    )
    assert empty[-1] == "None can be tested here: the grid lacks their cells."


def test_the_full_grid_has_the_cells_of_every_hypothesis() -> None:
    planned = {
        (cell["noise"], cell["method"])
        for cell in cells("paper")["train"].values()
        if cell["model"] == "xmem"
    }
    for hypothesis in HYPOTHESES:
        for contrast in hypothesis.contrasts:
            assert set(contrast.places) <= planned, hypothesis.name


def test_weights_of_every_contrast_cancel() -> None:
    """What all cells share, a video's difficulty say, must drop out."""
    noise = {name: 1 - q for name, (_, q) in MEANING.items()}
    for hypothesis in HYPOTHESES:
        for contrast in hypothesis.contrasts:
            weights = contrast.weigh(noise)
            assert set(weights) == set(contrast.places)
            assert sum(weights.values()) == pytest.approx(0, abs=1e-12)


def test_one_sided_flips_by_hand() -> None:
    """Three videos at -1, -1, -1 less a margin of 0: of the 7 other patterns none is as low, so p
    = 1/8; at the margin itself p = 1.
    """
    sums, counts = np.array([-1.0, -1, -1]), np.ones(3)
    assert sign_flip_below(sums, counts, 0.0) == 1 / 8
    assert sign_flip_below(-sums, counts, 0.0) == 1.0
    assert sign_flip_below(np.array([2.0, 1.0]), np.array([4.0, 2.0]), 0.5) == 1.0
