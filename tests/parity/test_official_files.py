"""Files in the form of published checkpoints segment a real clip through the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from noisyvos.cli import app
from noisyvos.cli.app import Failure
from noisyvos.io.masks import decode_mask
from noisyvos.models.pretrained import PLANES

PARAMS = Path(__file__).resolve().parents[2] / "params"


@pytest.fixture(scope="module")
def judo(shared) -> tuple[Path, Path]:
    """Frames and first mask of a real clip, where each of four masks adds one object."""
    root = shared / "data" / "real-clips"
    frames, mask = (
        root / "JPEGImages" / "480p" / "cutie-judo",
        root / "Annotations" / "480p" / "cutie-judo" / "00000.png",
    )
    if not mask.is_file():
        pytest.skip("the real clips are not here")
    return frames, mask


def short(frames: Path, count: int, folder: Path) -> Path:
    """Link the first frames of a clip."""
    folder.mkdir()
    for file in sorted(frames.iterdir())[:count]:
        (folder / file.name).symlink_to(file)
    return folder


def command(*arguments: object) -> None:
    result = CliRunner().invoke(
        app,
        [*map(str, arguments), "--params", str(PARAMS), "--device", "cpu"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output


def check(out: Path, mask: Path, count: int) -> list[np.ndarray]:
    masks = [decode_mask(file) for file in sorted((out / "masks").iterdir())]
    first = decode_mask(mask)
    assert len(masks) == count
    assert np.array_equal(masks[0], first)
    assert all(
        found.shape == first.shape and set(np.unique(found)) <= {0, 1, 2, 3, 4} for found in masks
    )
    return masks


def test_xmem_file(judo, xmem_state, tmp_path) -> None:
    frames, mask = judo
    late = tmp_path / "given"
    late.mkdir()
    for name in ("00000.png", "00008.png", "00013.png"):
        (late / name).symlink_to(mask.with_name(name))
    torch.save(
        {"model": {f"module.{name}": value for name, value in xmem_state.items()}},
        tmp_path / "xmem.pth",
    )
    common = ("--model", "xmem", "--weights", tmp_path / "xmem.pth", "--mask", late)
    command(
        "segment",
        "--video",
        frames,
        *common,
        "--size",
        120,
        "--out",
        tmp_path / "out",
        "--movie",
        tmp_path / "o.mp4",
        "--overlays",
    )
    masks = check(tmp_path / "out", mask, 16)
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 16
    assert (tmp_path / "o.mp4").stat().st_size > 10_000

    from noisyvos import models
    from noisyvos.inference import segment_video
    from noisyvos.media.videos import open_video

    given = {int(file.stem): decode_mask(file) for file in sorted(late.iterdir())}
    assert [sorted(np.unique(found)) for found in given.values()] == [[0, 1], [0, 3], [0, 4]]
    video = segment_video(
        models.load_official("xmem", xmem_state), list(open_video(frames)), given, size=120
    )
    assert np.array_equal(np.stack(masks), video.masks)


def test_mask_one_pixel_too_narrow(judo, tmp_path) -> None:
    frames, mask = judo  # the mask of frame 5 is 853 pixels wide
    with pytest.raises(
        Failure, match=r"00005\.png: this mask is 853x480, but the video is 854x480"
    ):
        command(
            "segment",
            "--video",
            frames,
            "--mask",
            mask.parent,
            "--model",
            "xmem",
            "--weights",
            "none",
            "--out",
            tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


def test_still_image_file_of_xmem(judo, xmem_state, tmp_path) -> None:
    frames, mask = judo
    clip = short(frames, 3, tmp_path / "clip")
    single = xmem_state | {PLANES: xmem_state[PLANES][:, :4].clone()}
    zero = xmem_state | {PLANES: torch.cat([single[PLANES], torch.zeros(64, 1, 7, 7)], 1)}
    found = {}
    for name, state in (("single", single), ("zero", zero)):
        torch.save(state, tmp_path / f"{name}.pth")
        weights = ("--model", "xmem", "--weights", tmp_path / f"{name}.pth")
        command(
            "segment",
            "--video",
            clip,
            "--mask",
            mask,
            *weights,
            "--size",
            96,
            "--out",
            tmp_path / name,
        )
        found[name] = check(tmp_path / name, mask, 3)
    assert np.array_equal(found["single"], found["zero"])


def test_stm_file_through_infer(judo, shared, parity_weights, tmp_path) -> None:
    frames, mask = judo
    clip = short(frames, 3, tmp_path / "clip")
    state = parity_weights.fill_state_dict(
        parity_weights.load_shapes(shared / "parity" / "stm.keys.json")
    )
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        tmp_path / "stm.pth",
    )
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "models.yaml").write_text((PARAMS / "models.yaml").read_text())
    (tmp_path / "params" / "eval.yaml").write_text("default: {size: 96}\n")
    arguments = [
        "infer",
        "--video",
        clip,
        "--mask",
        mask,
        "--model",
        "stm",
        "--weights",
        tmp_path / "stm.pth",
        "--out",
        tmp_path / "out",
    ]
    arguments += ["--params", tmp_path / "params", "--device", "cpu"]
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    check(tmp_path / "out", mask, 3)


def test_rhmnet_file_takes_scribbles(judo, shared, parity_weights, tmp_path) -> None:
    from noisyvos.datasets.scribbles import Hand, scribbles
    from noisyvos.io.masks import encode_mask
    from noisyvos.seeding import numpy_generator

    frames, mask = judo
    clip = short(frames, 3, tmp_path / "clip")
    labels = scribbles(decode_mask(mask), Hand(), numpy_generator("judo"))
    drawn = np.where(labels == 255, 0, np.where(labels == 0, 11, labels)).astype(np.uint8)
    (tmp_path / "drawn.png").write_bytes(encode_mask(drawn))
    state = parity_weights.fill_state_dict(
        parity_weights.load_shapes(shared / "parity" / "rhmnet.keys.json")
    )
    torch.save(
        {"epoch": 69, "state_dict": {f"module.{name}": value for name, value in state.items()}},
        tmp_path / "rhmnet.pth.tar",
    )
    weights = ("--model", "rhmnet", "--weights", tmp_path / "rhmnet.pth.tar")
    command(
        "segment",
        "--video",
        clip,
        "--mask",
        tmp_path / "drawn.png",
        *weights,
        "--size",
        96,
        "--out",
        tmp_path / "out",
    )
    masks = [decode_mask(file) for file in sorted((tmp_path / "out" / "masks").iterdir())]
    assert len(masks) == 3
    assert all(found.shape == drawn.shape and set(np.unique(found)) <= {0, 1} for found in masks)

    from noisyvos import models
    from noisyvos.inference import segment_video
    from noisyvos.media.videos import open_video

    video = segment_video(
        models.load_official("rhmnet", state), list(open_video(clip)), {0: drawn}, size=96
    )
    assert np.array_equal(np.stack(masks), video.masks)
