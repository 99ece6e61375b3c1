"""What `dvc metrics` and `dvc plots` read: J&F of every row of the score tables."""

import json
from pathlib import Path

from noisyvos.stages.tables import _write_summary

SCORES = """\
line,noise,q_achieved,JF,low,high
first mask copied,-,,0.3227,0.2,0.4
xmem,clean,1.0,0.62345678,0.5,0.7
xmem,dilate70,0.7,0.55,0.5,0.6
"""


KINDS = {"clean": "clean", "dilate70": "dilate", "erode70": "erode"}


def found(folder: Path, name: str) -> dict[str, float]:
    return json.loads((folder / "metrics" / f"{name}.json").read_text())


def test_a_file_of_metrics_for_each_row_and_set_in_percent(tmp_path: Path) -> None:
    (tmp_path / "scores-val.csv").write_text(
        SCORES
        + "first mask, copied,-,,0.1,0,1\n".replace("first mask, copied", '"first mask, copied"')
    )
    (tmp_path / "scores-far.csv").write_text(SCORES.replace("0.55", "0.45"))
    _write_summary(tmp_path, ["val", "far"], KINDS)
    assert found(tmp_path, "val/first_mask_copied") == {"baseline": 32.27}
    assert found(tmp_path, "val/first_mask_copied-2") == {"baseline": 10.0}
    assert found(tmp_path, "val/xmem") == {"clean": 62.35, "dilate70": 55.0}
    assert found(tmp_path, "far/xmem")["dilate70"] == 45.0


def test_clean_labels_are_a_point_of_every_sweep(tmp_path: Path) -> None:
    (tmp_path / "scores-val.csv").write_text(SCORES + "xmem,erode70,0.712345,0.5,0.5,0.6\n")
    _write_summary(tmp_path, ["val"], KINDS)
    assert (tmp_path / "noise-curves.csv").read_text().splitlines() == [
        "evaluation,sweep,line,noise,q_achieved,JF",
        "val,dilate,xmem,clean,1.0,0.6235",
        "val,dilate,xmem,dilate70,0.7,0.55",
        "val,erode,xmem,clean,1.0,0.6235",
        "val,erode,xmem,erode70,0.7123,0.5",
    ]


def test_a_grid_of_clean_labels_has_one_sweep(tmp_path: Path) -> None:
    (tmp_path / "scores-val.csv").write_text("\n".join(SCORES.splitlines()[:3]))
    _write_summary(tmp_path, ["val"], KINDS)
    assert (tmp_path / "noise-curves.csv").read_text().splitlines()[1:] == [
        "val,clean,xmem,clean,1.0,0.6235"
    ]


def test_without_scores_there_are_no_metrics(tmp_path: Path) -> None:
    _write_summary(tmp_path, [], {})
    assert not list(tmp_path.iterdir())
