"""Masks as users of this field reported them: the right ids, or a refusal that helps.

The reports are listed in docs/reference/material.md, and `test_material_page.py` compares.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from material import (
    BRIGHT,
    DAVIS,
    FORMS,
    IDS,
    ONE,
    checked,
    convert_reads,
    folder,
    palette,
    png,
    refusal,
    score_reads,
    segment_reads,
    static_reads,
)

from noisyvos.errors import UserError


@dataclass(frozen=True)
class Case:
    """Three masks of one video. `wanted` are ids (H, W) or what the refusal says."""

    masks: bytes | list[bytes]
    wanted: np.ndarray | str
    score: np.ndarray | str | None = None  # None: as `wanted`
    one_object: bool = False
    rgb: bool = False  # of `score`


SMALL = cv2.resize(BRIGHT[IDS], (40, 30), interpolation=cv2.INTER_LINEAR)
SWAPPED = [DAVIS[0], DAVIS[2], DAVIS[1], *DAVIS[3:]]
FIVE = np.where(IDS == 2, 5, IDS).astype(np.uint8)
CASES = {
    "hkchengrex/XMem#64": Case(
        FORMS["soft edges under a palette"], "are grey levels of soft edges"
    ),
    "hkchengrex/XMem#115": Case(
        FORMS["0 and 255"], "no object, only void", "is empty, but .*--binary"
    ),
    "hkchengrex/XMem#111": Case(FORMS["0 and 255"], ONE, one_object=True),
    "mbzuai-metaverse/XMem2#9": Case(
        FORMS["RGB, colours with soft edges"],
        "are mixed colours",
        "this file is RGB",
    ),
    "abreheret/PixelAnnotationTool#35": Case(
        png(cv2.resize(SMALL, (64, 48))), "are mixed colours", "this file is RGB"
    ),
    "yoxu515/aot-benchmark#25": Case(FORMS["RGB, colours of DAVIS"], IDS, rgb=True),
    "wkentaro/labelme#785": Case(FORMS["RGB, other colours"], IDS, "this file is RGB"),
    "wkentaro/labelme#68": Case(FORMS["16-bit PNG, ids up to 255"], IDS),
    "wkentaro/labelme#13": Case(FORMS["16-bit PNG, 8-bit ids spread (times 257)"], IDS),
    "mcordts/cityscapesScripts#32": Case(
        png(IDS.astype(np.uint16) + 26000), "of 16 bits holds values from 26000 to 26002"
    ),
    "georgeoshardo/SyMBac#58": Case(
        png(IDS.astype(np.uint16) * 256), "of 16 bits holds values from 0 to 512"
    ),
    "saic-vul/fbrs_interactive_segmentation#17": Case(
        FORMS["RGB, grey values are ids"], IDS, rgb=True
    ),
    "cvat-ai/cvat#1659": Case(FORMS["RGB without black"], "no black pixel", "this file is RGB"),
    "cvat-ai/cvat#6274": Case(
        [palette(IDS), palette((3 - IDS) * (IDS > 0), SWAPPED), palette(IDS)],
        r"00001\.png: the colour \(0, 128, 0\) is id 1 .*but id 2 in 00000\.png",
        IDS,  # `score` looks at one mask at a time, and goes by the ids
    ),
    "sssdddwww2/vspw_dataset_download#2": Case(
        [png(IDS), png(BRIGHT[IDS]), png(IDS)],
        r"00001\.png: this mask holds colours .* other masks of the video hold ids",
        "this file is RGB",
    ),
    "aseprite/aseprite#3207": Case(
        FORMS["transparent index that is not 0"], "the value 1 of this mask is transparent"
    ),
    "haochenheheda/Training-Code-of-STM#3": Case(palette(FIVE), FIVE),
}


def told(read, raw: Path, **options) -> str:
    with pytest.raises(UserError) as refused:
        read(raw, **options)
    return str(refused.value)


@pytest.mark.parametrize("report", CASES)
def test_every_command_gives_one_answer(report: str, tmp_path: Path) -> None:
    case = CASES[report]
    raw = folder(tmp_path / "raw", case.masks)
    findings = checked(raw, case.one_object)
    if isinstance(case.wanted, str):
        assert not findings.usable
        said = told(convert_reads, raw, one_object=case.one_object)
        assert re.search(case.wanted, said)
        assert refusal(findings) == said == told(segment_reads, raw, one_object=case.one_object)
    else:
        assert findings.usable
        for read in (convert_reads, segment_reads):
            masks = read(raw, one_object=case.one_object)
            np.testing.assert_array_equal(masks, np.stack([case.wanted] * 3))
    wanted = case.wanted if case.score is None else case.score
    if isinstance(wanted, str):
        assert re.search(wanted, told(score_reads, raw, binary=case.one_object, rgb=case.rgb))
    else:
        np.testing.assert_array_equal(score_reads(raw, case.one_object, case.rgb)[0], wanted)


STATIC: dict[str, tuple[bytes, int | None, np.ndarray | str]] = {
    "DiUS/MaskRCNN-utils#2": (png(ONE), 128, "values of this mask are 0 to 1, .*`threshold: null`"),
    "wkentaro/labelme#785": (
        palette(IDS),
        128,
        r"00\.png: this mask holds colours, .*`threshold: n",
    ),
    "yoxu515/aot-benchmark#25": (png(DAVIS[IDS]), None, IDS),
    "wkentaro/labelme#68": (png(ONE.astype(np.uint16)), 128, "values of this mask are 0 to 1"),
}


@pytest.mark.parametrize("report", STATIC)
def test_still_images_lose_no_object_silently(report: str, tmp_path: Path) -> None:
    mask, threshold, wanted = STATIC[report]
    raw = folder(tmp_path / "raw", mask)
    if isinstance(wanted, str):
        assert re.search(wanted, told(static_reads, raw, threshold=threshold))
        assert "cannot be read" not in told(static_reads, raw, threshold=threshold)
        assert static_reads(raw, threshold=None).max() > 0, "the advice works"
    else:
        np.testing.assert_array_equal(static_reads(raw, threshold=threshold)[0], wanted)
