"""A user's own video: movies and folders give the same masks, few frames are in memory at a time,
and bad input is refused early.
"""

import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest

from noisyvos import models
from noisyvos.errors import UserError
from noisyvos.io.images import encode_frame
from noisyvos.io.masks import decode_mask, encode_mask
from noisyvos.media import videos
from noisyvos.media.videos import movie_writer, open_video
from noisyvos.stages import segment

HEIGHT, WIDTH, LENGTH = 32, 48, 6


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """A square that moves over a plain ground, so that lossy movies stay close."""
    made = []
    for index in range(LENGTH):
        frame = np.full((HEIGHT, WIDTH, 3), (40, 80, 120), np.uint8)
        frame[8:20, 4 + 4 * index : 18 + 4 * index] = (200, 60, 30)
        made.append(frame)
    return made


@pytest.fixture
def material(tmp_path, frames) -> Path:
    """clip.mp4, the folder frames/, the mask first.png, params/."""
    (tmp_path / "frames").mkdir()
    for index, frame in enumerate(frames):
        (tmp_path / "frames" / f"shot_{index:02d}.jpg").write_bytes(encode_frame(frame))
    with movie_writer(tmp_path / "clip.mp4", (HEIGHT, WIDTH), 10) as append:
        for frame in frames:
            append(frame)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[8:20, 4:18] = 3
    (tmp_path / "first.png").write_bytes(encode_mask(mask))
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "models.yaml").write_text("small: {kind: xmem_tiny, width: 8}\n")
    (tmp_path / "params" / "eval.yaml").write_text("default: {}\n")
    return tmp_path


def run(material: Path, video: str, mask: str = "first.png", **options) -> None:
    settings = {"model": "small", "weights": "none", "params": material / "params", "device": "cpu"}
    settings |= {"out": material / "out"} | options
    names = ("out", "movie", "overlays", "viz", "probabilities")
    outputs = segment.Outputs(**{name: settings.pop(name) for name in names if name in settings})
    segment.run(material / video, material / mask, outputs, **settings)


def movie_frames(path: Path) -> list[np.ndarray]:
    return list(open_video(path))


def test_movie_in_and_out(material, frames, capsys) -> None:
    run(material, "clip.mp4", movie=material / "overlay.mp4", overlays=True)
    names = [f"{index:05d}.png" for index in range(LENGTH)]
    assert sorted(path.name for path in (material / "out" / "masks").iterdir()) == names
    assert sorted(path.name for path in (material / "out" / "overlays").iterdir()) == names
    assert np.array_equal(
        decode_mask(material / "out" / "masks" / "00000.png"), decode_mask(material / "first.png")
    )
    drawn = movie_frames(material / "overlay.mp4")
    assert len(drawn) == LENGTH
    inside, outside = (slice(10, 18), slice(7, 15)), (slice(24, 30), slice(2, 40))
    assert np.abs(drawn[0][outside].astype(int) - frames[0][outside]).mean() < 8
    assert np.abs(drawn[0][inside].astype(int) - frames[0][inside]).mean() > 20
    assert "6 frames of clip.mp4, objects 3" in capsys.readouterr().out


def test_same_bytes_again(material) -> None:
    for name in ("a", "b"):
        run(
            material, "clip.mp4", out=material / name, movie=material / f"{name}.mp4", overlays=True
        )
    assert (material / "a.mp4").read_bytes() == (material / "b.mp4").read_bytes()
    for file in sorted((material / "a").rglob("*.png")):
        assert file.read_bytes() == (material / "b" / file.relative_to(material / "a")).read_bytes()


def test_folder_keeps_names_and_takes_late_objects(material) -> None:
    masks = material / "masks"
    masks.mkdir()
    (masks / "shot_00.png").write_bytes((material / "first.png").read_bytes())
    late = np.zeros((HEIGHT, WIDTH), np.uint8)
    late[22:30, 30:44] = 9
    (masks / "shot_02.png").write_bytes(encode_mask(late))
    run(material, "frames", "masks", size=24)
    found = {
        path.stem: decode_mask(path) for path in sorted((material / "out" / "masks").iterdir())
    }
    assert list(found) == [f"shot_{index:02d}" for index in range(LENGTH)]
    assert [9 in mask for mask in found.values()][:3] == [False, False, True]
    assert all(mask.shape == (HEIGHT, WIDTH) for mask in found.values())


def test_few_frames_are_in_memory(material, frames, monkeypatch) -> None:
    for index in range(LENGTH, 4 * LENGTH):
        path = material / "frames" / f"shot_{index:02d}.jpg"
        path.write_bytes(encode_frame(frames[index % LENGTH]))
    read, alive = [], []

    def read_frame(path: Path) -> np.ndarray:
        frame = original_read(path)
        read.append(weakref.ref(frame))
        return frame

    def encode(mask: np.ndarray) -> bytes:
        alive.append(sum(frame() is not None for frame in read))
        return encode_mask(mask)

    original_read = videos.read_frame
    monkeypatch.setattr(videos, "read_frame", read_frame)
    monkeypatch.setattr(segment, "encode_mask", encode)
    run(material, "frames")
    assert len(alive) == 4 * LENGTH
    assert len(read) == 4 * LENGTH + 1, "the size check reads the first frame too"
    assert max(alive) <= 6, "the present frame, the next one, and up to four of the thread"


