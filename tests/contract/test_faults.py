"""Faults of inputs, by kind: each is refused in a sentence, before expensive work."""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from training_world import SCHEDULE, make_world

from noisyvos import models
from noisyvos.analysis.results import _joined, check_scores
from noisyvos.cli import main
from noisyvos.cli.app import check_outputs
from noisyvos.datasets.layout import VideoDataset, read_meta
from noisyvos.errors import UserError
from noisyvos.io.atomic import atomic_file, write_text
from noisyvos.io.forms import InstancesFile, VideoMeta, check_form, damaged
from noisyvos.io.hashing import file_hash
from noisyvos.io.images import encode_frame
from noisyvos.io.mask_reader import open_mask
from noisyvos.io.masks import encode_mask, write_mask_zip
from noisyvos.io.names import DEEPEST, plain_name, problem
from noisyvos.io.text import read_text
from noisyvos.media.videos import _open, movie_writer, open_video
from noisyvos.metrics.submission import problems
from noisyvos.models.pretrained import load_checkpoint
from noisyvos.models.unpickling import load_tensors
from noisyvos.models.weights import read_state
from noisyvos.params.validate import check
from noisyvos.raw.fetch.obtain import _announce
from noisyvos.raw.fetch.transfer import Remote
from noisyvos.raw.fetch.unpack import unpack
from noisyvos.registry import LARGEST_NUMBER
from noisyvos.report.tables import latex_escape
from noisyvos.tracking.store import lock_file
from noisyvos.training.checkpoint import what_is_kept
from noisyvos.training.clip_readers import VideoClips
from noisyvos.training.schedule import Schedule
from noisyvos.training.task import TrainingTask, carry_out

PARAMS = Path(__file__).resolve().parents[2] / "params"


# names that become paths


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../../evil", "leads out"),
        ("a/../../evil", "leads out"),
        ("..\\evil", "leads out"),
        ("C:/evil", "leads out"),
        ("/evil", "leads out"),
        ("~/evil", "leads out"),
        ("", "is empty"),
        (7, "is not a text"),
        ("a\nb", "control character"),
        ("\ud800", "not Unicode"),
        ("x" * 256, "longer than 255"),
        ("d/" * DEEPEST + "x", "nested more than"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: object, why: str) -> None:
    with pytest.raises(UserError, match=why):
        plain_name(name, "list.txt")


def test_a_single_name_has_no_folders_and_is_not_hidden() -> None:
    assert problem("P01_01/x") is None
    assert problem("P01_01/x", folders=False) == "holds a slash"
    assert problem(".x", folders=False) == "is hidden"
    assert problem("my dog.jpg", folders=False) is None


