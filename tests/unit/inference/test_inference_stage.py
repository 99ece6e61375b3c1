"""Stage `infer`: prompts are first appearances only, outputs are complete and repeat exactly."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from noisyvos.datasets.layout import Sequence, VideoDataset, write_video_meta
from noisyvos.errors import UserError
from noisyvos.inference.prompts import first_masks
from noisyvos.inference.settings import MemoryOptions
from noisyvos.io.images import encode_frame, read_frame
from noisyvos.io.masks import MaskCollection, encode_mask, write_mask_zip
from noisyvos.media.overlays import overlay_folder
from noisyvos.stages import infer, merge

HEIGHT, WIDTH, LENGTH = 24, 32, 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Two sequences: `one` with object 1; `two`, where object 5 comes late and masks are sparse."""
    root = tmp_path_factory.mktemp("data") / "toy"
    random = np.random.default_rng(0)
    sequences = []
    for name, masked, ids in (("one", range(LENGTH), (1,)), ("two", (0, 2, 4), (1, 5))):
        frames = tuple(f"{index:05d}" for index in range(LENGTH))
        for folder in ("frames", "masks"):
            (root / folder / name).mkdir(parents=True)
        for index, frame in enumerate(frames):
            picture = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            (root / "frames" / name / f"{frame}.jpg").write_bytes(encode_frame(picture))
            if index in masked:
                mask = np.zeros((HEIGHT, WIDTH), np.uint8)
                mask[4 : 12 + index, 4:14] = 1
                mask[:2] = 255
                if 5 in ids and index >= 2:
                    mask[14:22, 16 : 26 + index] = 5
                (root / "masks" / name / f"{frame}.png").write_bytes(encode_mask(mask))
        sequences.append(
            Sequence(name, frames, tuple(frames[i] for i in masked), (HEIGHT, WIDTH), ids)
        )
    write_video_meta(root, "toy", sequences)
    return root


@pytest.fixture(scope="module")
def params(tmp_path_factory) -> Path:
    """Parameter files of the stage."""
    folder = tmp_path_factory.mktemp("params")
    (folder / "models.yaml").write_text("small: {kind: xmem_tiny, width: 8}\n")
    (folder / "eval.yaml").write_text(
        "default: {memory: {xmem_tiny: {mem_every: 2}, other: {x: 1}}}\nsmall: {size: 16}\n"
        "wrong: {memory: {xmem_tiny: {mem_evry: 2}}}\n"
        "odd: {sizes: 3}\n"
    )
    (folder / "corruptions.yaml").write_text("noise30: {kind: gaussian_noise, sigma: 30}\n")
    return folder


def test_prompts_hold_every_object_once(dataset) -> None:
    videos = VideoDataset(dataset)
    prompts = first_masks(videos, videos.sequences["two"])
    assert {index: sorted(np.unique(mask)) for index, mask in prompts.items()} == {
        0: [0, 1],
        2: [0, 5],
    }
    assert (prompts[2] == 5).sum() == 8 * 12


def test_first_mask_baseline(dataset, tmp_path, capsys) -> None:
    infer.run(dataset, out=tmp_path / "a.zip", baseline="first_mask")
    found = MaskCollection(tmp_path / "a.zip")
    truth = VideoDataset(dataset)
    assert found.sequences() == ("one", "two")
    assert len(found.frames("two")) == LENGTH
    first = truth.read_mask("one", "00000") == 1
    assert all(
        np.array_equal(found.read("one", frame) == 1, first) for frame in found.frames("one")
    )
    assert [5 in found.read("two", frame) for frame in found.frames("two")] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert "2 sequences, 10 frames of toy" in capsys.readouterr().out


def test_baseline_needs_no_torch(dataset, tmp_path) -> None:
    code = (
        "import sys; from pathlib import Path; from noisyvos.stages import infer; "
        f"infer.run(Path({str(dataset)!r}), out=Path({str(tmp_path / 'a.zip')!r}), "
        "baseline='first_mask'); sys.exit('torch' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode
        == 0
    )


