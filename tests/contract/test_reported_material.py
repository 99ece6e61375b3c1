"""Material as users reported it: each case of ../shared/cases that these packages answer."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from noisyvos import models
from noisyvos.datasets.check import check_dataset
from noisyvos.datasets.layout import VideoDataset
from noisyvos.errors import UserError
from noisyvos.media.videos import open_video
from noisyvos.pipeline.handover import commit
from noisyvos.stages import convert, synth, unify
from noisyvos.stages import score as score_stage
from noisyvos.stages.segment import read_masks

ROOT = Path(__file__).parents[2]


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
        monkeypatch.setenv("NOISYVOS_SRC", str(ROOT / "src"))
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


def test_record_keeps_the_links_of_datasets(case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reported as treeverse/dvc#10237."""
    folder = case("dvc-links")
    repository = folder / "repository"
    out = repository / "data" / "converted" / "d"
    convert.run("d", raw=folder / "raw", out=out, params=folder / "params")
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    (kept,) = stages["link"]["do"]["outs"]
    options = kept["data/converted/${key}"]
    stage = {"cmd": "true", "outs": [{"data/converted/d": options}]}
    (repository / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"c": stage}}))
    monkeypatch.chdir(repository)
    for command in (["git", "init", "-q", "."], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    commit({"c"})
    frames = sorted((out / "frames" / "car").iterdir())
    assert len(frames) == 3
    assert all(frame.is_symlink() and frame.exists() for frame in frames)
    assert not list((repository / ".dvc" / "cache").rglob("*")), "DVC keeps no copy"
    said = subprocess.run(
        [sys.executable, "-m", "dvc", "status"], check=True, capture_output=True, text=True
    )
    assert "up to date" in said.stdout


def test_run_lengths_of_objects_are_drawn_in_every_clip(case) -> None:
    folder = case("rle-objects")
    out = converted(folder, "d")
    assert check_dataset(out).usable
    clips = folder / "clips"
    synth.run(out, recipe="smoke", out=clips, seed=0, params=ROOT / "params")
    statistics = json.loads((clips / "meta.json").read_text())["statistics"]
    assert statistics["objects_per_clip"]["0"] == 0  # of 40; 15 before


def test_null_fields_empty_shapes_and_swapped_sizes_of_coco(case) -> None:
    folder = case("coco-null")
    (kept,) = json.loads((converted(folder, "d") / "instances.json").read_text())["annotations"]
    assert kept["iscrowd"] == 0
    (kept,) = json.loads((converted(folder, "area") / "instances.json").read_text())["annotations"]
    assert kept["area"] == 70  # 14 x 20 pixels at half the side
    with pytest.raises(UserError, match=r"no image of COCO .* area 500 and more"):
        unify.run("COCO", source=folder / "src" / "empty", destination=folder / "u1")
    with pytest.raises(UserError, match=r"64x48, but by .*\(image 1, annotation 1\) it is 48x64"):
        unify.run("COCO", source=folder / "src" / "swapped", destination=folder / "u2")


def test_checkpoints_are_read_or_refused_in_own_words(case) -> None:
    weights = case("checkpoints") / "input" / "weights"
    expected = models.build("xmem_tiny").state_dict()
    for name in ("xmem_checkpoint_1", "scalar"):
        found = models.load_official("xmem_tiny", weights / f"{name}.pth").state_dict()
        assert {key: value.tolist() for key, value in found.items()} == {
            key: value.tolist() for key, value in expected.items()
        }
    for name, message in {"whole": "holds a whole network", "page": "it is a web page"}.items():
        with pytest.raises(UserError, match=message) as refused:
            models.load_official("xmem_tiny", weights / f"{name}.pth")
        assert "\x1b" not in str(refused.value)


def test_gaps_in_ids_are_warned_of_by_name(case, capsys: pytest.CaptureFixture[str]) -> None:
    folder = case("id-gaps-score")
    task = score_stage.Task(folder / "pred", folder / "truth", folder / "scores")
    scores = score_stage.run(task)
    assert round(scores.means["J&F-Mean"], 3) == 0.973  # the definition of the DAVIS tool is kept
    said = capsys.readouterr().err
    assert "sequence 'car' has the ids 38, 75; 73 objects of its 75 are made up" in said
    facts = json.loads((folder / "scores" / "scores.json").read_text())
    assert facts["made_up_objects"] == {"car": {"ids": [38, 75], "made_up": 73}}


def segment_masks(folder: Path, sequence: str, mask: str, one_object: bool = False):
    """Return the given masks and the frames as `segment` reads them."""
    video = open_video(folder / "raw" / "JPEGImages" / sequence)
    return read_masks(folder / "raw" / "Annotations" / sequence / mask, video, one_object), video


def test_white_masks_get_one_answer_and_a_remedy_that_works(case) -> None:
    folder = case("white-mask")
    void = r"these masks hold no object, only void \(255\).*--one-object"
    with pytest.raises(UserError, match=void) as refused:
        converted(folder, "d")
    with pytest.raises(UserError, match=rf"00000\.png: {void}"):
        segment_masks(folder, "car", "00000.png")
    findings = check_dataset(folder / "raw")
    assert not findings.usable
    assert str(refused.value) in [problem.where for problem in findings.problems]
    (folder / "params" / "datasets.yaml").write_text(
        "d: {kind: folder, source: x, one_object: true}"
    )
    dataset = VideoDataset(converted(folder, "d"))
    masks, _ = segment_masks(folder, "car", "00000.png", one_object=True)
    for mask in (masks[0], dataset.read_mask("car", "00000")):
        assert mask.sum() == 20 * 14
        assert mask[10:30, 4:18].all()
    assert check_dataset(folder / "raw", one_object=True).usable


def test_grey_levels_and_jpeg_data_are_no_ids(case) -> None:
    folder = case("soft-mask")
    findings = check_dataset(folder / "raw")
    assert not findings.usable
    places = " ".join(problem.where for problem in findings.problems)
    for sequence, message in {
        "car": "grey levels of soft edges",
        "jpeg": "holds JPEG data",
    }.items():
        assert message in places
        with pytest.raises(UserError, match=rf"{sequence}/00000\.png: .*{message}.*one_object"):
            segment_masks(folder, sequence, "00000.png")
    with pytest.raises(UserError, match=r"0000\d\.png: .*Threshold the masks"):
        converted(folder, "d")


def test_frames_are_upright_where_their_masks_are(case) -> None:
    folder = case("exif")
    for name, sequence in {"d": "half", "quarter": "quarter"}.items():
        data = VideoDataset(converted(folder, name))
        for t in data.sequences[sequence].frames:
            frame = data.read_frame(sequence, t).astype(int)
            shown = frame[:, :, 0] - frame[:, :, 2] > 80
            mask = data.read_mask(sequence, t) == 1
            assert (shown & mask).sum() / (shown | mask).sum() > 0.9


def test_frames_are_in_the_order_of_their_numbers(case) -> None:
    folder = case("frame-order")
    wanted = [str(t) for t in range(12)]
    assert list(VideoDataset(converted(folder, "d")).sequences["car"].frames) == wanted
    _, video = segment_masks(folder, "car", "0.png")
    assert [video.name(index) for index in range(12)] == wanted
    assert check_dataset(folder / "raw").usable


def test_folders_that_programs_leave_are_passed_over(case) -> None:
    folder = case("jupyter-folder")
    task = score_stage.Task(folder / "pred", folder / "truth", folder / "scores")
    scores = score_stage.run(task)
    assert scores.scored_sequences == ("a", "b")
    assert scores.means["J&F-Mean"] == 1
    assert list(VideoDataset(converted(folder, "d")).sequences) == ["car"]


def test_links_to_sequences_are_followed(case) -> None:
    folder = case("linked-sequences")
    task = score_stage.Task(folder / "pred", folder / "truth", folder / "scores")
    scores = score_stage.run(task)
    assert scores.scored_sequences == ("a", "b")
    assert scores.means["J&F-Mean"] == pytest.approx(0.660, abs=5e-4)
    images = json.loads((converted(folder, "d") / "instances.json").read_text())["images"]
    assert [image["file_name"] for image in images] == [
        f"fss/{name}/{i}.jpg" for name in ("ab", "cd") for i in range(3)
    ]