@pytest.mark.parametrize("name", ["../evil.png", "d/" * 400 + "x.png", "a/\x01.png"])
def test_archives_with_such_names_are_not_unpacked(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good/x.png", "x")
        archive.writestr(name, "x")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="the archive is not unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "out", kind="zip")
    assert not (tmp_path / "evil.png").exists()


# outputs


def test_an_output_that_is_an_input_is_refused(tmp_path: Path) -> None:
    data, link = tmp_path / "data.zip", tmp_path / "link.zip"
    data.write_text("x")
    link.symlink_to(data)
    opts = {"zip": "--zip", "out": "--out", "summary": "--summary", "weights": "--weights"}
    with pytest.raises(UserError, match=r"--out would replace this input"):
        check_outputs("submit", {"zip": link, "out": data}, opts)
    with pytest.raises(UserError, match="name the same"):
        check_outputs("train", {"weights": link, "summary": data}, opts)
    with pytest.raises(UserError, match="a path is needed"):
        check_outputs("submit", {"zip": data, "out": Path(" ")}, opts)
    with pytest.raises(UserError, match=r"--summary is a file, and --weights would be inside"):
        check_outputs(
            "train", {"weights": tmp_path / "s" / "w.safetensors", "summary": tmp_path / "s"}, opts
        )
    check_outputs("infer", {"weights": str(data), "out": tmp_path / "new"}, opts)


@pytest.mark.parametrize(
    "words",
    [
        ["convert", "unify", "--name", "ECSSD", "--src", "x", "--dst", ""],
        ["convert", "unify", "--name", "ECSSD", "--src", "x", "--dst="],
        ["convert", "unify", "--name", "ECSSD", "--src", "", "--dst", "x"],
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["noisyvos", *words])
    with pytest.raises(SystemExit):
        main()
    flag = "--src" if words[-1] == "x" else "--dst"
    assert f"{flag}: a path is needed here." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_device_is_no_output(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="a device or a pipe"), atomic_file(tmp_path / "pipe"):
        pass
    with pytest.raises(UserError, match="a device or a pipe"):
        write_text("/dev/null", "x")


# what is no file


@pytest.mark.timeout(20)
def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mask.png")
    for read in (open_mask, read_text, file_hash):
        with pytest.raises(UserError, match="a pipe or a device"):
            read(tmp_path / "mask.png")
        with pytest.raises(UserError, match="a pipe or a device"):
            read(Path("/dev/zero"))
    world = make_world(tmp_path / "world")
    mask = next((world / "data" / "masks").rglob("*.png"))
    mask.unlink()
    os.mkfifo(mask)
    with pytest.raises(UserError, match="a pipe or a device"):
        VideoClips(world / "data", None, 3)


@pytest.mark.timeout(20)
def test_a_pipe_is_no_archive_and_no_submission(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.zip")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="a pipe or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "out", kind="zip")
    videos = VideoDataset(make_world(tmp_path / "world") / "data")
    with pytest.raises(UserError, match="a pipe or a device"):
        problems(tmp_path / "a.zip", videos, "davis")


# stored CSV


@pytest.mark.parametrize("files", [1, 2])
def test_a_row_longer_than_the_header_is_named(tmp_path: Path, files: int) -> None:
    paths = [tmp_path / f"{number}.csv" for number in range(files)]
    for path in paths:
        path.write_text("sequence,object\na,1\nb,2\n")
    table, sizes = _joined(paths, ("sequence", "object"))
    assert (len(table), sizes) == (2 * files, [2] * files)
    paths[-1].write_text("sequence,object\na,1,1\nb,2\n")
    with pytest.raises(UserError, match=rf"{files - 1}\.csv: a row of this CSV file has more"):
        _joined(paths, ("sequence", "object"))


# stored JSON


def _meta() -> dict:
    entry = {"frames": ["0", "1"], "masks": ["0"], "size": [32, 40], "objects": [1]}
    return {"kind": "video", "name": "d", "sequences": {"a": entry}}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("sequences", []),
        ("name", 3),
        ("frames", "0"),
        ("frames", []),
        ("frames", ["../x"]),
        ("frames", ["0", "1", "0"]),
        ("masks", ["0", "0"]),
        ("masks", None),
        ("size", [32]),
        ("size", [32, 10**9]),
        ("size", ["32", 40]),
        ("objects", [0]),
        ("objects", [255]),
        ("suffix", "/../x"),
        ("repeat", 10**9),
        ("origin", ["a"]),
        ("settings", {"source": {"a": 1}}),
        ("settings", {"split": ["val"]}),
        ("split", {}),
    ],
)
def test_a_damaged_meta_json_is_refused_by_its_name(
    tmp_path: Path, place: str, value: object
) -> None:
    meta = _meta()
    check_form(meta, VideoMeta, "meta.json")
    whole = place in VideoMeta.model_fields
    (meta if whole else meta["sequences"]["a"])[place] = value
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(
        UserError, match=r"meta\.json: this file is damaged.*Run `noisyvos convert`"
    ):
        VideoDataset(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "true", '{"kind": 3}', "\xff", "[" * 100_000])
def test_no_meta_json_at_all(tmp_path: Path, text: str) -> None:
    (tmp_path / "meta.json").write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match=r"meta\.json"):
        read_meta(tmp_path, kind=None)