def test_network(dataset, params, tmp_path) -> None:
    for name in ("a", "b"):
        infer.run(
            dataset,
            out=tmp_path / f"{name}.zip",
            model="small",
            weights="none",
            params=params,
            device="cpu",
        )
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    found = MaskCollection(tmp_path / "a.zip")
    truth = VideoDataset(dataset)
    assert [len(found.frames(name)) for name in found.sequences()] == [LENGTH, LENGTH]
    assert np.array_equal(found.read("one", "00000") == 1, truth.read_mask("one", "00000") == 1)
    infer.run(
        dataset,
        out=tmp_path / "c.zip",
        model="small",
        weights="none",
        settings="small",
        params=params,
        device="cpu",
    )
    assert MaskCollection(tmp_path / "c.zip").read("one", "00004").shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Give --model and --weights"),
        ({"model": "small"}, "Give --model and --weights"),
        (
            {"model": "smal", "weights": "none"},
            "Unknown model of models.yaml 'smal'. Did you mean 'small'",
        ),
        (
            {"model": "small", "weights": "none", "settings": "defaults"},
            "Unknown evaluation setting of eval.yaml 'defaults'",
        ),
        (
            {"model": "small", "weights": "none", "settings": "wrong"},
            "'mem_evry'. Did you mean 'mem_every'",
        ),
        ({"model": "small", "weights": "none", "settings": "odd"}, "eval.yaml: odd: sizes"),
        ({"model": "small", "weights": "none", "device": "gpu"}, "Device 'gpu' is not here"),
        ({"baseline": "last_mask"}, "Unknown baseline 'last_mask'"),
        ({"baseline": "first_mask", "model": "small"}, "takes no network"),
    ],
)
def test_bad_requests_leave_what_is_there(dataset, params, tmp_path, arguments, message) -> None:
    (tmp_path / "out.zip").write_bytes(b"earlier result")
    with pytest.raises(ValueError, match=message):
        infer.run(dataset, out=tmp_path / "out.zip", params=params, **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["out.zip"]
    assert (tmp_path / "out.zip").read_bytes() == b"earlier result"


def test_a_folder_of_other_things_is_refused_before_the_network_is_built(
    dataset, params, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("noisyvos.models.build", lambda *_, **__: pytest.fail("built"))
    (tmp_path / "notes.txt").write_text("mine")
    options = {"model": "small", "weights": "none", "params": params}
    with pytest.raises(UserError, match=r"not an earlier result \(probabilities\)"):
        infer.run(dataset, out=tmp_path / "a.zip", probabilities=tmp_path, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_missing_weights_and_frames(dataset, params, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors: no such weights"):
        infer.run(
            dataset,
            out=tmp_path / "a.zip",
            model="small",
            weights=str(tmp_path / "none.safetensors"),
            params=params,
        )
    write_video_meta(tmp_path / "empty", "empty", [])
    with pytest.raises(ValueError, match="has no sequence"):
        infer.run(tmp_path / "empty", out=tmp_path / "a.zip", baseline="first_mask")


def grown(dataset: Path, path: Path, step: int = 1) -> Path:
    """A zip of all masks of the dataset, with objects a pixel larger to the left and to the top."""
    videos = VideoDataset(dataset)
    masks = []
    for name, sequence in videos.sequences.items():
        for frame in sequence.masks:
            mask = videos.read_mask(name, frame)
            masks.append((name, frame, np.maximum(mask, np.roll(mask, (-1, -1), (0, 1)))[::step]))
    write_mask_zip(path, masks)
    return path


def test_noisy_prompts_are_given_in_the_frames_where_objects_really_appear(
    dataset, params, tmp_path
) -> None:
    noisy = grown(dataset, tmp_path / "noisy.zip")
    videos, given = VideoDataset(dataset), MaskCollection(noisy)
    prompts = first_masks(videos, videos.sequences["two"], given)
    assert {index: sorted(np.unique(mask)) for index, mask in prompts.items()} == {
        0: [0, 1],
        2: [0, 5],
    }
    assert (prompts[2] == 5).sum() > 8 * 12
    assert np.array_equal(prompts[2] == 5, given.read("two", "00002") == 5)
    infer.run(dataset, out=tmp_path / "copied.zip", baseline="first_mask", prompts=noisy)
    copied = MaskCollection(tmp_path / "copied.zip")
    assert np.array_equal(copied.read("one", "00003") == 1, given.read("one", "00000") == 1)
    options = {"model": "small", "weights": "none", "params": params}
    infer.run(dataset, out=tmp_path / "noisy_result.zip", prompts=noisy, **options)
    assert np.array_equal(
        MaskCollection(tmp_path / "noisy_result.zip").read("one", "00000") == 1,
        given.read("one", "00000") == 1,
    )


def test_prompts_of_another_dataset_are_refused(dataset, tmp_path) -> None:
    write_mask_zip(tmp_path / "other.zip", [("else", "00000", np.ones((HEIGHT, WIDTH), np.uint8))])
    with pytest.raises(FileNotFoundError, match=r"one/00000\.png is missing"):
        infer.run(
            dataset, out=tmp_path / "out.zip", baseline="first_mask", prompts=tmp_path / "other.zip"
        )
    with pytest.raises(
        UserError, match=r"one/00000\.png is \(12, 32\), but the dataset's mask is \(24, 32\)"
    ):
        infer.run(
            dataset,
            out=tmp_path / "out.zip",
            baseline="first_mask",
            prompts=grown(dataset, tmp_path / "half.zip", step=2),
        )
    assert not (tmp_path / "out.zip").exists()


def test_videos_side_by_side(dataset, params, tmp_path) -> None:
    for number in (1, 2, 5):
        out = tmp_path / f"{number}.zip"
        infer.run(
            dataset,
            out=out,
            model="small",
            weights="none",
            params=params,
            device="cpu",
            videos_at_once=number,
        )
    assert (
        (tmp_path / "1.zip").read_bytes()
        == (tmp_path / "2.zip").read_bytes()
        == (tmp_path / "5.zip").read_bytes()
    )


def test_unreadable_frame_ends_all_videos(dataset, params, tmp_path) -> None:
    broken = tmp_path / "toy"
    shutil.copytree(dataset, broken)
    (broken / "frames" / "one" / "00003.jpg").write_bytes(b"no picture")
    for number in (1, 2):
        with pytest.raises(ValueError, match=r"00003\.jpg"):
            infer.run(
                broken,
                out=tmp_path / "a.zip",
                model="small",
                weights="none",
                params=params,
                device="cpu",
                videos_at_once=number,
            )
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_corrupted_images_change_what_networks_say_and_no_baseline(
    dataset, params, tmp_path
) -> None:
    options = {"model": "small", "weights": "none", "params": params, "device": "cpu"}
    for name, corruption in (("clean", None), ("noise", "noise30"), ("again", "noise30")):
        infer.run(dataset, out=tmp_path / f"{name}.zip", corruption=corruption, **options)
    assert (tmp_path / "noise.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    assert (tmp_path / "noise.zip").read_bytes() != (tmp_path / "clean.zip").read_bytes()
    first = [
        MaskCollection(tmp_path / f"{name}.zip").read("one", "00000") for name in ("clean", "noise")
    ]
    assert np.array_equal(*first), "the given mask stays as it is"
    with pytest.raises(UserError, match="runs no network: leave out --corruption"):
        infer.run(
            dataset,
            out=tmp_path / "b.zip",
            baseline="first_mask",
            corruption="noise30",
            params=params,
        )
    with pytest.raises(UserError, match=r"noise31.*noise30"):
        infer.run(dataset, out=tmp_path / "b.zip", corruption="noise31", **options)


def test_probabilities_pictures_and_speed(dataset, params, tmp_path, capsys) -> None:
    options = {"model": "small", "weights": "none", "params": params, "device": "cpu"}
    infer.run(dataset, out=tmp_path / "plain.zip", **options)
    with overlay_folder(tmp_path / "viz") as draw:
        infer.run(
            dataset,
            out=tmp_path / "more.zip",
            probabilities=tmp_path / "soft",
            draw=draw,
            videos_at_once=2,
            corruption="noise30",
            **options,
        )
    assert sorted(p.relative_to(tmp_path / "viz") for p in (tmp_path / "viz").glob("*/*")) == [
        Path(name) / f"{index:05d}.png" for name in ("one", "two") for index in range(LENGTH)
    ]
    assert len(list((tmp_path / "soft").glob("*/*.npz"))) == 2 * LENGTH
    shown = read_frame(tmp_path / "viz/one/00000.png").astype(int)
    frame = VideoDataset(dataset).read_frame("one", "00000").astype(int)
    outside = VideoDataset(dataset).read_mask("one", "00000") != 1
    assert 15 < (shown - frame)[outside].std() < 35, "pictures show the frame the network saw"
    said = capsys.readouterr().out
    assert re.search(r"10 frames in \d+\.\d\d s of the network's work, \d+\.\d\d frames per", said)
    merge.run([tmp_path / "soft"], out=tmp_path / "merged.zip")
    one, other = MaskCollection(tmp_path / "more.zip"), MaskCollection(tmp_path / "merged.zip")
    for name in one.sequences():
        assert one.frames(name) == other.frames(name)
        for frame in one.frames(name):
            assert (one.read(name, frame) == other.read(name, frame)).mean() > 0.98


def test_pictures_of_the_baseline(dataset, tmp_path) -> None:
    with overlay_folder(tmp_path / "viz") as draw:
        infer.run(dataset, out=tmp_path / "a.zip", baseline="first_mask", draw=draw)
    assert len(list((tmp_path / "viz").glob("*/*.png"))) == 2 * LENGTH
    with pytest.raises(UserError, match="leave out --save-probabilities"):
        infer.run(
            dataset, out=tmp_path / "a.zip", baseline="first_mask", probabilities=tmp_path / "soft"
        )


def test_a_failed_run_leaves_earlier_pictures_and_probabilities(dataset, params, tmp_path) -> None:
    options = {"model": "small", "weights": "none", "params": params, "device": "cpu"}
    infer.run(dataset, out=tmp_path / "a.zip", probabilities=tmp_path / "soft", **options)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    broken = tmp_path / "toy"
    shutil.copytree(dataset, broken)
    (broken / "frames" / "two" / "00003.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"00003\.jpg"):
        infer.run(broken, out=tmp_path / "a.zip", probabilities=tmp_path / "soft", **options)
    shutil.rmtree(broken)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_memory_options_go_before_the_entry(dataset, params, tmp_path) -> None:
    options = {"model": "small", "weights": "none", "params": params, "device": "cpu"}
    found = {}
    for name, memory in (
        ("entry", None),
        ("same", MemoryOptions(mem_every=2)),
        ("pair", MemoryOptions(("mem_every=1", "top_k=1"))),
    ):
        infer.run(dataset, out=tmp_path / f"{name}.zip", memory=memory, **options)
        found[name] = (tmp_path / f"{name}.zip").read_bytes()
    assert found["entry"] == found["same"]
    assert found["entry"] != found["pair"]
    for memory, message in (
        (MemoryOptions(("mem_evry=1",)), "'mem_evry'. Did you mean 'mem_every'"),
        (MemoryOptions(mem_every=0), "mem_every"),
        (MemoryOptions(budget=3), "--budget: the memory of small has no setting 'budget'"),
    ):
        with pytest.raises(UserError, match=message):
            infer.run(dataset, out=tmp_path / "bad.zip", memory=memory, **options)
    assert not (tmp_path / "bad.zip").exists()


@pytest.mark.parametrize("videos_at_once", [1, 2])
def test_several_runs_in_one_write_the_bytes_of_each_alone(
    dataset, params, tmp_path, videos_at_once, monkeypatch
) -> None:
    noisy = grown(dataset, tmp_path / "noisy.zip")
    options = {"model": "small", "weights": "none", "params": params, "device": "cpu"}
    infer.run(dataset, out=tmp_path / "prompt_big.zip", prompts=noisy, **options)
    infer.run(dataset, out=tmp_path / "corruption_noise30.zip", corruption="noise30", **options)
    decoded = []
    read = VideoDataset.read_frame
    monkeypatch.setattr(
        VideoDataset, "read_frame", lambda *where: decoded.append(where[1:]) or read(*where)
    )
    infer.run(
        dataset,
        out=tmp_path / "both",
        disturb=("corruption_noise30", f"prompt_big={noisy}"),
        videos_at_once=videos_at_once,
        **options,
    )
    assert len(decoded) == len(set(decoded)) == 2 * LENGTH, "each frame is decoded once"
    names = {"prompt_big.zip", "corruption_noise30.zip"}
    assert {path.name for path in (tmp_path / "both").glob("*.zip")} == names
    for name in names:
        assert (tmp_path / "both" / name).read_bytes() == (tmp_path / name).read_bytes()
    assert len({(tmp_path / name).read_bytes() for name in names}) == 2


@pytest.mark.parametrize(
    ("disturb", "message"),
    [
        (("blur9",), "prompt_<name>=<zip of masks> or corruption_<entry"),
        (("prompt_x",), "prompt_<name>=<zip"),
        (("corruption_noise31",), "Unknown .*'noise31'"),
        (("corruption_noise30", "corruption_noise30"), "given twice"),
    ],
)
def test_unusable_disturbances_are_refused(dataset, params, tmp_path, disturb, message) -> None:
    with pytest.raises(UserError, match=message):
        infer.run(
            dataset,
            out=tmp_path / "both",
            model="small",
            weights="none",
            params=params,
            disturb=disturb,
        )
    with pytest.raises(UserError, match="leave out --corruption"):
        infer.run(
            dataset,
            out=tmp_path / "both",
            baseline="first_mask",
            params=params,
            disturb=("corruption_noise30",),
        )
    assert not (tmp_path / "both").exists()
