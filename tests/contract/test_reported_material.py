"""Material as users reported it: each case of ../shared/cases that these packages answer."""

import runpy
import sys
from pathlib import Path

import pytest

from noisyvos.datasets.layout import VideoDataset
from noisyvos.stages import convert
from noisyvos.stages import score as score_stage


@pytest.fixture
def case(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that writes the input of a case and returns its folder."""

    def make(name: str) -> Path:
        script = shared / "cases" / name / "make.py"
        if not script.is_file():
            pytest.skip(f"the reported case {name} is not here")
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.setattr(sys, "argv", [str(script), str(folder)])
        monkeypatch.setenv("NOISYVOS_SRC", str(Path(__file__).parents[2] / "src"))
        runpy.run_path(str(script), run_name="__main__")
        return folder

    return make


def converted(folder: Path, name: str) -> Path:
    out = folder / "out" / name
    convert.run(name, raw=folder / "raw", out=out, params=folder / "params")
    return out


def test_lists_of_any_editor_name_the_same_sequences(case) -> None:
    folder = case("split-list")
    for name, sequences in {"d": ["car"], "space": ["car", "my dog"], "u16": ["car"]}.items():
        assert list(VideoDataset(converted(folder, name)).sequences) == sequences
    truth = folder / "truth"
    for name in ("bom", "2016"):
        task = score_stage.Task(
            truth,
            truth,
            folder / "scores" / name,
            split=folder / "raw" / "ImageSets" / f"{name}.txt",
        )
        scores = score_stage.run(task)
        assert scores.scored_sequences == ("car",)
        assert scores.means["J&F-Mean"] == 1