def test_damaged_instances_are_refused() -> None:
    image = {"id": 1, "file_name": "a.jpg", "height": 4, "width": 4}
    entry = {"id": 1, "image_id": 1, "segmentation": [[0, 0, 3, 0, 3, 3]], "bbox": [0, 0, 3, 3]}
    check_form({"images": [image], "annotations": [entry]}, InstancesFile, "i")
    for change in ({"bbox": [1]}, {"segmentation": 5}, {"iscrowd": 7}, {"image_id": None}):
        content = {"images": [image], "annotations": [entry | change]}
        with pytest.raises(UserError, match=r"i: this file is damaged: annotations\.0"):
            check_form(content, InstancesFile, "i")


def test_errors_of_a_content_name_its_file() -> None:
    for error in (KeyError("x"), zipfile.BadZipFile("cut"), RecursionError(), EOFError()):
        with pytest.raises(UserError, match="f: this file is damaged"), damaged("f"):
            raise error
    with pytest.raises(UserError, match=r"^own$"), damaged("f"):
        raise UserError("own")
    with pytest.raises(OSError, match="disk"), damaged("f"):
        raise OSError("disk")


# numbers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", 10**9),
        ("batch", 10**6),
        ("workers", 10**4),
        ("objects", 255),
        ("clip_length", 10**5),
        ("crop", 10**6),
        ("learning_rate", 1e30),
        ("warmup", LARGEST_NUMBER + 1),
        ("batch", True),
    ],
)
def test_numbers_have_limits(name: str, value: float) -> None:
    Schedule(**SCHEDULE)
    with pytest.raises(ValueError, match=name):
        Schedule(**SCHEDULE | {name: value})


def test_corners_of_1e308_are_refused(tmp_path: Path) -> None:
    from noisyvos.datasets.coco_format import check_corners, read_coco

    entry = {"id": 1, "image_id": 1, "bbox": [0, 0, 1, 1], "segmentation": [[0, 0, 1e308, 0, 5, 5]]}
    image = {"id": 1, "file_name": "a.jpg", "height": 4, "width": 4}
    file = tmp_path / "c.json"
    for bad in (1e308, 10**400, 1e7):
        entry["segmentation"] = [[0, 0, bad, 0, 5, 5]]
        file.write_text(json.dumps({"images": [image], "annotations": [entry]}))
        with pytest.raises(UserError, match=r"a corner"):
            read_coco(file)
    with pytest.raises(ValueError, match="a corner"):
        check_corners(np.array([[0, np.nan]]))


def test_scores_outside_0_to_1_are_refused() -> None:
    import pandas as pd

    good = pd.DataFrame({"sequence": ["a"], "object": [1], "J-Mean": [0.5], "F-Mean": [-1e-17]})
    check_scores([Path("o.csv")], good, [1])
    for change in ({"J-Mean": -7.0}, {"F-Mean": 1.5}, {"J-Mean": "x"}, {"F-Mean": float("nan")}):
        with pytest.raises(UserError, match=r"o\.csv: .-Mean must be a number from 0 to 1"):
            check_scores([Path("o.csv")], good.assign(**change), [1])
    with pytest.raises(UserError, match="twice"):
        check_scores([Path("o.csv")], pd.concat([good, good]), [2])


