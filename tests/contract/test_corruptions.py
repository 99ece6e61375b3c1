"""What every image corruption promises, whatever it does."""

from pathlib import Path

import numpy as np
import pytest

from noisyvos.corruptions.base import Corruption
from noisyvos.datasets.layout import Sequence, VideoDataset, write_video_meta
from noisyvos.errors import UserError
from noisyvos.io.images import encode_frame
from noisyvos.io.masks import MaskCollection, encode_mask
from noisyvos.params.entries import read_family
from noisyvos.stages import infer

PARAMS = Path(__file__).resolve().parents[2] / "params"
NAMES = sorted(read_family(PARAMS, "corruptions"))


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_shape_type_and_determinism(name: str, frame: np.ndarray) -> None:
    before = frame.copy()
    key = ("davis", "bear", "00000")
    disturbed = Corruption(PARAMS, name, seed=0)(frame, key)
    assert disturbed.dtype == np.float32
    assert disturbed.shape == frame.shape
    assert not np.array_equal(disturbed, frame)
    assert np.array_equal(frame, before), "the input is not written to"
    assert np.array_equal(disturbed, Corruption(PARAMS, name, seed=0)(frame, key))
    if not name.startswith("blur"):
        assert not np.array_equal(disturbed, Corruption(PARAMS, name, seed=1)(frame, key))
        assert not np.array_equal(
            disturbed, Corruption(PARAMS, name, seed=0)(frame, ("davis", "bear", "00001"))
        )


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(UserError, match="noise10"):
        Corruption(PARAMS, "noise11", seed=0)


SYSTEMS = ("xmem_tiny", "stm_tiny", "afb_urr_tiny", "aoc_net_tiny", "rhmnet_tiny")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of one video with three frames and two objects."""
    root = tmp_path_factory.mktemp("toy") / "toy"
    generator = np.random.default_rng(1)
    names = ("00000", "00001", "00002")
    mask = np.zeros((48, 64), np.uint8)
    mask[8:30, 6:26], mask[20:40, 36:58] = 1, 2
    for folder in ("frames", "masks"):
        (root / folder / "one").mkdir(parents=True)
    for name in names:
        frame = generator.integers(60, 200, (48, 64, 3), dtype=np.uint8)
        frame[mask == 1], frame[mask == 2] = (220, 60, 40), (40, 90, 210)
        (root / "frames/one" / f"{name}.jpg").write_bytes(encode_frame(frame))
        (root / "masks/one" / f"{name}.png").write_bytes(encode_mask(mask))
    write_video_meta(root, "toy", [Sequence("one", names, names, mask.shape, (1, 2))])
    return root


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> str:
    """A network of each published system, at its smallest size."""
    return request.param


def segmented(toy: Path, model: str, folder: Path, corruption: str | None) -> tuple[dict, dict]:
    """Return the masks and the saved probabilities by frame; dense masks prompt scribbles too."""
    infer.run(
        toy,
        out=folder / "out.zip",
        model=model,
        weights="none",
        corruption=corruption,
        params=PARAMS,
        device="cpu",
        probabilities=folder / "soft",
    )
    masks = MaskCollection(folder / "out.zip")
    soft = {}
    for frame in masks.frames("one"):
        with np.load(folder / "soft/one" / f"{frame}.npz") as content:
            soft[frame] = content["probabilities"]
    return {frame: masks.read("one", frame) for frame in masks.frames("one")}, soft


def test_every_system_takes_every_corruption(toy: Path, system: str, tmp_path: Path) -> None:
    assert len(NAMES) == 9
    (tmp_path / "clean").mkdir()
    masks, clean = segmented(toy, system, tmp_path / "clean", None)
    assert list(masks) == ["00000", "00001", "00002"]
    truth = VideoDataset(toy).read_mask("one", "00000")
    for name in NAMES:
        (tmp_path / name).mkdir()
        masks, soft = segmented(toy, system, tmp_path / name, name)
        assert list(masks) == ["00000", "00001", "00002"]
        assert all(set(np.unique(mask)) <= {0, 1, 2} for mask in masks.values())
        assert all(abs(each.sum(0, dtype=int) - 255).max() <= 2 for each in soft.values())
        assert not np.array_equal(soft["00002"], clean["00002"]), "the network saw the corruption"
        if not system.startswith("rhmnet"):
            assert np.array_equal(masks["00000"], truth), "given masks stay as they are"
