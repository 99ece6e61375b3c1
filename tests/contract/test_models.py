"""What every registered network must do.

So that training and inference need not know which one they drive.
"""

import numpy as np
import pytest
import torch

from noisyvos import models
from noisyvos.inference import segment_video
from noisyvos.models.base import Clip

LARGE = {
    "afb_urr",
    "aoc_net",
    "rhmnet",
    "stm",
    "stm_resnest101",
    "stm_resnet18",
    "xmem",
}  # published sizes: smallest pictures, short clips


def make_clip(name: str, samples: int = 2, slots: int = 3) -> Clip:
    height, width = (32, 48) if name in LARGE else (40, 56)
    generator = torch.Generator().manual_seed(3)
    frames = torch.rand(samples, 3, 3, height, width, generator=generator)
    masks = torch.zeros(samples, 3, height, width, dtype=torch.long)
    masks[:, :, 4:20, 6:22] = 1
    masks[0, :, 18:30, 24:44] = 2
    masks[:, 1:, :2] = 255
    return Clip(frames, masks, torch.tensor([2, 1])[:samples], slots)


def make_video(height: int, width: int, length: int = 5) -> tuple[torch.Tensor, np.ndarray]:
    frames = torch.rand(length, 3, height, width, generator=torch.Generator().manual_seed(5))
    mask = np.zeros((height, width), np.uint8)
    mask[4:18, 5:20] = 3
    mask[15:27, 22:33] = 9
    return frames, mask


@pytest.fixture(scope="module", params=models.available())
def name(request) -> str:
    """A registered network."""
    return request.param


@pytest.fixture(scope="module")
def model(name):
    """The network, freshly initialised."""
    return models.build(name)


@pytest.fixture(scope="module")
def again(name):
    """The network, initialised once more, after other random numbers; no test changes it."""
    torch.rand(3)
    return models.build(name)


@pytest.fixture(scope="module")
def other(name):
    """The network with another seed; one test loads weights into it, after all others."""
    return models.build(name, seed=1)


def test_a_new_network_is_in_eval_mode(again) -> None:
    assert not any(module.training for module in again.modules())


def test_training_pass_has_the_shapes_and_reaches_every_parameter(name, model) -> None:
    clip = make_clip(name)
    model.train()
    model.zero_grad(set_to_none=True)
    output = model.forward_clip(clip, generator=torch.Generator().manual_seed(0))
    assert [tuple(logits.shape) for logits in output.logits] == [
        (2, 4, *clip.frames.shape[-2:])
    ] * 2
    assert all(
        logits.dtype == torch.float32 and logits.isfinite().all() for logits in output.logits
    )
    loss = sum(
        torch.nn.functional.cross_entropy(x, clip.masks[:, t + 1], ignore_index=255)
        for t, x in enumerate(output.logits)
    )
    (loss + sum(output.auxiliary.values())).backward()
    trained = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert [
        n for n, gradient in trained.items() if gradient is None or not gradient.isfinite().all()
    ] == []
    # AOC-Net's gates start closed (gamma is 0), so that their alpha has no gradient in a first step
    closed = [n for n in trained if n.endswith(".alpha") and not trained[n].any()]
    parameters = dict(model.named_parameters())
    assert all(not parameters[n.replace(".alpha", ".gamma")].any() for n in closed)
    reached = sum(float(gradient.abs().sum()) > 0 for gradient in trained.values())
    assert reached > 0.95 * (len(trained) - len(closed))


def test_training_pass_depends_on_the_generator_alone(name, model) -> None:
    clip = make_clip(name)
    with torch.no_grad():
        first = model.forward_clip(clip, generator=torch.Generator().manual_seed(1))
        torch.rand(7)
        second = model.forward_clip(clip, generator=torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(first.logits, second.logits))


def test_unused_slots_take_no_probability(name, model) -> None:
    with torch.no_grad():
        output = model.forward_clip(make_clip(name), generator=torch.Generator().manual_seed(0))
    probabilities = torch.softmax(output.logits[-1], 1)
    assert float(probabilities[1, 2:].max()) < 1e-5


def test_training_does_not_move_statistics(name, model) -> None:
    before = {key: value.clone() for key, value in model.named_buffers()}
    model.train()
    with torch.no_grad():
        model.forward_clip(make_clip(name), generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())


@pytest.mark.parametrize("size", [(33, 47), (32, 48)])
def test_video_of_any_size_gives_probabilities_that_sum_to_one(name, model, size) -> None:
    frames, mask = make_video(*size)
    video = segment_video(model, frames, {0: mask}, keep_probabilities=True)
    assert video.masks.shape == (5, *size)
    assert video.masks.dtype == np.uint8
    assert set(np.unique(video.masks)) <= {0, 3, 9}
    assert model.takes_scribbles or np.array_equal(video.masks[0], mask)
    assert video.probabilities.shape == (5, 3, *size)
    assert np.abs(video.probabilities.sum(1) - 1).max() < 1e-4
    assert video.probabilities.min() >= 0
    assert len(video.memory_usage) == 5


def test_inference_repeats_itself_and_leaves_the_network_alone(name, model) -> None:
    frames, mask = make_video(32, 48)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    first = segment_video(model, frames, {0: mask}, keep_probabilities=True)
    assert model.training
    segment_video(model, frames.flip(3), {0: np.ascontiguousarray(mask[:, ::-1])})
    second = segment_video(model, frames, {0: mask}, keep_probabilities=True)
    assert first.probabilities.tobytes() == second.probabilities.tobytes()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_initial_weights_depend_on_the_seed_alone(model, again, other) -> None:
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values())
    )
    assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters()))


def test_weights_come_back_from_disk(model, other, tmp_path) -> None:
    models.save_weights(model, tmp_path / "a.safetensors")
    models.save_weights(model, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    models.load_weights(other, tmp_path / "a.safetensors")
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values())
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_unknown_settings_are_refused_with_the_known_ones(name, model) -> None:
    with pytest.raises(ValueError, match=r"Unknown setting of model .*Known: "):
        models.build(name, no_such_setting=1)

    def never_read():
        raise AssertionError("a frame was read")
        yield

    known = next(iter(model.memory_settings.model_fields))
    with pytest.raises(ValueError, match=known):
        segment_video(
            model, never_read(), {0: make_video(32, 48)[1]}, memory={"no_such_setting": 1}
        )
