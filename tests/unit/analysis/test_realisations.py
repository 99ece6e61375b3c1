"""Noise seeds of their own: the cells they make, and the two spreads that they tell apart."""

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from noisyvos.analysis.comparison import comparisons
from noisyvos.analysis.questions.realisations import (
    pooled_spread,
    realisation_notes,
    realisation_table,
)
from noisyvos.analysis.results import Results
from noisyvos.params.presets import Block, Preset, read_preset
from noisyvos.pipeline.grid import Catalogue, expand

PARAMS = Path(__file__).resolve().parents[3] / "params"


def smoke_cells(**changes: object) -> dict:
    """The cells of preset `smoke` with another block."""
    values = read_preset(PARAMS, "smoke").model_dump()
    values["blocks"]["core"] |= changes
    return expand(Preset(**values), Catalogue(PARAMS))


def test_a_noise_seed_of_its_own_names_other_labels_and_nothing_else_changes() -> None:
    before, after = smoke_cells(), smoke_cells(noise_seed=(0, 1, 2))
    added = [key for key in after["train"] if key not in before["train"]]
    assert added == [
        f"shapes_smoke_train-dilate70-{method}-xmem_tiny-s0-n{n}"
        for method in ("xmem", "smart_unit")
        for n in (1, 2)
    ]
    assert all(after["train"][key] == cell for key, cell in before["train"].items())
    cell = after["train"]["shapes_smoke_train-dilate70-xmem-xmem_tiny-s0-n2"]
    assert (cell["seed"], cell["noise_seed"], cell["noise_key"]) == (
        0,
        2,
        "shapes_smoke_train-dilate70-s2",
    )
    assert after["noise"]["shapes_smoke_train-dilate70-s2"]["seed"] == 2
    assert (
        after["score"]["shapes_smoke_train-dilate70-xmem-xmem_tiny-s0-n2-shapes_smoke_val"][
            "noise_seed"
        ]
        == 2
    )


def test_clean_labels_have_no_seed_to_vary() -> None:
    assert not any(
        "clean" in key and "-n" in key for key in smoke_cells(noise_seed=(0, 1))["train"]
    )


def test_the_labels_of_the_trainings_own_seed_must_be_among_them() -> None:
    with pytest.raises(ValidationError, match="must hold every `seed`"):
        Block(model=("m",), noise=("n",), method=("a",), seed=(0, 3), noise_seed=(0, 1))


def test_pooled_spread_by_hand() -> None:
    """Groups 1, 3 (sum of squares 2) and 0, 0, 3 (6): variance 8 / 3 on 3 degrees of freedom."""
    spread = pooled_spread([np.array([1.0, 3]), np.array([0.0, 0, 3]), np.array([7.0])])
    assert spread.deviation == pytest.approx(math.sqrt(8 / 3))
    assert (spread.runs, spread.groups, spread.freedom) == (5, 2, 3)
    assert spread.low == pytest.approx(
        math.sqrt(8 / 9.3484), rel=1e-4
    )  # chi-square with 3 degrees of freedom: 0.2158 and 9.3484
    assert spread.high == pytest.approx(math.sqrt(8 / 0.21580), rel=1e-4)
    assert math.isnan(pooled_spread([np.array([1.0])]).deviation)


def crossed(labels: float, training: float, *, seeds: int = 3) -> Results:
    """One cell trained with every pair of seeds: the mean moves by `labels` and `training` points
    a step of either seed.
    """
    train, score, tables = {}, {}, []
    for seed, noise_seed in itertools.product(range(seeds), repeat=2):
        key = f"d-mix80-plain-m-s{seed}" + (f"-n{noise_seed}" if noise_seed != seed else "")
        train[key] = {
            "dataset": "d",
            "noise": "mix80",
            "method": "plain",
            "model": "m",
            "seed": seed,
            "blocks": ["core"],
        }
        train[key] |= {"noise_seed": noise_seed} if noise_seed != seed else {}
        score[f"{key}-val"] = {"role": "trained", "evaluation": "val", "train_key": key} | train[
            key
        ]
        values = (50 + np.arange(4) + labels * noise_seed + training * seed) / 100
        facts = {
            "key": f"{key}-val",
            "role": "trained",
            "evaluation": "val",
            "kind": "mix",
            "q_achieved": 0.8,
            "object": 1,
        }
        facts |= {"method": "plain", "noise": "mix80", "seed": seed, "noise_seed": noise_seed}
        tables.append(
            pd.DataFrame({**facts, "sequence": [f"v{index}" for index in range(4)], "JF": values})
        )
    preset = {"name": "p", "synthetic": True, "references": {"core": "plain"}}
    results = Results({"preset": preset, "train": train, "score": score}, Path(), Path(), Path())
    results.__dict__.update(objects=pd.concat(tables, ignore_index=True), missing=[])
    return results


def test_the_two_variances_are_those_that_were_planted() -> None:
    """Values 0, a, 2a have the standard deviation a, whatever the group's own level; moved
    together, the sum of both.
    """
    table = realisation_table(crossed(labels=0.5, training=2.0), "val").set_index("varied")
    assert table["deviation"].to_dict() == pytest.approx(
        {"labels": 0.5, "training": 2.0, "both": 2.5}
    )
    assert table["runs"].to_dict() == {"labels": 9, "training": 9, "both": 3}
    assert table["groups"].to_dict() == {"labels": 3, "training": 3, "both": 1}
    assert realisation_notes(table.reset_index()) == [
        "plain, labels mix80: more of the spread comes from the training seed."
    ]


def test_alike_variances_are_not_told_apart() -> None:
    (note,) = realisation_notes(realisation_table(crossed(labels=1.0, training=1.2), "val"))
    assert "not shown" in note


def test_the_report_has_the_table_and_other_comparisons_take_no_such_cell() -> None:
    found = comparisons(crossed(labels=0.5, training=2.0), "val")
    (view,) = found["realisations"].views
    assert "(synthetic)" in view.caption
    assert view.table["from"].tolist() == ["9 runs in 3 groups", "9 runs in 3 groups", "3 runs"]
    assert "differences" not in found
