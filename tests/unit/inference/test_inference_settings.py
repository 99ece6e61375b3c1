"""Working sizes, views and memory options of an evaluation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from noisyvos import models
from noisyvos.errors import UserError
from noisyvos.inference.settings import Evaluation, MemoryOptions, View, WorkingSize
from noisyvos.inference.video import iterate_video
from noisyvos.models.aoc_net.settings import AOCNetMemory
from noisyvos.models.stm.settings import STMMemory
from noisyvos.params.entries import read_family

PARAMS = Path(__file__).resolve().parents[3] / "params"
FRAMES = torch.rand(4, 3, 32, 48, generator=torch.Generator().manual_seed(0))
MASK = np.zeros((32, 48), np.uint8)
MASK[8:24, 4:20] = 7


@pytest.mark.parametrize(
    ("size", "full", "working"),
    [
        (WorkingSize(), (481, 853), (481, 853)),
        (WorkingSize(480), (480, 854), (480, 854)),
        (WorkingSize(480), (720, 1280), (480, 853)),
        (WorkingSize(480), (1280, 720), (853, 480)),
        (WorkingSize(495), (360, 640), (495, 880)),
        (WorkingSize(495, enlarge=False), (360, 640), (360, 640)),
        (WorkingSize(495, enlarge=False), (720, 1280), (495, 880)),
        (WorkingSize(longest=1040), (480, 854), (480, 854)),
        (WorkingSize(longest=1040), (720, 1280), (585, 1040)),
        (WorkingSize(720, longest=1040), (480, 854), (584, 1040)),
        (WorkingSize(480, longest=1040), (720, 1280), (480, 853)),
    ],
)
def test_working_sizes(size, full, working) -> None:
    assert size.of(full) == working


def test_a_scale_comes_after_the_limit() -> None:
    assert WorkingSize(longest=800).of((720, 1280), 1.3) == (585, 1040)
    assert WorkingSize().of((32, 48), 0.5) == (16, 24)


def test_every_entry_has_views() -> None:
    entries = read_family(PARAMS, "eval")
    views = {name: Evaluation(**entry).views() for name, entry in entries.items()}
    assert views["default"] == (View(),)
    assert len(views["aoc_ms_flip"]) == 6
    assert len(views["xmem_ms_flip"]) == 4
    assert Evaluation(**entries["xmem_ms_flip"]).size == 480
    assert {view.scale for view in views["xmem_ms_flip"]} == {1.0, 1.5}
    assert views["xmem_720_flip"] == (View(), View(flip=True))
    assert Evaluation(**entries["xmem_long"]).memory["xmem"] == {"mem_every": 10}
    assert Evaluation(**entries["afb_urr_long"]).memory["afb_urr"] == {"update_rate": 0.05}


@pytest.mark.parametrize("scales", [[], [0], [1.0, -2]])
def test_impossible_scales(scales) -> None:
    with pytest.raises(ValueError, match="scales"):
        Evaluation(scales=scales)


def probabilities(model: torch.nn.Module, frames: torch.Tensor, mask: np.ndarray, **options):
    return [r.probabilities for r in iterate_video(model, frames, {0: mask}, **options)]


@pytest.mark.parametrize("name", ["xmem_tiny", "stm_tiny", "rhmnet_tiny"])
def test_a_flipped_view_is_the_mirrored_video(name) -> None:
    model = models.build(name)
    mask = np.where(MASK, 1, 0).astype(np.uint8)
    if model.takes_scribbles:
        mask[:4] = 11
    flipped = probabilities(model, FRAMES, mask, views=(View(flip=True),))
    mirrored = probabilities(model, FRAMES.flip(-1), np.ascontiguousarray(mask[:, ::-1]))
    for one, other in zip(flipped, mirrored, strict=True):
        assert np.array_equal(one, other[:, :, ::-1])
    plain = probabilities(model, FRAMES, mask)
    both = probabilities(model, FRAMES, mask, views=(View(), View(flip=True)))
    for mean, one, other in zip(both, plain, flipped, strict=True):
        assert np.abs(mean - (one + other) / 2).max() < 1e-6
    assert not np.array_equal(plain[-1], flipped[-1])


def test_views_do_not_share_a_memory() -> None:
    model = models.build("xmem_tiny")
    scaled = probabilities(model, FRAMES, MASK, views=(View(0.5),))
    plain = probabilities(model, FRAMES, MASK)
    both = probabilities(model, FRAMES, MASK, views=(View(), View(0.5)))
    for index in range(1, len(FRAMES)):
        assert np.abs(both[index] - (plain[index] + scaled[index]) / 2).max() < 1e-6
    half = probabilities(model, FRAMES, MASK, size=16)
    assert all(np.array_equal(one, other) for one, other in zip(half, scaled, strict=True))
    assert both[0][1].max() == 1, "the given mask is certain where a view was resized"


def test_aoc_net_resizes_frames_once_and_keeps_masks_at_full_size(monkeypatch) -> None:
    model = models.build("aoc_net")
    seen = []
    embed = model.embed
    monkeypatch.setattr(
        model, "embed", lambda frames: (seen.append(tuple(frames.shape[-2:])), embed(frames))[1]
    )
    result = list(iterate_video(model, FRAMES[:2], {0: MASK}, views=(View(2.0),)))
    assert seen == [(65, 97)] * 2, "64 x 96, each side to the nearest 16k + 1"
    assert result[1].probabilities.shape == (2, 32, 48)
    assert np.array_equal(result[0].mask, MASK)


def test_xmem_without_sensory_memory_segments() -> None:
    """The published no-sensory model: no hidden state, and a decoder without its channels."""
    entry = dict(read_family(PARAMS, "models")["xmem_no_sensory"])
    model = models.build(entry.pop("kind"), **entry)
    assert not any("hidden" in name for name in model.state_dict())
    assert model.state_dict()["decoder.fuser.block1.conv1.weight"].shape[1] == 1024 + 512
    results = list(iterate_video(model, FRAMES, {0: MASK}, {"mem_every": 2}))
    assert [result.memory_usage["working"] for result in results] == [6, 6, 12, 12]
    assert np.isfinite(results[-1].probabilities).all()


def test_memory_options_take_the_networks_own_names() -> None:
    stm, aoc = STMMemory.model_fields, AOCNetMemory.model_fields
    assert MemoryOptions(mem_every=8).over({"number": 2}, stm, "stm") == {"every": 8}
    assert MemoryOptions(("number=2",)).over({"every": 8}, stm, "stm") == {"number": 2}
    assert MemoryOptions(mem_every=5).over({}, aoc, "aoc_net") == {"mem_every": 5}
    assert MemoryOptions(("mem_every=null", "clustering=released")).values(aoc, "aoc_net") == {
        "mem_every": None,
        "clustering": "released",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (MemoryOptions(("every",)), "write KEY=VALUE"),
        (MemoryOptions(("evry=2",)), "Did you mean 'every'"),
        (MemoryOptions(("every=2", "every=3")), "given twice"),
        (MemoryOptions(("every=2",), mem_every=3), "set the same"),
        (MemoryOptions(("every=[",)), "cannot be read"),
        (MemoryOptions(update_rate=0.1), "--update-rate: the memory of stm has no setting"),
    ],
)
def test_wrong_memory_options(options, message) -> None:
    with pytest.raises(UserError, match=message):
        options.values(STMMemory.model_fields, "stm")
