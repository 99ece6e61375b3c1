"""Differences, sweeps, ranks, recovery and the A/A control over a small grid of made-up scores."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from noisyvos.analysis.comparison import comparisons
from noisyvos.analysis.families import ScoreTables
from noisyvos.analysis.questions.controls import control_notes, control_table
from noisyvos.analysis.questions.differences import difference_notes, difference_table
from noisyvos.analysis.questions.sweeps import degradation_table, ranking_table, recovery_table
from noisyvos.analysis.results import Results, sweep_name
from noisyvos.analysis.statistics.multiple import area_weights, slope_weights
from noisyvos.params.presets import Block, read_preset

NOISES = {"clean": ("clean", 1.0), "dilate80": ("dilate", 0.8), "dilate60": ("dilate", 0.6)}
PARAMS = Path(__file__).parents[3] / "params"


def made_up(
    effects: dict[str, list[float]],
    *,
    seeds: int = 3,
    videos: int = 12,
    spread: float = 0.0,
    absent: tuple[str, ...] = (),
) -> Results:
    """Scores of methods at NOISES: base + effect (points) + noise of `spread` between seeds;
    `absent` keys have no scores.
    """
    source = np.random.default_rng(0)
    base = source.uniform(50, 80, videos)
    train, score, tables = {}, {}, []
    for (noise, (kind, q)), place in zip(NOISES.items(), range(3), strict=True):
        for method, effect in effects.items():
            for seed in range(seeds):
                key = f"d-{noise}-{method}-m-s{seed}"
                train[key] = {
                    "dataset": "d",
                    "noise": noise,
                    "method": method,
                    "model": "m",
                    "seed": seed,
                    "blocks": ["core"],
                }
                score[f"{key}-val"] = {
                    "role": "trained",
                    "evaluation": "val",
                    "train_key": key,
                } | train[key]
                values = (
                    base
                    + effect[place]
                    + spread * source.normal()
                    + spread * source.normal(size=videos)
                ) / 100
                facts = {
                    "key": f"{key}-val",
                    "role": "trained",
                    "evaluation": "val",
                    "kind": kind,
                    "q_achieved": q,
                    "object": 1,
                }
                names = [f"v{index:02d}" for index in range(videos)]
                tables.append(
                    pd.DataFrame(
                        {
                            **facts,
                            "method": method,
                            "seed": seed,
                            "noise_seed": seed,
                            "sequence": names,
                            "JF": values,
                        }
                    )
                )
    preset = {"name": "p", "synthetic": True, "references": {"core": "plain"}}
    results = Results({"preset": preset, "train": train, "score": score}, Path(), Path(), Path())
    rows = pd.concat(tables, ignore_index=True)
    missing = [f"{key}-val" for key in absent]
    results.__dict__.update(objects=rows[~rows["key"].isin(missing)], missing=missing)
    return results


def grid(effects: dict[str, list[float]], **settings: Any) -> ScoreTables:
    """The scores of `made_up`."""
    return ScoreTables(made_up(effects, **settings), "val")


TWO = {"plain": [0.0, -10, -20], "robust": [0.0, -5, -20]}


def test_differences_are_to_the_reference_in_points() -> None:
    table = difference_table(grid(TWO)).set_index("noise")
    assert list(table.index) == list(NOISES)
    assert table["difference"].tolist() == pytest.approx([0, 5, 0])
    assert (table["reference"] == "plain").all()
    assert table.loc["dilate80", "p_sign_flip"] == 2 / 2**12
    assert table.loc["dilate80", "p_holm"] == 3 * 2 / 2**12
    assert table.loc["dilate80", "verdict"] == "higher"


def test_equal_methods_are_said_to_be_equal_only_within_the_margin() -> None:
    same = {"plain": [0.0, 0, 0], "robust": [0.0, 0, 0]}
    assert set(difference_table(grid(same))["verdict"]) == {
        "no difference shown; equal within 0.5 points"
    }
    assert set(difference_table(grid(same, spread=5))["verdict"]) == {"no difference shown"}


def test_missing_cells_are_shown_and_too_many_withhold_every_p() -> None:
    gone = tuple(f"d-dilate60-robust-m-s{seed}" for seed in range(3))
    table = difference_table(grid(TWO, absent=gone)).set_index("noise")
    assert table.loc["dilate60", "verdict"] == "missing"
    assert math.isnan(table.loc["dilate60", "difference"])
    assert table.loc["dilate80", "difference"] == pytest.approx(5)
    assert table[["p_sign_flip", "p_holm", "p_wilcoxon", "p_equivalence"]].isna().all(axis=None)
    assert any(
        "17 % of the cells of block core are missing and no p value is printed" in note
        for note in difference_notes(table)
    )


def test_p_is_printed_up_to_five_percent_missing_and_not_beyond() -> None:
    """Nine methods, three noises, three seeds: 81 cells, of which 4 (4.9 %) may be missing and 5
    (6.2 %) may not.
    """
    nine = {"plain": [0.0, -10, -20]} | {f"m{index}": [0.0, -9, -18] for index in range(8)}
    for count, printed in ((4, True), (5, False)):
        gone = tuple(f"d-dilate60-m{index}-m-s0" for index in range(count))
        table = difference_table(grid(nine, absent=gone))
        rest = table[table["seeds"] == 3]
        assert rest["p_sign_flip"].notna().all() == rest["p_holm"].notna().all() == printed
        assert table["difference"].notna().all(), "differences stay, only p values are withheld"


def test_cells_of_another_schedule_are_never_compared() -> None:
    """The reference is scored under another schedule too, where it would make the difference 25
    instead of 5.
    """
    results = made_up(TWO)
    other = made_up({"plain": [-20.0, -30, -40]})
    for name in ("train", "score"):
        for key, cell in other.cells[name].items():
            changed = {**cell, "schedule": "short"} | (
                {"train_key": f"x{cell['train_key']}"} if name == "score" else {}
            )
            results.cells[name][f"x{key}"] = changed
    rows = other.objects.assign(key="x" + other.objects["key"])
    results.__dict__["objects"] = pd.concat([results.objects, rows], ignore_index=True)
    table = difference_table(ScoreTables(results, "val"))
    assert table[table["schedule"] == ""]["difference"].tolist() == pytest.approx([0, 5, 0])
    assert len(table) == 3, "the short schedule has the reference alone: nothing to compare"
    assert degradation_table(ScoreTables(results, "val")).groupby("schedule").size().to_dict() == {
        "": 2,
        "short": 1,
    }


def test_slopes_and_areas_of_a_grid_by_hand() -> None:
    """No spread: losses 10 and 20 at noise 0.2 and 0.4 give area 10 and -5 points for each 0.1;
    losses 5 and 20 give 7.5 and -5.
    """
    table = degradation_table(grid(TWO)).set_index("method")
    assert table["area"].to_dict() == pytest.approx({"plain": 10, "robust": 7.5})
    assert table["slope"].to_dict() == pytest.approx({"plain": -5, "robust": -5})
    assert table[["area_low", "area_high"]].loc["robust"].tolist() == pytest.approx([7.5, 7.5])


def test_few_missing_cells_leave_the_other_seeds() -> None:
    wide = {f"m{index}": [0.0, -10, -20] for index in range(8)}
    table = difference_table(
        grid({"plain": [0.0, -10, -20]} | wide, absent=("d-dilate80-m3-m-s1",))
    )
    row = table[(table["noise"] == "dilate80") & (table["method"] == "m3")].iloc[0]
    assert (row["seeds"], row["planned_seeds"]) == (2, 3)
    assert not math.isnan(row["p_sign_flip"])


def test_area_and_slope_by_hand() -> None:
    """Losses 0, 10, 20 at noise 0, 0.2, 0.4: mean loss 10, slope -50 a unit, -5 for each 0.1."""
    scores, noise = np.array([70.0, 60, 50]), np.array([0.0, 0.2, 0.4])
    assert area_weights(noise) @ scores == pytest.approx(10)
    assert slope_weights(noise) @ scores == pytest.approx(-50)
    shuffled = [0, 2, 1]
    assert area_weights(noise[shuffled]) @ scores[shuffled] == pytest.approx(10)
    uneven = np.array([0.0, 0.1, 0.4])
    assert area_weights(uneven) @ scores == pytest.approx((0.1 * 5 + 0.3 * 15) / 0.4)
    assert slope_weights(uneven) @ scores == pytest.approx(np.polyfit(uneven, scores, 1)[0])


@pytest.mark.parametrize(
    ("noise", "kind", "sweep"),
    [
        ("dilate80", "dilate", "dilate"),
        ("dilate70_ar1", "dilate", "dilate_ar1"),
        ("morph_d_i3", "morph", "morph_d_i"),
        ("dilate_alpha30_beta50", "dilate", "dilate_alpha_beta50"),
        ("coco_n_hard", "coco_n", "coco_n"),
        ("clean", "clean", "clean"),
    ],
)
def test_levels_of_one_sweep_differ_in_the_first_number_only(
    noise: str, kind: str, sweep: str
) -> None:
    assert sweep_name(noise, kind) == sweep


def test_degradation_of_a_grid_has_intervals_and_shows_what_is_missing() -> None:
    table = degradation_table(grid(TWO, spread=1.0)).set_index("method")
    assert table.loc["plain", "area"] == pytest.approx(10, abs=1.5)
    assert (
        table.loc["plain", "area_low"]
        < table.loc["plain", "area"]
        < table.loc["plain", "area_high"]
    )
    assert table.loc["robust", "area"] < table.loc["plain", "area"]
    gone = tuple(f"d-clean-robust-m-s{seed}" for seed in range(3))
    table = degradation_table(grid(TWO, absent=gone)).set_index("method")
    assert math.isnan(table.loc["robust", "area"])
    assert table.loc["plain", "area"] == pytest.approx(10)


def test_recovery_is_the_share_of_the_loss_and_suppressed_without_a_loss() -> None:
    table = recovery_table(grid(TWO)).set_index("noise")
    assert table["recovery"].tolist() == pytest.approx([0.5, 0])
    small = recovery_table(grid({"plain": [0.0, -0.9, -1.1], "robust": [0.0, 0, 0]})).set_index(
        "noise"
    )
    assert math.isnan(small.loc["dilate80", "recovery"])
    assert small.loc["dilate60", "recovery"] == pytest.approx(1)


def test_ranking_uses_conditions_that_all_methods_have() -> None:
    effects = {"plain": [0.0, -10, -20], "robust": [-1.0, -5, -10], "worse": [-2.0, -20, -30]}
    table = ranking_table(grid(effects)).set_index("method")
    assert table["rank"].to_dict() == pytest.approx({"plain": 5 / 3, "robust": 4 / 3, "worse": 3})
    gone = tuple(f"d-clean-worse-m-s{seed}" for seed in range(3))
    table = ranking_table(grid(effects, absent=gone)).set_index("method")
    assert table["conditions"].tolist() == [2, 2, 2]
    assert table["p_friedman"].isna().all()


def test_the_control_finds_a_test_that_takes_seeds_for_methods() -> None:
    calm = control_table(grid({"plain": [0.0, 0, 0]}, seeds=6))
    assert len(calm) == 30
    assert all("control passed" in note for note in control_notes(calm))
    wild = made_up({"plain": [0.0, 0, 0]}, seeds=6)
    shift = wild.objects["seed"].map({0: 0.05, 1: 0.05, 2: 0.05}).fillna(0)
    wild.__dict__["objects"] = wild.objects.assign(JF=wild.objects["JF"] + shift)
    assert all(
        "control failed" in note for note in control_notes(control_table(ScoreTables(wild, "val")))
    )


def test_a_grid_gives_tables_marked_synthetic_and_one_method_gives_no_differences() -> None:
    found = comparisons(made_up(TWO), "val")
    assert set(found) == {"differences", "sweeps", "hypotheses"}
    assert all(
        "(synthetic)" in view.caption for comparison in found.values() for view in comparison.views
    )
    assert set(found["sweeps"].numbers["measure"]) >= {
        "area",
        "slope",
        "rank",
        "recovery",
        "gap",
        "critical_difference",
    }
    alone = comparisons(made_up({"plain": [0.0, -1, -2]}), "val")
    assert set(alone) == {"sweeps", "hypotheses"}


def test_the_reference_is_the_blocks_own_or_the_presets_or_the_first() -> None:
    block = Block(model=("m",), noise=("clean",), method=("a", "b"), seed=(0,))
    assert block.compared_with(None) == "a"
    assert block.compared_with("b") == "b"
    assert block.compared_with("elsewhere") == "a"
    assert block.model_copy(update={"reference": "b"}).compared_with("a") == "b"
    assert read_preset(PARAMS, "controls").blocks["same_method"].seed == (0, 1, 2, 3, 4, 5)
