"""Stage `score` on small drawn collections: same bytes for any number of workers, refusals that
leave nothing behind.
"""

import errno
import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from noisyvos.cli import app
from noisyvos.errors import UserError
from noisyvos.io.masks import davis_palette, encode_mask, write_mask_zip
from noisyvos.metrics import score
from noisyvos.stages import score as stage
from noisyvos.stages.score import Task, Tracking, run
from noisyvos.tracking import mlflow as tracking

FILES = {
    "scores.json",
    "frames.csv",
    "objects.csv",
    "sequences.csv",
    "global_results-val.csv",
    "per-sequence_results-val.csv",
}


def draw(shift: int, late: bool = False) -> np.ndarray:
    mask = np.zeros((24, 32), np.uint8)
    mask[4:12, 3 + shift : 12 + shift] = 1
    mask[14:22, 10 : 20 + shift] = 2
    if late:
        mask[0:3, 0:3] = 3
    return mask


def fill(
    root: Path, shift: int, sequences: tuple[str, ...] = ("bear", "camel", "dog"), frames: int = 5
) -> Path:
    for number, name in enumerate(sequences):
        (root / name).mkdir(parents=True)
        for index in range(frames + number):
            (root / name / f"{index:05d}.png").write_bytes(
                encode_mask(draw(shift * (index + number)))
            )
    return root


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return fill(tmp_path / "truth", 0)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return fill(tmp_path / "results", 1)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_workers_and_form_of_input_change_no_byte(
    truth: Path, results: Path, tmp_path: Path
) -> None:
    run(Task(results, truth, tmp_path / "one"))
    one = contents(tmp_path / "one")
    assert set(one) == FILES
    run(Task(results, truth, tmp_path / "three", workers=3))
    assert contents(tmp_path / "three") == one
    masks = [
        (file.parent.name, file.stem, file.read_bytes()) for file in sorted(results.rglob("*.png"))
    ]
    write_mask_zip(tmp_path / "results.zip", masks)
    write_mask_zip(
        tmp_path / "truth.zip",
        [
            (f"480p/{file.parent.name}", file.stem, file.read_bytes())
            for file in sorted(truth.rglob("*.png"))
        ],
    )
    run(Task(tmp_path / "results.zip", tmp_path / "truth.zip", tmp_path / "zip"))
    assert contents(tmp_path / "zip") == one
    facts = json.loads(one["scores.json"])
    assert (facts["sequences"], facts["objects"], facts["object_frames"]) == (3, 6, 2 * (3 + 4 + 5))
    assert facts["means"]["J&F-Mean"] == (facts["means"]["J-Mean"] + facts["means"]["F-Mean"]) / 2


def test_every_zip_of_a_folder_has_the_bytes_of_a_score_of_it_alone(
    truth: Path, tmp_path: Path
) -> None:
    (tmp_path / "zips").mkdir()
    for shift in (1, 2):
        found = fill(tmp_path / f"shift{shift}", shift)
        masks = [(f.parent.name, f.stem, f.read_bytes()) for f in sorted(found.rglob("*.png"))]
        write_mask_zip(tmp_path / "zips" / f"shift{shift}.zip", masks)
        run(Task(found, truth, tmp_path / f"alone{shift}"))
    task = Task(tmp_path / "zips", truth, tmp_path / "each")
    for _ in range(2):  # a second run replaces the first
        assert len(stage.run_each(task)) == 2
        assert {path.name for path in task.out.iterdir()} == {"shift1", "shift2"}
        for shift in (1, 2):
            alone = contents(tmp_path / f"alone{shift}")
            assert contents(task.out / f"shift{shift}") == alone
    (task.out / "shift1" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="'shift1', which is not a score"):
        stage.run_each(task)
    assert (task.out / "shift1" / "notes.txt").read_text() == "mine"
    with pytest.raises(UserError, match="holds no zip of masks"):
        stage.run_each(Task(truth, truth, tmp_path / "none"))


