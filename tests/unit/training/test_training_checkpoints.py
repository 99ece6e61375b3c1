"""Checkpoints of training.

Stopping and resuming to the same bits, damaged files, kept weights, what a fingerprint looks at.
"""

import json
import os
import re
import signal

import pytest
import torch
from safetensors.torch import load_file
from toy_training import CPU, ToyMethod, ToyNetwork, ToyTeacherMethod, run, schedule
from training_world import make_world

from noisyvos import methods, models
from noisyvos.errors import UserError
from noisyvos.methods.base import METHODS, Method
from noisyvos.training import checkpoint, loop
from noisyvos.training.clip_readers import VideoClips
from noisyvos.training.step import make_learner


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def source(world):
    return VideoClips(world / "data", world / "noisy.zip", 3)


def stop_at(moment: int):
    """Return a method that asks the process to end while it computes iteration `moment`."""

    class Stopping(ToyTeacherMethod):
        def terms(self, logits, target, *, iteration=0, **rest):
            if iteration == moment:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().terms(logits, target, iteration=iteration, **rest)

    return Stopping()


@pytest.mark.parametrize(
    ("moment", "optimizer"),
    [
        (0, {}),
        (6, {}),
        (12, {}),
        (6, {"optimizer": "sgd", "momentum": 0.9}),
        (6, {"optimizer": "muon", "muon_rate": 3}),
    ],
)
def test_asked_to_stop_it_saves_exits_143_and_resumes_to_the_same_bits(
    source, tmp_path, moment, optimizer, capsys
):
    changes = {"log_every": 3, "checkpoint_every": 4} | optimizer
    whole, curve = run(source, tmp_path / "whole", ToyTeacherMethod(), **changes)
    with pytest.raises(SystemExit) as stopped:
        run(source, tmp_path / "parts", stop_at(moment), **changes)
    assert stopped.value.code == 143
    parts, resumed = run(source, tmp_path / "parts", ToyTeacherMethod(), **changes)
    assert f"resuming at iteration {moment + 1} of 14" in capsys.readouterr().err
    for name, value in whole.networks[0].state_dict().items():
        assert torch.equal(value, parts.networks[0].state_dict()[name])
    assert torch.equal(whole.method.scalar, parts.method.scalar)
    assert curve.csv() == resumed.csv()


def stopped_at(moment: int | None, name: str) -> Method:
    """Return a method whose training is asked to stop at an iteration; None: never."""
    method = methods.build(name, total_iterations=14)
    compute = method.clip_loss

    def stopping(*given, iteration, **rest):
        if iteration == moment:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute(*given, iteration=iteration, **rest)

    method.clip_loss = stopping
    return method


@pytest.mark.parametrize(
    "name", [name for name in METHODS.names() if methods.build(name).state_dict()]
)
def test_state_of_a_method_survives_being_stopped_to_the_same_bits(source, tmp_path, name):
    def train(place, moment: int | None = None):
        method = stopped_at(moment, name)
        return run(source, place, method, augmentation="video", crop=24, parts=2, batch=4)

    whole, curve = train(tmp_path / "whole")
    with pytest.raises(SystemExit):
        train(tmp_path / "parts", 8)
    parts, resumed = train(tmp_path / "parts")
    assert torch.equal(whole.networks[0].conv.weight, parts.networks[0].conv.weight)
    for one, two in zip(
        whole.method.state_dict().values(), parts.method.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two
    assert curve.csv() == resumed.csv()


def test_a_teacher_in_bf16_resumes_to_the_same_bits(source, tmp_path):
    def train(place, moment: int | None = None):
        network = models.build("xmem_tiny", seed=3, width=8, key_dim=8, value_dim=16, hidden_dim=8)
        method = stopped_at(moment, "smart")
        return run(source, place, method, network, teacher_amp="bf16")

    whole, curve = train(tmp_path / "whole")
    with pytest.raises(SystemExit):
        train(tmp_path / "parts", 6)
    parts, resumed = train(tmp_path / "parts")
    for name, value in whole.networks[0].state_dict().items():
        assert torch.equal(value, parts.networks[0].state_dict()[name])
    assert curve.csv() == resumed.csv()


def test_a_checkpoint_of_other_settings_is_discarded_with_a_line(source, tmp_path, capsys):
    run(source, tmp_path, checkpoint_every=5)
    capsys.readouterr()
    fresh, _ = run(source, tmp_path, fingerprint="b")
    assert "is of other settings, inputs or code; starting over" in capsys.readouterr().err
    untouched, _ = run(source, tmp_path / "elsewhere")
    assert torch.equal(fresh.networks[0].conv.weight, untouched.networks[0].conv.weight)


def test_a_damaged_checkpoint_is_discarded_with_a_line(tmp_path, capsys):
    (tmp_path / "checkpoint-00000004.pt").write_bytes(b"not a checkpoint")
    assert checkpoint.load(tmp_path / "checkpoint.pt", "a") is None
    assert "cannot be read" in capsys.readouterr().err


def test_another_number_of_reading_processes_resumes_to_the_same_bits(source, tmp_path):
    whole, curve = run(source, tmp_path / "whole", ToyTeacherMethod())
    with pytest.raises(SystemExit):
        run(source, tmp_path / "parts", stop_at(5))
    resumed, again = run(source, tmp_path / "parts", ToyTeacherMethod(), workers=2)
    assert torch.equal(whole.networks[0].conv.weight, resumed.networks[0].conv.weight)
    assert curve.csv() == again.csv()


def test_the_loss_scale_and_the_moments_are_part_of_the_state():
    saved, fresh = (make_learner(ToyNetwork(), ToyMethod(), schedule(), 0, CPU) for _ in range(2))
    for learner, scale in ((saved, 512.0), (fresh, 8.0)):
        learner.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        learner.scaler.scale(torch.ones(()))  # creates the scale
    weight, copied = saved.weights[0], fresh.weights[0]
    weight.grad = torch.ones_like(weight)
    saved.optimizers[0].step()
    fresh.load_state(saved.state())
    assert fresh.scaler.get_scale() == 512.0
    moments, loaded = saved.optimizers[0].state[weight], fresh.optimizers[0].state[copied]
    assert loaded["step"] == 1
    assert loaded["exp_avg"].abs().min() > 0
    assert all(torch.equal(loaded[name], value) for name, value in moments.items())


def test_the_last_few_checkpoints_are_kept(source, tmp_path):
    with pytest.raises(SystemExit):
        run(source, tmp_path, stop_at(10), checkpoint_every=2, checkpoints_kept=3)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        f"checkpoint-{n:08d}.pt" for n in (8, 10, 11)
    ]


