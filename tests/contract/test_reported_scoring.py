"""Scoring as users reported it: the right score, a warning by name, or a refusal.

The reports are listed in docs/reference/material.md, and `test_material_page.py` compares.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from material import DAVIS, IDS, ONE, SOFT, png

from noisyvos.errors import UserError
from noisyvos.io.masks import encode_mask
from noisyvos.stages.score import Task, run

EMPTY = IDS * 0
LATER = np.where(IDS == 1, 1, 0).astype(np.uint8)  # object 2 is not there yet
Masks = list[np.ndarray | bytes]


@dataclass(frozen=True)
class Case:
    """Masks of one video; `wanted` is J&F or what the refusal says, `said` is on stderr."""

    truth: Masks
    predicted: Masks
    wanted: float | str
    said: str = ""
    protocol: str = "davis"
    objects: int = 2
    options: dict[str, Any] = field(default_factory=dict)


def four(mask: np.ndarray | bytes) -> Masks:
    return [mask] * 4


RGB = png(DAVIS[IDS])
WHITE = png(ONE * 255)
GAPS = np.where(IDS == 2, 5, IDS).astype(np.uint8)
CASES = {
    "davisvideochallenge/davis2017-evaluation#1": Case(four(IDS), four(LATER), 0.5),
    "davisvideochallenge/davis2017-evaluation#4": Case(
        four(WHITE), four(encode_mask(ONE)), 1.0, objects=1, options={"binary": True}
    ),
    "NUST-Machine-Intelligence-Laboratory/HFAN#4": Case(
        four(WHITE), four(png(ONE)), r"00000\.png is empty, but .*--binary"
    ),
    "hkchengrex/Mask-Propagation#33": Case(
        four(encode_mask(ONE)), four(WHITE), r"00001\.png holds id 255, .*`--binary` to `score`"
    ),
    "antonilo/unsupervised_detection#18": Case(
        four(IDS), four(IDS[:24, :32]), r"00001\.png is 24x32, its true mask is 48x64"
    ),
    "youtubevos/MaskTrackRCNN#16": Case(
        four(IDS), four(np.ascontiguousarray(IDS.T)), r"is 64x48, its true mask is 48x64"
    ),
    "visionml/pytracking#266": Case([IDS], four(IDS), "has 1 true masks .* scores none of them"),
    "epic-kitchens/VISOR-VOS#7": Case(
        [IDS, LATER], [IDS, LATER], "protocol 'davis' scores none of them"
    ),
    "haochenheheda/Training-Code-of-STM#3": Case(
        [LATER, IDS, IDS, IDS],
        four(LATER),
        1.0,
        "'car' have the ids 2 in later frames only",
        objects=1,
    ),
    "CellProfiler/CellProfiler#4515": Case(
        four(GAPS), four(EMPTY), 0.6, "3 objects of its 5 are made up", objects=5
    ),
    "carpenterlab/2019_Caicedo_CytometryA#1": Case(four(IDS), four(IDS), 1.0),
    "yoxu515/aot-benchmark#25": Case(four(IDS), four(RGB), 1.0, options={"rgb": True}),
    "hkchengrex/XMem#64": Case(four(IDS), four(png(SOFT)), "grey levels of soft edges"),
    "hustvl/CrossVIS#18": Case(four(IDS), [IDS, IDS], r"car/00002\.png is missing"),
}


def write(root: Path, masks: Masks) -> Path:
    (root / "car").mkdir(parents=True)
    for t, mask in enumerate(masks):
        data = encode_mask(mask) if isinstance(mask, np.ndarray) else mask
        (root / "car" / f"{t:05d}.png").write_bytes(data)
    return root


@pytest.mark.parametrize("report", CASES)
def test_scores_are_right_or_refused(
    report: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[report]
    truth, results = write(tmp_path / "truth", case.truth), write(tmp_path / "res", case.predicted)
    task = Task(results, truth, tmp_path / "out", case.protocol, options=case.options)
    if isinstance(case.wanted, str):
        with pytest.raises((UserError, FileNotFoundError), match=case.wanted):
            run(task)
        assert not (tmp_path / "out").exists()
        return
    scores = run(task)
    assert scores.means["J&F-Mean"] == pytest.approx(case.wanted)
    assert len(scores.items) == case.objects
    said = capsys.readouterr().err
    assert case.said in said
    assert bool(case.said) == ("warning" in said)


def test_late_objects_are_scored_by_their_protocol(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", [LATER, IDS, IDS, IDS])
    scores = run(Task(truth, truth, tmp_path / "out", "youtube_vos"))
    assert [item.object for item in scores.items] == [1, 2]


def test_a_truth_that_is_scored_against_itself_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = write(
        tmp_path / "truth", four(IDS)
    )  # davisvideochallenge/davis2017-evaluation#7: all scores were 1.0
    (tmp_path / "link").symlink_to(truth)
    assert run(Task(tmp_path / "link", truth, tmp_path / "out")).means["J&F-Mean"] == 1
    assert "link is the true masks themselves" in capsys.readouterr().err