def test_what_a_report_needs_is_written_where_it_is_asked_for(
    truth: Path, results: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        run(Task(results, truth, tmp_path / "scores", for_report=True))
        assert set(contents(tmp_path / "scores")) == {*FILES, "areas.csv", "examples.zip"}
    run(Task(results, truth, tmp_path / "scores"))
    assert set(contents(tmp_path / "scores")) == FILES


def test_tables_have_the_promised_columns(truth: Path, results: Path) -> None:
    result = score(results, truth)
    assert list(result.frames.columns) == ["sequence", "object", "frame", "J", "F"]
    assert list(result.objects.columns) == [
        "sequence",
        "object",
        "J-Mean",
        "J-Recall",
        "J-Decay",
        "F-Mean",
        "F-Recall",
        "F-Decay",
    ]
    assert list(result.sequences.columns) == ["sequence", "J&F-Mean", "J-Mean", "F-Mean"]
    assert list(result.means) == [
        "J&F-Mean",
        "J-Mean",
        "J-Recall",
        "J-Decay",
        "F-Mean",
        "F-Recall",
        "F-Decay",
    ]
    assert len(result.frames) == 24
    assert result.means["J-Mean"] == pytest.approx(result.objects["J-Mean"].mean(), abs=1e-12)
    assert result.frames["frame"].iloc[0] == "00001"


def test_second_run_over_changed_predictions_gives_new_numbers(
    truth: Path, results: Path, tmp_path: Path
) -> None:
    first = run(Task(results, truth, tmp_path / "out")).means
    before = contents(tmp_path / "out")
    shutil.rmtree(results)
    fill(results, 0)
    assert run(Task(results, truth, tmp_path / "out")).means["J&F-Mean"] == 1.0 > first["J&F-Mean"]
    assert contents(tmp_path / "out")["frames.csv"] != before["frames.csv"]


def test_protocols_choose_frames(truth: Path, results: Path) -> None:
    counts = {
        name: len(score(results, truth, name, sequences=["bear"]).frames) // 2
        for name in ("davis", "visor", "long_videos", "all_frames")
    }
    assert counts == {"davis": 3, "visor": 4, "long_videos": 4, "all_frames": 5}


def test_youtube_vos_scores_late_objects_after_their_first_mask(truth: Path, results: Path) -> None:
    for index in (2, 3, 4):
        (truth / "bear" / f"{index:05d}.png").write_bytes(encode_mask(draw(0, late=True)))
    result = score(
        results,
        truth,
        "youtube_vos",
        sequences=["bear"],
        categories={("bear", n): "bear" for n in (1, 2, 3)},
        seen=["bear"],
    )
    frames = result.frames.groupby("object")["frame"].apply(list)
    assert frames[1] == ["00001", "00002", "00003", "00004"]
    assert frames[3] == ["00003", "00004"]
    assert result.means["J-Seen"] == result.means["J-Mean"]
    assert result.means["G"] != result.means["G"]  # no unseen object: undefined rather than made up


def test_split_file_sets_order_and_choice(truth: Path, results: Path, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("dog\n\nbear\n")
    run(Task(results, truth, tmp_path / "out", split=tmp_path / "val.txt"))
    lines = (tmp_path / "out" / "per-sequence_results-val.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "Sequence",
        "dog_1",
        "dog_2",
        "bear_1",
        "bear_2",
    ]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_rgb_predictions_are_mapped_when_asked_for(truth: Path, results: Path) -> None:
    wanted = score(results, truth).means
    for file in results.rglob("*.png"):
        file.write_bytes(png(Image.fromarray(davis_palette()[np.array(Image.open(file))])))
    assert score(results, truth, rgb=True).means == wanted
    (results / "bear" / "00002.png").write_bytes(png(Image.new("RGB", (32, 24), (1, 2, 3))))
    with pytest.raises(
        UserError,
        match=r"bear/00002\.png is RGB and holds colours that are not in the DAVIS palette",
    ):
        score(results, truth, rgb=True)


Spoil = Callable[[Path, Path], object]
FRAME, FIRST = "camel/00002.png", "camel/00000.png"


def predicted(data: bytes) -> Spoil:
    return lambda results, truth: (results / FRAME).write_bytes(data)


def true(frame: str, mask: np.ndarray) -> Spoil:
    return lambda results, truth: (truth / frame).write_bytes(encode_mask(mask))


def in_two_folders(results: Path, truth: Path) -> None:
    shutil.copytree(results / "bear", results / "b" / "bear")
    shutil.move(results / "bear", results / "a" / "bear")


TURNED = np.ascontiguousarray(draw(0).T)
WIDE = Image.fromarray(draw(0).astype(np.uint16) * 300)
BAD: dict[str, tuple[Spoil, str]] = {
    "missing frame": (lambda r, t: (r / FRAME).unlink(), r"camel/00002\.png is missing \(1 of 4"),
    "missing sequence": (
        lambda r, t: shutil.rmtree(r / "camel"),
        r"sequence 'camel' is missing; its frames 00001 to 00004",
    ),
    "no predictions": (
        lambda r, t: [shutil.rmtree(p) for p in r.iterdir()],
        r"sequence 'bear' is missing",
    ),
    "no results": (lambda r, t: shutil.rmtree(r), r"results: no such folder or zip"),
    "no truth": (
        lambda r, t: [shutil.rmtree(p) for p in t.iterdir()],
        r"truth: there is nothing to score",
    ),
    "wrong size": (
        predicted(encode_mask(TURNED)),
        r"camel/00002\.png is 32x24, its true mask is 24x32",
    ),
    "true masks of two sizes": (true(FRAME, TURNED), r"camel/00002\.png is 32x24, but the first"),
    "unknown id": (
        predicted(encode_mask(draw(0, late=True))),
        r"camel/00002\.png holds id 3, but the objects.*1, 2",
    ),
    "void predicted": (
        predicted(encode_mask(draw(0) + 253)),
        r"camel/00002\.png holds id 253, 254, 255",
    ),
    "RGB": (
        predicted(png(Image.new("RGB", (32, 24)))),
        r"camel/00002\.png: .* this file is RGB",
    ),
    "16 bit": (predicted(png(WIDE)), r"camel/00002\.png: .* values from 0 to 600"),
    "cut off": (
        predicted(encode_mask(draw(0))[:-40]),
        r"camel/00002\.png: .*cannot be read as a PNG mask",
    ),
    "no image": (predicted(b"text"), r"camel/00002\.png: .*cannot be read as a PNG mask"),
    "first truth empty": (true(FIRST, draw(0) * 0), r"camel/00000\.png is empty"),
    "first truth only void": (true(FIRST, draw(0) * 0 + 255), r"camel/00000\.png is empty"),
    "two frames": (
        lambda r, t: [(t / f"bear/0000{n}.png").unlink() for n in (2, 3, 4)],
        r"'bear' has 2 true masks \(00000, 00001\)",
    ),
    "sequence in two folders": (in_two_folders, r"'bear' is in several folders: a/bear, b/bear"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_and_nothing_is_harmed(
    case: str, truth: Path, results: Path, tmp_path: Path
) -> None:
    run(Task(results, truth, tmp_path / "out"))
    before = contents(tmp_path / "out")
    spoil, message = BAD[case]
    spoil(results, truth)
    with pytest.raises((UserError, FileNotFoundError), match=message):
        run(Task(results, truth, tmp_path / "out"))
    assert contents(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_errors_of_workers_reach_the_caller(truth: Path, results: Path, tmp_path: Path) -> None:
    (results / FRAME).write_bytes(b"text")
    with pytest.raises(UserError, match=r"camel/00002\.png"):
        score(results, truth, workers=2)


def test_damaged_and_truncated_zips_are_refused(truth: Path, results: Path, tmp_path: Path) -> None:
    archive = tmp_path / "results.zip"
    write_mask_zip(
        archive,
        [
            (file.parent.name, file.stem, file.read_bytes())
            for file in sorted(results.rglob("*.png"))
        ],
    )
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="not a readable zip"):
        score(archive, truth)
    with zipfile.ZipFile(io.BytesIO(data)) as whole:
        at = whole.getinfo(FRAME).header_offset
    damaged = bytearray(data)
    damaged[at + 80] ^= 255
    archive.write_bytes(damaged)
    with pytest.raises(UserError, match=r"camel/00002\.png is damaged inside the zip"):
        score(archive, truth)


def test_zip_names_that_lead_elsewhere_are_refused(truth: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "results.zip", "w") as archive:
        archive.writestr("../bear/00001.png", encode_mask(draw(0)))
    with pytest.raises(UserError, match=r"entry '\.\./bear/00001\.png' leads out of its folder"):
        score(tmp_path / "results.zip", truth)


def test_full_disk_leaves_the_earlier_scores(
    truth: Path, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(Task(results, truth, tmp_path / "out"))
    before = contents(tmp_path / "out")
    (results / FRAME).write_bytes(encode_mask(draw(0)))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stage, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        run(Task(results, truth, tmp_path / "out"))
    assert contents(tmp_path / "out") == before
    assert {path.name for path in tmp_path.iterdir()} == {"truth", "results", "out"}


def test_tracking_is_told_and_its_failure_is_one_line(
    truth: Path,
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    told = []

    @contextmanager
    def remember(**facts: object) -> Iterator[SimpleNamespace]:
        told.append(facts)
        yield SimpleNamespace(
            metrics=lambda values, step: told.append(values),
            artifact=lambda path, folder: told.append((folder, path.name)),
        )

    (tmp_path / "summary.json").write_text(
        json.dumps({"noise": {"kind": "dilate", "q_achieved": 0.8, "more": {}}})
    )
    where = Tracking("a-b", "smoke", tmp_path / "summary.json")
    monkeypatch.setattr(tracking, "run", remember)
    means = run(Task(results, truth, tmp_path / "out"), where).means
    tags = {"noise.kind": "dilate", "noise.q_achieved": 0.8}
    values = {"truth/J": means["J-Mean"], "truth/F": means["F-Mean"], "truth/JF": means["J&F-Mean"]}
    assert told == [
        {"cell": "a-b", "preset": "smoke", "block": "", "stage": "score", "tags": tags},
        values,
        ("truth", "objects.csv"),
    ]

    monkeypatch.setattr(tracking, "run", lambda **_: 1 / 0)
    capsys.readouterr()
    run(Task(results, truth, tmp_path / "out"), where)
    assert capsys.readouterr().err.splitlines() == [
        "noisyvos: warning: these scores are not tracked (ZeroDivisionError: division by zero)"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "davi"}, r"Unknown protocol 'davi'\. Did you mean 'davis'\?"),
        ({"options": {"decay": "wrong"}}, "Unknown kind of decay"),
        ({"workers": 0}, "At least one worker"),
        ({"subset": "../val"}, "cannot be the name of a set"),
    ],
)
def test_bad_settings(
    options: dict, message: str, truth: Path, results: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        run(Task(results, truth, tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things_is_never_replaced(truth: Path, results: Path) -> None:
    before = sorted(results.rglob("*"))
    with pytest.raises(UserError, match="holds 'bear', which is not a score and would be lost"):
        run(Task(results, truth, results))
    assert sorted(results.rglob("*")) == before


def test_command_line(truth: Path, results: Path, tmp_path: Path) -> None:
    arguments = [
        "score",
        "--results",
        str(results),
        "--truth",
        str(truth),
        "--protocol",
        "davis",
        "--out",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "6 objects of 3 sequences" in done.output
    assert set(contents(tmp_path / "out")) == FILES


def test_command_line_exits_with_one_sentence_and_imports_nothing_heavy(
    truth: Path, results: Path, tmp_path: Path
) -> None:
    program = (
        "import sys, noisyvos.cli as c\ntry: c.main()\nfinally: "
        "print(sorted({'torch', 'pandas', 'mlflow', 'scipy'} & set(sys.modules)))"
    )
    arguments = [
        "score",
        "--results",
        str(results),
        "--truth",
        str(truth),
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    (results / FRAME).unlink()
    shutil.rmtree(tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip().count("\n") == 0
    assert "camel/00002.png is missing" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_gap_is_an_object_if_a_later_mask_has_it(tmp_path: Path) -> None:
    masks = [np.zeros((20, 30), np.uint8) for _ in range(4)]
    for mask in masks:
        mask[2:8, 2:8], mask[10:16, 20:28] = 1, 4
    masks[2][10:16, 2:8] = 3  # appears late, as no object of DAVIS does; 2 never does
    for frame, mask in enumerate(masks):
        for folder in ("truth", "results"):
            path = tmp_path / folder / "car" / f"{frame:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_mask(mask))
    task = Task(tmp_path / "results", tmp_path / "truth", tmp_path / "out")
    scores = run(task)
    assert scores.made_up == {"car": {"ids": [1, 3, 4], "made_up": 1}}
    facts = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert facts["made_up_objects"] == scores.made_up


def test_published_ids_have_no_gaps_to_warn_of(
    truth: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(Task(results, truth, tmp_path / "out"))
    assert capsys.readouterr().err == ""
    assert "made_up_objects" not in json.loads((tmp_path / "out" / "scores.json").read_text())
