"""From a number in a table to the cells behind it, on planted tables."""

from pathlib import Path

import pytest

from noisyvos.analysis.results import Results
from noisyvos.errors import UserError
from noisyvos.tracing.lookup import choose, find_value, number_in

ROOT = Path(__file__).resolve().parents[3]
SCORES = """\
line,noise,q_achieved,JF,low,high,J,F,seeds
first mask copied,-,,0.3227,0.2199,0.3796,0.3942,0.2513,1
xmem,clean,1.0,0.6234,0.5811,0.6602,0.6001,0.6467,2
xmem,dilate70,0.7,0.5512,0.51,0.59,0.5,0.6024,2
smart_unit,dilate70,0.7,0.6011,0.57,0.63,0.58,0.6222,2
"""
DIFFERENCES = """\
block,dataset,model,schedule,noise,method,reference,difference,low,high,seeds
core,train,xmem_tiny,main,dilate70,smart_unit,xmem,4.99,1.0,8.0,2
"""


@pytest.fixture
def results(tmp_path: Path) -> Results:
    train, score = {}, {"first_mask-val": {"role": "first_mask", "evaluation": "val"}}
    for noise in ("clean", "dilate70"):
        for method in ("xmem", "smart_unit"):
            for seed in (0, 1):
                key = f"train-{noise}-{method}-xmem_tiny-s{seed}"
                facts = {"dataset": "train", "noise": noise, "method": method, "seed": seed}
                facts |= {"model": "xmem_tiny"}
                train[key] = facts | {"schedule": "main", "blocks": ["core"]}
                cell = {"role": "trained", "evaluation": "val", "train_key": key}
                score[f"{key}-val"] = cell | facts
    cells = {"preset": {"name": "p", "references": {"core": "xmem"}}}
    cells |= {"train": train, "score": score}
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "scores-val.csv").write_text(SCORES)
    (folder / "differences-val.csv").write_text(DIFFERENCES)
    return Results(cells, tmp_path, tmp_path, tmp_path)


def places(results: Results, number: str) -> list:
    return find_value(number, results, results.results / "tables", ROOT / "params")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("62.3", "62.3"),
        ("62.3 [58.1, 66.0]", "62.3"),
        ("−1.25", "-1.25"),
        ("+4.99", "4.99"),
        ("62.3 %", "62.3"),
        ("train-clean-xmem-s0", None),
        ("62", None),
    ],
)
def test_numbers_are_told_from_keys(text: str, number: str | None) -> None:
    assert number_in(text) == number


def test_a_mean_is_traced_to_the_cells_of_all_seeds(results: Results) -> None:
    for number in ("62.3", "62.34", "0.6234"):
        place = choose(number, places(results, number), 0)
        assert (place.table, place.row, place.column) == ("scores-val.csv", 2, "JF")
        assert place.cells == (
            "train-clean-xmem-xmem_tiny-s0-val",
            "train-clean-xmem-xmem_tiny-s1-val",
        )


def test_a_difference_is_traced_to_both_methods(results: Results) -> None:
    place = choose("4.99", places(results, "4.99"), 0)
    assert place.column == "difference"
    assert place.cells == tuple(
        f"train-dilate70-{method}-xmem_tiny-s{seed}-val"
        for method in ("xmem", "smart_unit")
        for seed in (0, 1)
    )


def test_a_baseline_is_traced_to_its_cell(results: Results) -> None:
    assert choose("32.3", places(results, "32.3"), 0).cells == ("first_mask-val",)


def test_counts_and_unknown_numbers_are_not_found(results: Results) -> None:
    assert places(results, "2.0") == []
    assert places(results, "99.9") == []


def test_a_number_that_tables_repeat_is_one_place(results: Results) -> None:
    """The curves of all sets and each cell's row repeat the means of the score table."""
    other = {"role": "first_mask", "evaluation": "other"}
    train = "train-dilate70-smart_unit-xmem_tiny-s0"
    facts = results.score_cells[f"{train}-val"] | {"evaluation": "other"}
    cells = results.cells | {"score": results.cells["score"] | {"first_mask-other": other}}
    cells["score"] |= {f"{train}-other": facts}
    both = Results(cells, results.results, results.predictions, results.converted)
    for key in both.score_cells:
        folder = both.scores_of(key)
        folder.mkdir(parents=True)
        (folder / "objects.csv").write_text("sequence,object,J-Mean,F-Mean\n")
    curves = (
        "evaluation,line,noise,q_achieved,JF\n"
        "val,xmem,clean,1.0,0.62340049\n"
        "other,smart_unit,dilate70,0.7,0.6011\n"
    )
    (results.results / "tables/noise-curves.csv").write_text(curves)
    (found,) = places(both, "62.34")
    assert (found.table, found.row, len(found.cells)) == ("scores-val.csv", 2, 2)
    first, second = places(both, "60.11")  # equal by chance, of other cells
    assert first.table == "scores-val.csv"
    assert second.cells == (f"{train}-other",)
    with pytest.raises(UserError, match="several places"):
        choose("60.11", [first, second], 0)


def test_several_places_are_listed_and_one_is_chosen(results: Results) -> None:
    found = places(results, "0.6")  # rounds to many
    with pytest.raises(UserError, match=r"at several places.*1: JF in scores-val\.csv, row 2"):
        choose("0.6", found, 0)
    assert choose("0.6", found, 2) == found[1]
    with pytest.raises(UserError, match="is at"):
        choose("0.6", found, 99)