def test_pictures_and_probabilities_go_where_they_are_asked(material) -> None:
    run(material, "frames", viz=material / "pictures", probabilities=material / "soft")
    names = [f"shot_{index:02d}" for index in range(LENGTH)]
    assert sorted(path.stem for path in (material / "pictures").glob("*.png")) == names
    assert sorted(path.stem for path in (material / "soft").glob("*.npz")) == names
    with np.load(material / "soft" / "shot_03.npz") as content:
        assert content["probabilities"].shape == (2, HEIGHT, WIDTH)
        assert content["ids"].tolist() == [3]
        predicted = np.array([0, 3])[content["probabilities"].argmax(0)]
    shown = decode_mask(material / "out" / "masks" / "shot_03.png")
    assert (predicted == shown).mean() > 0.99, "ties of rounded probabilities aside"
    with pytest.raises(ValueError, match=r"not an earlier result \(overlays\)"):
        run(material, "frames", viz=material / "params")
    assert len(list((material / "params").iterdir())) == 2


def test_odd_sizes_lose_a_line(tmp_path) -> None:
    with movie_writer(tmp_path / "odd.mp4", (31, 47), 25) as append:
        append(np.full((31, 47, 3), 90, np.uint8))
    assert [frame.shape for frame in movie_frames(tmp_path / "odd.mp4")] == [(30, 46, 3)]


def test_broken_off_movie_leaves_what_was_there(tmp_path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"before")
    with (
        pytest.raises(RuntimeError, match="stop"),
        movie_writer(tmp_path / "film.mp4", (16, 16), 25),
    ):
        raise RuntimeError("stop")
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
    assert (tmp_path / "film.mp4").read_bytes() == b"before"


def test_bad_requests_are_refused_before_the_network_is_built(material, monkeypatch) -> None:
    monkeypatch.setattr("noisyvos.models.build", lambda *_, **__: pytest.fail("built"))
    (material / "notes.mp4").write_text("no movie")
    (material / "empty").mkdir()
    small = encode_mask(np.ones((HEIGHT, WIDTH - 2), np.uint8))
    (material / "small.png").write_bytes(small)
    (material / "nothing.png").write_bytes(encode_mask(np.zeros((HEIGHT, WIDTH), np.uint8)))
    cv2.imwrite(str(material / "colour.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (material / "strange").mkdir()
    (material / "strange" / "shot_99.png").write_bytes((material / "first.png").read_bytes())
    for options, kind, message in (
        ({"video": "none.mp4"}, FileNotFoundError, "no such movie file or folder"),
        (
            {"video": "notes.mp4"},
            ValueError,
            "this file is text, such as a playlist, and not a movie",
        ),
        ({"video": "empty"}, ValueError, "holds no frames"),
        ({"mask": "none.png"}, FileNotFoundError, "no such mask"),
        (
            {"mask": "small.png"},
            ValueError,
            r"small\.png: this mask is 46x32, but the video is 48x32",
        ),
        (
            {"mask": "colour.png"},
            ValueError,
            "these masks hold no object, only background",
        ),
        ({"mask": "nothing.png"}, ValueError, "no mask names an object"),
        ({"mask": "empty"}, ValueError, "no masks in this folder"),
        ({"mask": "strange", "video": "frames"}, ValueError, "no frame 'shot_99'"),
        ({"model": "smal"}, ValueError, "Did you mean 'small'"),
        ({"settings": "defalt"}, ValueError, "Did you mean 'default'"),
        ({"weights": "none.pth"}, FileNotFoundError, "no such weights"),
        ({"movie": Path("film.avi")}, ValueError, "ends in .mp4"),
        ({"movie": material / "clip.mp4"}, ValueError, "would replace this input"),
        ({"out": material / "first.png"}, ValueError, "this is a file"),
        ({"viz": material / "params"}, ValueError, r"not an earlier result \(overlays\)"),
        (
            {"probabilities": material / "params"},
            ValueError,
            r"not an earlier result \(probabilities\)",
        ),
    ):
        with pytest.raises(kind, match=message):
            run(material, **({"video": "clip.mp4"} | options))
    assert not (material / "out").exists()


def test_masks_folder_is_no_frames_folder(material) -> None:
    (material / "frames").rename(material / "masks")
    with pytest.raises(ValueError, match="would replace this input"):
        run(material, "masks", out=material)
    assert len(list((material / "masks").iterdir())) == LENGTH


def test_weights_of_another_network_are_refused_by_name_before_the_video(material) -> None:
    models.save_weights(models.build("stm_tiny"), material / "other.safetensors")
    with pytest.raises(UserError) as refused:
        run(material, "clip.mp4", weights=str(material / "other.safetensors"))
    said = str(refused.value)
    assert said.startswith(
        f"{material / 'other.safetensors'}: these weights do not fit network xmem_tiny. missing: "
    )
    assert "; not expected: Decoder." in said
    assert said.endswith("They fit network stm_tiny. Name that network, or give other weights.")
    assert not (material / "out").exists()