# parameter files


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("70: {kind: clean}", "is not text"),
        ("~: {kind: clean}", "is not text"),
        ("x: {kind: [1]}", "`kind` must be the name"),
        ("x: {kind: dilate, q: true}", "truth value"),
        ("x: {kind: clean}\nx: {kind: clean}", "given twice"),
        ("x: {kind: dilate, q: .nan}", "not finite"),
        ("x: {kind: dilate, q: 1.0e+400}", "not finite"),
        ("x: " + "[" * 20_000, "nested"),
        ("x: 0x" + "f" * 5000, "expected settings"),
        ("# \udce9", "not UTF-8"),
        ("x: !!python/object/apply:os.system ['true']", "not valid YAML"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1]\n"
            + "".join(
                f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdef", "bcdefg")
            ),
            "values once its aliases are written out",
        ),
    ],
)
def test_a_broken_parameter_file_gives_one_error(tmp_path: Path, text: str, message: str) -> None:
    import shutil

    shutil.copytree(PARAMS, tmp_path / "params")
    file = tmp_path / "params" / "noise.yaml"
    file.write_bytes(file.read_bytes() + b"\n" + text.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(UserError) as caught:
        check(tmp_path / "params")
    lines = str(caught.value).splitlines()
    assert lines[0] == "1 error in the parameter files:"
    assert message in lines[1]
    assert "noise.yaml" in lines[1]


# weights


class _Touch:
    def __reduce__(self) -> tuple:
        return os.system, ("touch executed",)


def _saved(content: object, *, old: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("old", [False, True])
def test_nothing_in_a_checkpoint_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "w.pth"
    file.write_bytes(_saved({"state_dict": {"w": torch.ones(2)}, "args": _Touch()}, old=old))
    assert read_state(file)["w"].tolist() == [1, 1]
    file.write_bytes(_saved(_Touch(), old=old))
    with pytest.raises(UserError, match="would execute code"):
        read_state(file)
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]


@pytest.mark.parametrize(
    "state",
    [
        (None, {"__defaults__": (1, 2)}),
        (None, {"dump_patches": True, "__name__": "evil"}),
        {"x": 1},
    ],
)
def test_a_checkpoint_changes_no_function_of_torch(state: object) -> None:
    before = torch._utils._rebuild_tensor_v2.__defaults__
    # the function itself, then BUILD with the state, as a hostile file has it
    head, body = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n", pickle.dumps(state, 2)[2:-1]
    data = head + body + b"b."
    with pytest.raises(pickle.UnpicklingError, match="wants to change a function"):
        load_pickle(data)
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before
    assert not hasattr(torch._utils._rebuild_tensor_v2, "dump_patches")


def load_pickle(data: bytes) -> object:
    """Load bare bytes with the project's unpickler."""
    from noisyvos.models.unpickling import TensorUnpickler

    return TensorUnpickler(io.BytesIO(data)).load()


def test_a_tar_archive_is_no_checkpoint(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "w.pth", "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    with (tmp_path / "w.pth").open("rb") as file, pytest.raises(pickle.UnpicklingError):
        load_tensors(file)
    with pytest.raises(UserError, match="damaged"):
        read_state(tmp_path / "w.pth")


@pytest.mark.timeout(30)
def test_checkpoints_that_contain_themselves_end(tmp_path: Path) -> None:
    loop: dict = {}
    loop["state_dict"] = loop
    pair: dict = {"model": {}}
    pair["model"]["state_dict"] = pair
    deep: dict = {"w": torch.ones(1)}
    for _ in range(200):
        deep = {"state_dict": deep}
    for content in (loop, pair, deep):
        torch.save(content, tmp_path / "e.pth")
        with pytest.raises(UserError, match="contains itself"):
            read_state(tmp_path / "e.pth")


def test_attributes_of_a_dictionary_do_not_mislead() -> None:
    from collections import OrderedDict

    state = OrderedDict(w=torch.ones(2))
    state.items = state.keys = 5  # type: ignore[assignment, method-assign]
    assert read_state(state)["w"].tolist() == [1, 1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_write_no_masks(value: float) -> None:
    network = models.build("xmem_tiny", seed=0)
    state = {name: weight.clone() for name, weight in network.state_dict().items()}
    load_checkpoint(network, state, "zero")
    name = next(name for name, weight in state.items() if weight.is_floating_point())
    state[name][(0,) * state[name].ndim] = value
    with pytest.raises(UserError, match=f"not all finite numbers: {name}"):
        load_checkpoint(network, state, "zero")


# training


def test_labels_without_any_object_are_not_trained_on(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    data = VideoDataset(world / "data")
    for value in (0, 255):
        empty = encode_mask(np.full((32, 40), value, np.uint8))
        write_mask_zip(
            world / "empty.zip",
            (
                (video.name, frame, empty)
                for video in data.sequences.values()
                for frame in video.masks
            ),
        )
        with pytest.raises(UserError, match="no mask of these labels names an object"):
            VideoClips(world / "data", world / "empty.zip", 3)
    VideoClips(world / "data", world / "noisy.zip", 3)


def test_a_failed_training_says_which_checkpoint_there_is(tmp_path: Path) -> None:
    assert "wrote no checkpoint" in what_is_kept(tmp_path / "checkpoint.pt")
    (tmp_path / "checkpoint-00000005.pt").write_text("")
    assert f"{tmp_path}/checkpoint-00000005.pt is kept" in what_is_kept(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("option", ["cell", "preset"])
def test_a_cell_cannot_leave_the_scratch_folder(tmp_path: Path, option: str) -> None:
    places = {
        name: tmp_path / name for name in ("params", "weights", "summary", "curve", "scratch")
    }
    names = {name: "x" for name in ("stage", "cell", "preset", "model", "method", "schedule")}
    task = TrainingTask(**(names | {option: "../x"}), seed=0, **places)
    with pytest.raises(UserError, match=rf"--{option}: the name '../x' leads out of its folder"):
        carry_out(task, lambda schedule: None, {}, {})
    assert list(tmp_path.iterdir()) == []


# movies


def test_playlists_are_not_followed(tmp_path: Path) -> None:
    with movie_writer(tmp_path / "m.mp4", (48, 64), 10) as append:
        for shade in (0, 90, 180):
            append(np.full((48, 64, 3), shade, np.uint8))
    assert len(list(open_video(tmp_path / "m.mp4"))) == 3
    texts = {
        "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nm.mp4\n#EXT-X-ENDLIST\n",
        "b.mp4": "ffconcat version 1.0\nfile m.mp4\n",
        "c.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match="Playlists are not"):
            open_video(tmp_path / name)
        assert not _open(tmp_path / name).isOpened()  # the same for a playlist in disguise


# the rest


def test_http_without_a_sum_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    _announce(Remote("http://a.example/x.zip"), {})
    assert "without a published sum" in capsys.readouterr().err
    _announce(Remote("http://a.example/x.zip", md5="0" * 32), {})
    _announce(Remote("https://a.example/x.zip"), {})
    _announce(Remote("http://a.example/x.zip"), {"sha256": "1"})
    assert capsys.readouterr().err == ""


def test_the_lock_of_a_database_is_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lock_file(f"sqlite:///{tmp_path}/a/m.db") == tmp_path / "a" / ".m.db.lock"
    assert lock_file("sqlite:///mlflow.db") == tmp_path / ".mlflow.db.lock"
    assert lock_file("http://x:5000") == tmp_path / "scratch" / "mlflow.lock"


def test_every_special_character_of_latex_is_escaped() -> None:
    assert latex_escape("\\ $ { } ~ ^ _ % & #") == (
        r"\textbackslash{} \$ \{ \} \textasciitilde{} \textasciicircum{} \_ \% \& \#"
    )


def test_a_traversal_in_youtube_vos_names_writes_nothing(tmp_path: Path) -> None:
    from noisyvos.stages import convert

    raw = tmp_path / "raw" / "train"
    frame = encode_frame(np.zeros((32, 48, 3), np.uint8))
    mask = np.zeros((32, 48), np.uint8)
    mask[4:20, 4:20] = 1
    for name in ("../../evil", "fine"):
        for folder, data, suffix in (
            ("JPEGImages", frame, "jpg"),
            ("Annotations", encode_mask(mask), "png"),
        ):
            place = Path(os.path.normpath(raw / folder / name))
            place.mkdir(parents=True, exist_ok=True)
            (place / f"00000.{suffix}").write_bytes(data)
    params = tmp_path / "params"
    params.mkdir()
    (params / "datasets.yaml").write_text(
        yaml.safe_dump({"d": {"kind": "youtube_vos", "source": "s", "size": 32}})
    )
    out = tmp_path / "converted" / "d"

    def write(name: str, frames: list[str]) -> None:
        objects = {"1": {"category": "x", "frames": frames}}
        content = {"videos": {name: {"objects": objects}}}
        (raw / "meta.json").write_text(json.dumps(content))

    for name, frames in (("../../evil", ["00000"]), ("fine", ["../../../evil"])):
        write(name, frames)
        with pytest.raises(UserError, match=r"meta\.json.*leads out of its folder"):
            convert.run("d", raw=tmp_path / "raw", out=out, params=params)
        assert not (tmp_path / "converted" / "evil").exists()
        assert not out.exists()
    write("fine", ["00000"])
    convert.run("d", raw=tmp_path / "raw", out=out, params=params)
    assert list(VideoDataset(out).sequences) == ["fine"]
