"""AOC-Net's training: which masks it goes on from, and steps by its own recipe in small."""

import copy
from pathlib import Path

import pytest
import torch
from training_world import make_world

from noisyvos import methods, models
from noisyvos.models.aoc_net import matching
from noisyvos.models.base import Clip, VideoModel
from noisyvos.params.entries import read_family
from noisyvos.training.batches import make_batch
from noisyvos.training.clip_readers import VideoClips
from noisyvos.training.schedule import Schedule, learning_rate
from noisyvos.training.step import make_learner, take_step

PARAMS = Path(__file__).resolve().parents[3] / "params"
SMALL = {
    "iterations": 4,
    "warmup": 1,
    "batch": 2,
    "parts": 2,
    "crop": 33,
    "clip_length": 3,
    "workers": 0,
}


@pytest.mark.parametrize("size", [(7, 7), (7, 10), (3, 5)])
def test_small_grids_are_matched_as_large_ones(size: tuple[int, int]) -> None:
    """Nearest pixels within windows; an object without a pixel in a window has none (-1)."""
    draw = torch.Generator().manual_seed(0)
    current, previous = (torch.rand(8, *size, generator=draw) for _ in range(2))
    planes = torch.rand(3, *size, generator=draw) > 0.7
    planes[2] = False
    small = matching.nearest_of_all_pairs(current, previous, planes, (4, 2))
    large = matching.nearest_in_windows(current, previous, planes, (4, 2))
    assert torch.equal(small, large)
    assert (small[2] == -1).all()
    assert (small[:2, 1] != small[:2, 0]).any()


@pytest.fixture(scope="module")
def network() -> VideoModel:
    return models.build("aoc_net", seed=1)


def logits(network: VideoModel, clip: Clip, which: str) -> torch.Tensor:
    network.settings = network.settings.model_copy(update={"previous_mask": which})
    with torch.no_grad():
        return network.forward_clip(clip, generator=torch.Generator().manual_seed(0)).logits[1]


def test_masks_are_given_up_to_the_middle_of_the_training_and_predicted_from_then_on(network):
    frames = torch.rand(1, 3, 3, 33, 33, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(1, 3, 33, 33, dtype=torch.long)
    masks[:, :, 8:24, 4:20] = 1
    early, late = (
        Clip(frames, masks, torch.tensor([1]), 1, progress=progress) for progress in (0.5, 0.51)
    )
    given, predicted = (logits(network, early, which) for which in ("given", "predicted"))
    assert not torch.equal(given, predicted)
    assert torch.equal(logits(network, early, "halves"), given)
    assert torch.equal(logits(network, late, "halves"), predicted)


@pytest.mark.parametrize("name", ["aoc_net_first", "aoc_net_second"])
def test_the_recipe_takes_steps(network, name, tmp_path):
    world = make_world(tmp_path)
    schedule = Schedule(**(read_family(PARAMS, "train")[name] | SMALL))
    entry = read_family(PARAMS, "methods")["ce_aoc"]
    learner = make_learner(
        copy.deepcopy(network).train(),
        methods.from_settings(entry.pop("kind"), entry, 4),
        schedule,
        0,
        torch.device("cpu"),
    )
    source = VideoClips(world / "data", world / "noisy.zip", 3)
    before = learner.networks[0].state_dict()["dynamic_prehead.conv.weight"].clone()
    shares = []
    for iteration in (1, 3):
        clip = make_batch(source, schedule, 0, iteration)
        assert clip.progress == iteration / 4
        result = take_step(learner, clip, iteration)
        shares.append(result.terms["top_p"])
        assert torch.isfinite(result.loss)
        assert result.norm > 0
    assert shares == pytest.approx([0.575, 0.15])
    moved = (learner.networks[0].state_dict()["dynamic_prehead.conv.weight"] - before).norm()
    assert (
        0
        < moved
        < 5 * (1.9 * learning_rate(schedule, 1) + (1.9 + 0.9) * learning_rate(schedule, 3))
    )  # as gradients are clipped to 5


def test_parts_and_copies_of_a_clip_know_when_they_are():
    clip = Clip(
        torch.zeros(2, 2, 3, 8, 8),
        torch.zeros(2, 2, 8, 8, dtype=torch.long),
        torch.tensor([1, 1]),
        1,
        progress=0.75,
    )
    assert clip.rows(1, 1).progress == clip.resized(0.5).progress == clip.to("cpu").progress == 0.75