def test_after_a_damaged_checkpoint_the_one_before_goes_on_to_the_same_bits(
    source, tmp_path, capsys
):
    whole, curve = run(source, tmp_path / "whole", ToyTeacherMethod())
    with pytest.raises(SystemExit):
        run(source, tmp_path / "parts", stop_at(9), checkpoint_every=4)
    newest = tmp_path / "parts" / "checkpoint-00000010.pt"
    newest.write_bytes(newest.read_bytes()[:-700])  # as after a power cut
    resumed, again = run(source, tmp_path / "parts", ToyTeacherMethod(), checkpoint_every=4)
    message = capsys.readouterr().err
    assert re.search(rf"{newest} cannot be read \(\w+\); trying the one before\.", message)
    assert "resuming at iteration 8 of 14" in message
    assert torch.equal(whole.networks[0].conv.weight, resumed.networks[0].conv.weight)
    assert curve.csv() == again.csv()


def test_a_shorter_training_is_not_stopped_by_later_checkpoints(tmp_path):
    file = tmp_path / "checkpoint.pt"
    checkpoint.save(file, "a", {"iteration": 90}, 2)
    checkpoint.save(file, "b", {"iteration": 10}, 2)
    assert checkpoint.load(file, "b") == {"iteration": 10}
    assert checkpoint.load(file, "a") is None


def test_weights_on_the_way_are_kept_and_belong_to_this_training(source, tmp_path):
    weights = tmp_path / "weights.safetensors"
    (tmp_path / "weights-00000012.safetensors").write_bytes(b"of an earlier training")
    learner = make_learner(
        ToyNetwork(), ToyMethod(), schedule(iterations=9, keep_weights_every=4), 0, CPU
    )
    how = {
        "name": "toy",
        "file": tmp_path / "scratch" / "checkpoint.pt",
        "fingerprint": "a",
        "watch": lambda row, step: None,
    }
    loop.train(learner, source, weights=weights, **how)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "weights-00000004.safetensors",
        "weights-00000008.safetensors",
    ]
    four, eight = (
        load_file(tmp_path / f"weights-0000000{n}.safetensors")["conv.weight"] for n in (4, 8)
    )
    assert not torch.equal(four, eight)
    short, _ = run(
        source, tmp_path / "short", iterations=4
    )  # at a constant rate its end is the other's middle
    assert torch.equal(short.networks[0].conv.weight, four)


def test_a_full_disk_loses_no_older_checkpoint(tmp_path, capsys, monkeypatch):
    file = tmp_path / "checkpoint.pt"
    assert checkpoint.save(file, "a", {"iteration": 1}, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert not checkpoint.save(file, "a", {"iteration": 2}, 1)
    assert "No space left" in capsys.readouterr().err
    assert checkpoint.load(file, "a") == {"iteration": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001.pt"]


def test_the_fingerprint_follows_settings_and_inputs(world, tmp_path):
    file = tmp_path / "input"
    file.write_text("one")

    def mark(settings):
        inputs = {"file": file, "folder": world / "data"}
        return checkpoint.fingerprint(settings, checkpoint.provenance(inputs, "train", {}))

    first = mark({"a": 1})
    (
        world / "data" / ".snakemake_timestamp"
    ).touch()  # which Snakemake leaves in folders and DVC does not
    assert first == mark({"a": 1})
    assert first != mark({"a": 2})
    file.write_text("two")
    assert first != mark({"a": 1})


def test_settings_that_change_no_result_are_no_part_of_it():
    one = schedule(checkpoint_every=1, workers=0)
    two = schedule(checkpoint_every=9, checkpoints_kept=5, keep_weights_every=2, workers=3)
    assert one.result_settings() == two.result_settings()
    assert json.dumps(one.result_settings()) != json.dumps(schedule(batch=3).result_settings())


def test_a_state_of_another_network_is_refused_and_nothing_changes():
    learner = make_learner(ToyNetwork(), ToyMethod(), schedule(), 0, CPU)
    before = {name: value.clone() for name, value in learner.networks[0].state_dict().items()}
    state = learner.state()
    (weights,) = state["networks"]
    name, value = next((name, value) for name, value in weights.items() if value.ndim)
    wrong = {name: torch.zeros(*value.shape, 2), "other.weight": torch.zeros(1)}
    changed = {**{key: torch.full_like(own, 7) for key, own in weights.items()}, **wrong}
    with pytest.raises(UserError) as refused:
        learner.load_state(state | {"networks": [changed]})
    said = str(refused.value)
    assert said.startswith("the checkpoint: these weights do not fit the network (ToyNetwork). ")
    assert "not expected: other.weight; wrong shape: " in said
    assert f"{name} {(*value.shape, 2)} instead of {tuple(value.shape)}" in said
    for key, own in learner.networks[0].state_dict().items():
        assert torch.equal(own, before[key])
