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


def test_metrics_have_every_row_and_curves_the_trainings(tmp_path: Path) -> None:
    (tmp_path / "scores-val.csv").write_text(SCORES)
    (tmp_path / "scores-far.csv").write_text(SCORES.replace("0.55", "0.45"))
    _write_summary(tmp_path, ["val", "far"])
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["val"] == {
        "first mask copied": {"-": 0.3227},
        "xmem": {"clean": 0.623457, "dilate70": 0.55},
    }
    assert found["far"]["xmem"]["dilate70"] == 0.45
    assert (tmp_path / "noise-curves.csv").read_text().splitlines() == [
        "evaluation,line,noise,q_achieved,JF",
        "val,xmem,clean,1.0,0.62345678",
        "val,xmem,dilate70,0.7,0.55",
        "far,xmem,clean,1.0,0.62345678",
        "far,xmem,dilate70,0.7,0.45",
    ]


def test_without_scores_the_metrics_are_empty(tmp_path: Path) -> None:
    _write_summary(tmp_path, [])
    assert json.loads((tmp_path / "metrics.json").read_text()) == {}
