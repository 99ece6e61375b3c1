"""docs/reference/material.md against the code: its matrix of masks, and its list of reports."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from material import (
    FORMS,
    checked,
    convert_reads,
    folder,
    outcome,
    score_reads,
    segment_reads,
    static_reads,
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "material.md").read_text(encoding="utf-8")
REPORT = re.compile(r"[\w.-]+/[\w.-]+#\d+")
Read = Callable[[Path], str]
COLUMNS: list[list[Read]] = [
    [partial(outcome, convert_reads), partial(outcome, segment_reads)],
    [
        partial(outcome, convert_reads, one_object=True),
        partial(outcome, segment_reads, one_object=True),
    ],
    [partial(outcome, score_reads)],
    [partial(outcome, score_reads, rgb=True)],
    [partial(outcome, score_reads, binary=True)],
    [partial(outcome, static_reads, threshold=128)],
    [partial(outcome, static_reads, threshold=None)],
]


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its head."""
    text = PAGE[PAGE.index(f"\n{heading}\n") :]
    lines = [line for line in re.split(r"\n#", text[1:])[0].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


MATRIX = {name.strip(): cells for name, *cells in rows("## Masks")}


def test_the_matrix_has_every_form() -> None:
    assert list(MATRIX) == list(FORMS)


@pytest.mark.parametrize("form", FORMS)
def test_every_command_does_what_the_matrix_says(form: str, tmp_path: Path) -> None:
    raw = folder(tmp_path / "raw", FORMS[form])
    for said, readers in zip(MATRIX[form], COLUMNS, strict=True):
        for read in readers:
            assert read(raw).replace(" (128 on)", " from 128 on") == said
    for one_object, said in enumerate(MATRIX[form][:2]):
        assert checked(raw, bool(one_object)).usable == (said != "refused")


def test_the_page_lists_the_reports_that_are_tried() -> None:
    tests = "".join(
        path.read_text(encoding="utf-8")
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.name.startswith("test_reported")
        or path.name in ("test_makefile.py", "test_make.py")
    )
    assert set(REPORT.findall(tests)) == set(REPORT.findall(PAGE))


def test_every_kind_has_ten_reports() -> None:
    for kind in (
        "Masks",
        "Frames and movies",
        "Files and folders",
        "Lists and JSON",
        "COCO",
        "Checkpoints",
        "Scoring",
    ):
        assert len(rows(f"### {kind}")) >= 10, kind
