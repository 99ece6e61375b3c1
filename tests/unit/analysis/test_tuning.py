"""Tuning: what the presets declare, and the value that is named best."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from noisyvos import methods
from noisyvos.analysis.comparison import comparisons
from noisyvos.analysis.questions.tuning import tuning_table, tuning_view
from noisyvos.analysis.results import Results
from noisyvos.params.entries import read_family
from noisyvos.params.presets import read_preset
from noisyvos.pipeline.grid import Catalogue, expand

PARAMS = Path(__file__).parents[3] / "params"
ENTRIES = read_family(PARAMS, "methods")


def results(
    values: dict[str, dict[str, float]], *, tuning: bool = True, absent: tuple[str, ...] = ()
) -> Results:
    """Scores of methods by block, of two objects that differ by 0.2; `absent` methods have none."""
    train, score, rows = {}, {}, []
    for block, found in values.items():
        for method, value in found.items():
            key = f"d-mix80-{method}-m-s900"
            train[key] = {
                "dataset": "d",
                "noise": "mix80",
                "method": method,
                "model": "m",
                "seed": 900,
                "blocks": [block],
            }
            score[f"{key}-held"] = {
                "role": "trained",
                "evaluation": "held",
                "train_key": key,
            } | train[key]
            facts = {
                "key": f"{key}-held",
                "role": "trained",
                "evaluation": "held",
                "kind": "mix",
                "q_achieved": 0.8,
                "object": 1,
            }
            named = {
                name: train[key][name] for name in ("dataset", "noise", "method", "model", "seed")
            }
            scores = np.array([value - 0.1, value + 0.1])
            rows.append(
                pd.DataFrame(
                    {**facts, **named, "noise_seed": 900, "sequence": ["a", "b"], "JF": scores}
                )
            )
    preset = {"name": "t", "synthetic": True, "references": {block: block for block in values}} | (
        {"tuning": True} if tuning else {}
    )
    made = Results({"preset": preset, "train": train, "score": score}, Path(), Path(), Path())
    missing = [key for key in score if score[key]["method"] in absent]
    table = pd.concat(rows, ignore_index=True)
    made.__dict__.update(objects=table[~table["key"].isin(missing)], missing=missing)
    return made


VALUES = {
    "gce": {"gce_q30": 0.5, "gce": 0.6, "gce_q90": 0.65},
    "elr": {"elr": 0.7, "elr_weight3": 0.7},
}


def test_the_highest_value_is_best_and_the_default_keeps_its_place_on_a_tie():
    table = tuning_table(results(VALUES), "held")
    assert table.loc[table["best"], ["block", "method"]].to_numpy().tolist() == [
        ["gce", "gce_q90"],
        ["elr", "elr"],
    ]
    assert table["JF"].tolist() == pytest.approx([0.5, 0.6, 0.65, 0.7, 0.7])
    view = tuning_view(table)
    assert view.loc["gce"].tolist() == ["gce_q30 50.0; gce 60.0; gce_q90 65.0", "gce_q90", "+5.0"]
    assert view.loc["elr", "above the default"] == "+0.0"


def test_a_missing_cell_leaves_no_best_value():
    table = tuning_table(results(VALUES, absent=("gce_q30",)), "held")
    assert table.loc[table["best"], "method"].tolist() == ["elr"]
    assert tuning_view(table).loc["gce"].tolist() == [
        "gce_q30 missing; gce 60.0; gce_q90 65.0",
        "missing",
        "-",
    ]


def test_only_a_preset_for_tuning_selects_by_scores():
    assert "tuning" not in comparisons(results(VALUES, tuning=False), "held")
    tuning = comparisons(results(VALUES), "held")["tuning"]
    assert "(synthetic)" in tuning.views[0].caption


@pytest.mark.parametrize("name", ["tune", "tune_demo"])
def test_the_presets_keep_to_the_protocol(name):
    """mix80, seed 900, at most four values of one setting a method, the published one among them,
    on videos that do not train.
    """
    preset = read_preset(PARAMS, name)
    assert preset.tuning
    assert next(iter(preset.evaluate)).removesuffix("_val") == preset.train.dataset.removesuffix(
        "_train"
    )
    for base, block in preset.blocks.items():
        assert (block.noise, block.seed, block.reference) == (("mix80",), (900,), base)
        assert base in block.method
        assert 2 <= len(block.method) <= 4
        built = {
            entry: methods.from_settings(
                ENTRIES[entry]["kind"], {k: v for k, v in ENTRIES[entry].items() if k != "kind"}
            ).settings
            for entry in block.method
        }
        plain = built[base].model_dump()
        changed = [
            {key for key, value in settings.model_dump().items() if value != plain[key]}
            for settings in built.values()
        ]
        knobs = set().union(*changed)
        assert len(knobs) == 1
        assert [len(keys) for keys in changed].count(
            0
        ) == 1  # the default itself: every other value is another one
    cells = expand(preset, Catalogue(PARAMS))
    assert len(cells["train"]) == sum(len(block.method) for block in preset.blocks.values())


def test_both_presets_try_the_same_values_and_the_demo_never_trains_or_scores_on_its_own_videos():
    full, small = (read_preset(PARAMS, name) for name in ("tune", "tune_demo"))
    assert {name: block.method for name, block in full.blocks.items()} == {
        name: block.method for name, block in small.blocks.items()
    }
    sources = yaml.safe_load((PARAMS / "sources.yaml").read_text(encoding="utf-8"))
    assert sources["shapes_tune"]["seed"] not in {
        entry["seed"] for name, entry in sources.items() if name in ("shapes", "shapes_smoke")
    }
