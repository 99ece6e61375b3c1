"""Stage `infer`: prompts are first appearances only, outputs are complete and repeat byte for byte."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from noisyvos.datasets.layout import Sequence, VideoDataset, write_video_meta
from noisyvos.errors import UserError
from noisyvos.inference.prompts import first_masks
from noisyvos.io.images import encode_frame
from noisyvos.io.masks import MaskCollection, encode_mask, write_mask_zip
from noisyvos.stages import infer

HEIGHT, WIDTH, LENGTH = 24, 32, 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Two sequences: `one` with object 1; `two` where object 5 comes late and only some frames have masks."""
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
        "default: {memory: {xmem_tiny: {mem_every: 2}, other: {x: 1}}}\nsmall: {size: 16}\nwrong: {memory: {xmem_tiny: {mem_evry: 2}}}\n"
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
        f"infer.run(Path({str(dataset)!r}), out=Path({str(tmp_path / 'a.zip')!r}), baseline='first_mask'); sys.exit('torch' in sys.modules)"
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
    """All masks of the dataset with objects grown by a pixel to the left and to the top, as a zip."""
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
    with pytest.raises(UserError, match="sees no image"):
        infer.run(
            dataset,
            out=tmp_path / "b.zip",
            baseline="first_mask",
            corruption="noise30",
            params=params,
        )
    with pytest.raises(UserError, match=r"noise31.*noise30"):
        infer.run(dataset, out=tmp_path / "b.zip", corruption="noise31", **options)
