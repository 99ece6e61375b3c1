"""Schedules, batches, steps and diagnostics of training."""

import copy
import math
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import islice

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from toy_training import (
    CPU,
    ToyMethod,
    ToyNetwork,
    ToyOwnRateMethod,
    ToyPairMethod,
    ToyTeacherMethod,
    run,
    schedule,
)
from training_world import SIZE, make_world

from noisyvos import methods, models
from noisyvos.datasets.sampling import divided_jump
from noisyvos.devices import half_precision
from noisyvos.errors import UserError
from noisyvos.methods.base import METHODS
from noisyvos.params.entries import read_family
from noisyvos.training import loop
from noisyvos.training.batches import check_sizes, feed, make_batch
from noisyvos.training.clip_readers import VideoClips
from noisyvos.training.curve import Curve
from noisyvos.training.optimizers import OPTIMIZERS, make_optimizers, set_learning_rate
from noisyvos.training.schedule import Schedule, is_diagnosed, learning_rate, max_jump
from noisyvos.training.step import as_floats, make_learner, take_step

MULTIPLIES_BF16 = half_precision("bf16", CPU, inference=True) is not None


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def source(world):
    return VideoClips(world / "data", world / "noisy.zip", 3)


# ---- schedules


def test_learning_rate_warms_up_and_decays():
    cosine = schedule(iterations=10, warmup=2, decay="cosine", learning_rate=1.0)
    assert [learning_rate(cosine, i) for i in (0, 1, 2)] == [0.5, 1.0, 1.0]
    assert learning_rate(cosine, 6) == pytest.approx(0.5)
    steps = schedule(iterations=10, warmup=0, decay="steps", drops=(4, 8), learning_rate=1.0)
    assert [learning_rate(steps, i) for i in (3, 4, 8)] == pytest.approx([1.0, 0.1, 0.01])
    assert learning_rate(
        schedule(warmup=0, decay="poly", iterations=10, learning_rate=1.0), 5
    ) == pytest.approx(0.5**0.9)
    held = schedule(warmup=0, decay="poly", iterations=10, learning_rate=1.0, hold=4)
    assert [learning_rate(held, i) for i in (0, 3, 4, 7, 8)] == pytest.approx(
        [1, 1, 0.6**0.9, 0.6**0.9, 0.2**0.9]
    )


def test_a_floor_holds_from_the_first_iteration_to_the_last():
    low = schedule(iterations=10, warmup=5, decay="cosine", learning_rate=1.0, floor=0.3)
    assert [learning_rate(low, i) for i in (0, 1, 4, 5, 9)] == pytest.approx(
        [0.3, 0.4, 1.0, 1.0, 0.3]
    )


def test_published_curriculum_of_stm():
    stage = Schedule(**read_family("params", "train")["stm_davis_ytvos"])
    assert [max_jump(stage, i) for i in (0, 749, 750, 18_749, 18_750, 199_999)] == [
        1,
        1,
        2,
        25,
        26,
        26,
    ]
    assert (
        divided_jump(stage.sampler, 26, 5) == 6
    )  # on YouTube-VOS at most five annotated frames are left out


def test_published_jumps_of_xmem():
    stage = Schedule(**read_family("params", "train")["xmem_stage3"])
    assert [max_jump(stage, i) for i in (0, 9_999, 10_000, 30_000, 89_999, 90_000, 105_000)] == [
        5,
        5,
        10,
        15,
        15,
        5,
        5,
    ]
    assert stage.total == 110_000
    assert [learning_rate(stage, i) for i in (0, 79_999, 80_000)] == pytest.approx(
        [1e-5, 1e-5, 1e-6]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, "greater than or equal to 1"),
        ({"learning_rate": -1.0}, "greater than 0"),
        ({"augmentation": "lite"}, "Did you mean 'light'"),
        ({"optimizer": "adamm"}, "Did you mean 'adam'"),
        ({"drops": (3,)}, "need `decay: steps`"),
        ({"momentum": 0.9}, "`momentum` needs `optimizer: sgd`"),
        ({"optimizer": "sgd", "momentum": 1.0}, "less than 1"),
        ({"floor": 2.0}, "`floor` is above `learning_rate`"),
        ({"warmup": 99}, "longer than the training"),
        ({"max_jump": ((0.5, 3),)}, "start at share 0"),
        ({"max_jump": {"most": 3}}, "every"),
        ({"clip_lenght": 3}, "Extra inputs"),
        ({"teacher_amp": "fp8"}, "'fp16' or 'bf16'"),
        ({"teacher_amp": True}, "'fp16' or 'bf16'"),
    ],
)
def test_wrong_schedules_are_refused(change, message):
    with pytest.raises((ValidationError, UserError), match=message):
        schedule(**change)


def test_diagnosed_batches_are_the_last_of_each_period():
    chosen = [
        i
        for i in range(40)
        if is_diagnosed(schedule(iterations=40, diagnostics=4, diagnosed_batches=2), i)
    ]
    assert chosen == [8, 9, 18, 19, 28, 29, 38, 39]


# ---- data


def test_batches_depend_on_seed_and_iteration_alone(source, world):
    settings = schedule()
    one, again = (
        make_batch(source, settings, 0, 5),
        make_batch(VideoClips(world / "data", world / "noisy.zip", 3, 0), settings, 0, 5),
    )
    assert torch.equal(one.frames, again.frames)
    assert torch.equal(one.masks, again.masks)
    assert one.keys == again.keys
    assert one.frames.shape == (2, 3, 3, *SIZE)
    assert one.frames.dtype == torch.float32
    assert one.masks.dtype == torch.int64
    assert set(one.masks.unique().tolist()) <= {0, 1, 2}
    assert one.num_objects.tolist() == [2, 2]
    assert not torch.equal(one.frames, make_batch(source, settings, 1, 5).frames)


def test_processes_that_read_ahead_change_nothing(source):
    settings = schedule(iterations=5, diagnostics=1, diagnosed_batches=5)
    here = list(feed(source, settings, 0, 2, 0))
    ahead = list(feed(source, settings, 0, 2, 2))
    assert len(here) == 3
    for a, b in zip(here, ahead, strict=True):
        assert torch.equal(a.frames, b.frames)
        assert torch.equal(a.masks, b.masks)
        assert torch.equal(a.clean, b.clean)


def test_clean_labels_come_with_diagnosed_batches_only(source):
    settings = schedule(iterations=8, diagnostics=1, diagnosed_batches=1)
    assert make_batch(source, settings, 0, 0).clean is None
    batch = make_batch(source, settings, 0, 7)
    assert (batch.clean > 0).sum() < (batch.masks > 0).sum()  # the labels were dilated


def test_one_slot_keeps_one_object(source):
    batch = make_batch(source, schedule(objects=1), 0, 0)
    assert batch.slots == 1
    assert batch.masks.max() == 1
    assert batch.num_objects.tolist() == [1, 1]


def test_a_clip_without_objects_trains_as_background(source):
    batch = make_batch(source, schedule(min_area=10_000), 0, 0)
    assert batch.masks.max() == 0
    assert batch.num_objects.tolist() == [1, 1]


def test_labels_that_lack_a_frame_are_refused(world, tmp_path):
    from noisyvos.io.masks import MaskCollection, write_mask_zip

    full = MaskCollection(world / "noisy.zip")
    rest = [
        (s, f, full.read(s, f))
        for s in full.sequences()
        for f in full.frames(s)
        if (s, f) != ("seq1", "00002")
    ]
    write_mask_zip(tmp_path / "short.zip", rest)
    with pytest.raises(
        UserError, match=r"1 masks of sequence 'seq1' are missing, the first is seq1/00002.png"
    ):
        VideoClips(world / "data", tmp_path / "short.zip", 3)


def test_clips_longer_than_every_video_are_refused(world):
    with pytest.raises(UserError, match="no video has 9 annotated frames"):
        VideoClips(world / "data", world / "noisy.zip", 9)


def test_a_crop_larger_than_the_videos_is_refused(source):
    with pytest.raises(UserError, match="does not fit frames of"):
        check_sizes(source, schedule(crop=64))


# ---- steps


def published_adam(weight, gradient, state, *, rate, decay, decoupled):
    """Take a step of Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019) in float64."""
    if decoupled:
        weight *= 1 - rate * decay
    else:
        gradient = gradient + decay * weight
    state["step"] = state.get("step", 0) + 1
    state["mean"] = 0.9 * state.get("mean", 0) + 0.1 * gradient
    state["square"] = 0.999 * state.get("square", 0) + 0.001 * gradient**2
    mean = state["mean"] / (1 - 0.9 ** state["step"])
    square = state["square"] / (1 - 0.999 ** state["step"])
    weight -= rate * mean / (square.sqrt() + 1e-8)


def published_sgd(weight, gradient, state, *, rate, decay, momentum):
    """Take a step of gradient descent with Nesterov's momentum in float64."""
    gradient = gradient + decay * weight
    state["velocity"] = momentum * state.get("velocity", 0) + gradient
    weight -= rate * (gradient + momentum * state["velocity"])


@pytest.mark.parametrize(
    ("name", "momentum", "rule"),
    [
        ("adamw", 0.0, partial(published_adam, decoupled=True)),
        ("adam", 0.0, partial(published_adam, decoupled=False)),
        ("sgd", 0.9, partial(published_sgd, momentum=0.9)),
        ("sgd", 0.0, partial(published_sgd, momentum=0.0)),
    ],
)
def test_optimizers_follow_the_published_rules(name, momentum, rule):
    """Two parameter groups; a weight without a gradient stays and keeps its moments."""
    weights = [
        nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(s)))
        for s in range(3)
    ]
    settings = [(1.0, 0.05), (0.5, 0.0), (1.0, 0.05)]
    optimizers = make_optimizers(
        name, [(weight, *each) for weight, each in zip(weights, settings, strict=True)], momentum
    )
    wanted, states = [weight.detach().double() for weight in weights], [{}, {}, {}]
    for step in range(6):
        used = [index for index in range(3) if (index, step) not in ((2, 0), (1, 2))]
        for optimizer in optimizers:
            set_learning_rate(optimizer, 0.1 / (1 + step))
            optimizer.zero_grad()
        sum((weights[index] ** 2 * (1 + step)).sum() for index in used).backward()
        for index in used:
            share, decay = settings[index]
            gradient, rate = 2 * (1 + step) * wanted[index], share * 0.1 / (1 + step)
            rule(wanted[index], gradient, states[index], rate=rate, decay=decay)
        for optimizer in optimizers:
            optimizer.step()
    for weight, value in zip(weights, wanted, strict=True):
        torch.testing.assert_close(weight.detach().double(), value, rtol=2e-6, atol=2e-7)


def as_published_muon(weight, gradient, momentum_buffer, *, rate, decay):
    """Take a step of Muon in float64, of matrices; an exact orthogonal factor in the update."""
    momentum_buffer.mul_(0.95).add_(gradient)
    update = gradient + 0.95 * momentum_buffer
    left, _, right = torch.linalg.svd(update, full_matrices=False)
    weight *= 1 - rate * decay
    weight -= rate * 0.2 * max(weight.shape) ** 0.5 * (left @ right)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_moves_convolutions_along_orthogonal_factors(layout):
    """Five Newton-Schulz steps leave singular values between .68 and 1.13, so rules agree roughly.

    Other parameters follow AdamW at the schedule's own rate.
    """
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(8, 4, 3, 3, generator=generator)
    weight = nn.Parameter(start.clone(memory_format=layout))
    bias = nn.Parameter(torch.zeros(8))
    optimizers = make_optimizers("muon", [(weight, 1.0, 0.01), (bias, 1.0, 0.0)], muon_rate=3.0)
    wanted = start.flatten(1).double().clone()
    buffer = torch.zeros_like(wanted)
    for _ in range(3):
        gradient = torch.randn(8, 4, 3, 3, generator=generator)
        as_published_muon(wanted, gradient.flatten(1).double(), buffer, rate=3e-3, decay=0.01)
        weight.grad, bias.grad = gradient.clone(memory_format=layout), torch.ones(8)
        for optimizer in optimizers:
            set_learning_rate(optimizer, 1e-3)
            optimizer.step()
    moved = (weight.detach() - start).flatten(1).double()
    expected = wanted - start.flatten(1)
    assert torch.cosine_similarity(moved.flatten(), expected.flatten(), 0) > 0.97
    assert 0.75 < moved.norm() / expected.norm() < 1.1
    torch.testing.assert_close(bias.detach(), torch.full((8,), -3e-3))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.9 on")
@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (24, 5, 1, 1), (1, 6, 3, 3)])
def test_muon_is_that_of_torch_up_to_its_half_precision(shape):
    """torch computes in bfloat16, whose relative steps are 0.8 %."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(shape, generator=generator)
    weight, matrix = nn.Parameter(start.clone()), nn.Parameter(start.flatten(1).clone())
    (ours,) = make_optimizers("muon", [(weight, 1.0, 0.01)])
    set_learning_rate(ours, 1e-2)
    torchs = torch.optim.Muon(
        [matrix], lr=1e-2, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        gradient = torch.randn(shape, generator=generator)
        weight.grad, matrix.grad = gradient, gradient.flatten(1)
        ours.step()
        torchs.step()
    moved = (weight - start).flatten(1)
    expected = matrix - start.flatten(1)
    assert (moved - expected).norm() / expected.norm() < 0.02


@pytest.mark.parametrize("shape", [(6,), (2, 1, 3, 1)])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_loaded_optimizer_goes_on_to_the_same_bits(name, shape):
    momentum = 0.9 if name == "sgd" else 0.0

    def steps(weight, optimizers, count):
        for _ in range(count):
            for optimizer in optimizers:
                set_learning_rate(optimizer, 0.1)
                weight.grad = 2 * weight.detach()
                optimizer.step()

    whole = nn.Parameter(torch.arange(6.0).view(shape))
    kept = make_optimizers(name, [(whole, 1.0, 0.01)], momentum)
    steps(whole, kept, 2)
    later = nn.Parameter(whole.detach().clone())
    again = make_optimizers(name, [(later, 1.0, 0.01)], momentum)
    for old, new in zip(kept, again, strict=True):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    steps(whole, kept, 3)
    steps(later, again, 3)
    assert torch.equal(whole, later)


def test_optimizers_do_not_import_the_compiler_of_torch():
    """Its import takes seconds at the start of every training."""
    program = f"""
import sys, torch
from noisyvos.training.optimizers import make_optimizers
for name in {[*OPTIMIZERS]}:
    weights = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2, 2, 1, 1))]
    chosen = [(weight, 1.0, 0.0) for weight in weights]
    for optimizer in make_optimizers(name, chosen, 0.9 if name == "sgd" else 0.0):
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.zero_grad()
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_auxiliary_losses_are_added_and_random_choices_follow_the_iteration(source):
    learner = make_learner(ToyNetwork(), ToyMethod(), schedule(), 0, CPU)
    clip = make_batch(source, learner.schedule, 0, 0)
    own = learner.networks[0].conv.bias.square().sum().item()
    values = as_floats(take_step(learner, clip, 3))
    assert values["own"] == pytest.approx(own)
    assert values["loss"] == pytest.approx(values["ce"] + own, rel=1e-5)
    take_step(learner, clip, 4)
    take_step(learner, clip, 3)
    first, second, third = learner.networks[0].draws
    assert first == third != second


def test_running_statistics_stay_frozen_while_their_scale_learns(source, tmp_path):
    learner, _ = run(source, tmp_path)
    norm = learner.networks[0].norm
    assert torch.equal(norm.running_mean, torch.zeros(3))
    assert not torch.equal(norm.weight, torch.ones(3))


def test_the_teacher_is_the_frozen_initial_student(source, tmp_path):
    start = ToyNetwork()
    before = copy.deepcopy(start.state_dict())
    learner, _ = run(source, tmp_path, ToyTeacherMethod(), start)
    assert all(
        torch.equal(value, before[name]) for name, value in learner.teacher.state_dict().items()
    )
    assert not any(weight.requires_grad for weight in learner.teacher.parameters())
    assert not torch.equal(learner.networks[0].conv.weight, before["conv.weight"])


def test_learned_scalars_of_a_method_may_have_a_rate_of_their_own(source):
    learner = make_learner(ToyNetwork(), ToyOwnRateMethod(), schedule(), 0, CPU)
    take_step(learner, make_batch(source, learner.schedule, 0, 0), 0)
    assert learner.method.scalar.item() == pytest.approx(
        0.25, rel=1e-4
    )  # Adam's first step is as long as the rate


def test_parameter_groups_learn_at_their_own_rates(source):
    groups = [{"match": r"^norm\.", "rate": 0}, {"match": "bias$", "rate": 0.1, "weight_decay": 0}]
    start = ToyNetwork()
    before = copy.deepcopy(start.state_dict())
    learner = make_learner(
        start, ToyMethod(), schedule(groups=groups, warmup=0, learning_rate=0.01), 0, CPU
    )
    take_step(learner, make_batch(source, learner.schedule, 0, 0), 0)
    after = learner.networks[0].state_dict()
    assert torch.equal(after["norm.weight"], before["norm.weight"])
    assert torch.equal(after["norm.bias"], before["norm.bias"])
    moved = {
        name: (after[name] - before[name]).abs().max().item()
        for name in ("conv.weight", "conv.bias")
    }
    assert moved["conv.bias"] == pytest.approx(
        0.001, rel=1e-3
    )  # Adam's first step is as long as the rate
    assert moved["conv.weight"] == pytest.approx(0.01, rel=0.05)  # and weight decay
    assert schedule(groups=groups).result_settings() != schedule().result_settings()
    assert "groups" not in schedule().result_settings()


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"match": "nrom"}], "'nrom' matches no parameter of this network"),
        (
            [{"match": "conv"}, {"match": "conv.bias"}],
            "'conv.bias' matches no parameter of this network that an earlier group left",
        ),
        ([{"match": "", "rate": 0}], "nothing would be trained"),
        ([{"match": "("}], "is not a regular expression"),
        ([{"match": "conv", "lr": 1}], "Extra inputs"),
    ],
)
def test_groups_that_cannot_be_meant_are_refused(groups, message):
    with pytest.raises((ValidationError, UserError), match=message):
        make_learner(ToyNetwork(), ToyMethod(), schedule(groups=groups), 0, CPU)


def test_two_networks_start_apart(source):
    learner = make_learner(ToyNetwork(), ToyPairMethod(), schedule(), 0, CPU)
    a, b = (network.conv.weight for network in learner.networks)
    assert not torch.equal(a, b)
    torch.testing.assert_close(a, b, rtol=0.2, atol=1e-3)


def test_a_loss_that_is_no_number_stops_the_training(source, tmp_path):
    with pytest.raises(
        UserError,
        match=r"no longer a finite number at iteration 0 \(loss, ce\).*Lower `learning_rate`",
    ):
        run(source, tmp_path, network=ToyNetwork(factor=float("nan")))


def test_half_precision_that_never_finds_a_gradient_stops_the_training(
    source, tmp_path, monkeypatch
):
    def overflowing(learner, *given, take_step=loop.take_step):
        learner.scaler = torch.amp.GradScaler("cpu")
        return replace(take_step(learner, *given), norm=math.inf)

    monkeypatch.setattr(loop, "take_step", overflowing)
    monkeypatch.setattr(loop, "MOST_LEFT_OUT", 3)
    with pytest.raises(
        UserError, match=r"in 3 iterations up to 2, so nothing is learned.*`amp: bf16`"
    ):
        run(source, tmp_path)


def test_the_end_of_a_reading_process_is_explained(source, tmp_path, monkeypatch):
    def feed_from_the_dead(*given, **rest):
        yield from islice(feed(*given, **rest), 2)
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    monkeypatch.setattr(loop, "feed", feed_from_the_dead)
    with pytest.raises(
        UserError,
        match=r"ended at iteration 2 .*lower `workers`.*The state of iteration 2 is kept\.",
    ):
        run(source, tmp_path, checkpoint_every=1, iterations=4)


# ---- diagnostics and curve


def test_curve_rows_are_means_and_diagnostics_come_in_their_rows(source, tmp_path):
    _, curve = run(source, tmp_path, iterations=8, diagnostics=2, diagnosed_batches=1, log_every=2)
    lines = curve.csv().splitlines()
    assert lines[0].startswith("iteration,learning_rate,loss,ce,own,mislabelled,")
    assert [line.split(",")[0] for line in lines[1:]] == ["2", "4", "6", "8"]
    assert [bool(line.split(",")[5]) for line in lines[1:]] == [False, True, False, True]
    assert 0 < curve.diagnostics["mislabelled"] < 1
    assert set(curve.final()) == {"loss", "ce", "own"}
    rows = Curve()
    rows.terms.add({"loss": 1.0})
    rows.terms.add({"loss": 2.0})
    assert rows.close_row(2, 0.1, with_diagnostics=False) == {
        "iteration": 2,
        "learning_rate": 0.1,
        "loss": 1.5,
    }


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_takes_steps_and_learns(source, name, world):
    network = models.build("xmem_tiny", width=8, key_dim=8, value_dim=16, hidden_dim=8)
    before = copy.deepcopy(network.state_dict())
    method = methods.build(name, total_iterations=14)
    learner = make_learner(network, method, schedule(), 0, CPU)
    for iteration in range(2):
        values = as_floats(
            take_step(
                learner,
                make_batch(source, learner.schedule, 0, iteration, clean=method.clean_labels),
                iteration,
            )
        )
        assert math.isfinite(values["loss"])
    assert not torch.equal(
        network.state_dict()["key_proj.key_proj.weight"], before["key_proj.key_proj.weight"]
    )
    assert all(weight.grad is not None for weight in method.parameters())


@pytest.mark.parametrize("optimizer", [{}, {"optimizer": "sgd", "momentum": 0.9}])
def test_loss_scaling_changes_no_update(source, optimizer):
    clip = make_batch(source, schedule(), 0, 0)
    plain, scaled = (
        make_learner(ToyNetwork(), ToyMethod(), schedule(gradient_clip=0.1, **optimizer), 0, CPU)
        for _ in range(2)
    )
    scaled.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for learner in (plain, scaled):
        take_step(learner, clip, 0)
    torch.testing.assert_close(plain.networks[0].conv.weight, scaled.networks[0].conv.weight)
    torch.testing.assert_close(plain.method.scalar, scaled.method.scalar)


@pytest.mark.parametrize(
    ("amp", "expected"),
    [(True, torch.float16), ("fp16", torch.float16), ("bf16", torch.bfloat16), (False, None)],
)
def test_kinds_of_half_precision(amp, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert half_precision(schedule(amp=amp).amp, torch.device("cuda")) is expected
    assert half_precision(schedule(amp=amp).amp, CPU) is None
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(UserError, match="does not compute in bf16"):
        half_precision("bf16", torch.device("cuda"))


def test_a_step_in_bf16_is_close_to_one_in_full_precision(source, world):
    weights = models.build("xmem_tiny", seed=3, width=8, key_dim=8, value_dim=16, hidden_dim=8)
    clip = make_batch(source, schedule(), 0, 0)
    results = []
    for half in (None, torch.bfloat16):
        learner = make_learner(
            copy.deepcopy(weights),
            methods.build("smart", total_iterations=9),
            schedule(amp="bf16"),
            0,
            CPU,
        )
        learner.half = half
        results.append(take_step(learner, clip, 0))
        assert not learner.scaler.is_enabled()  # bf16 has the range of float32
    full, brief = results
    assert all(logits.dtype == torch.float32 for logits in brief.output.logits)
    assert brief.loss.item() != full.loss.item()
    assert brief.loss.item() == pytest.approx(full.loss.item(), rel=0.05)
    assert brief.norm == pytest.approx(full.norm, rel=0.2)


@pytest.mark.skipif(not MULTIPLIES_BF16, reason="this CPU does not compute in bf16")
def test_a_teacher_in_bf16_says_nearly_the_same(source):
    weights = models.build("xmem_tiny", seed=3, width=8, key_dim=8, value_dim=16, hidden_dim=8)
    clip = make_batch(source, schedule(), 0, 0)
    results = []
    for precision in (None, "bf16"):
        method = methods.build("smart", total_iterations=9)
        chosen = schedule(teacher_amp=precision)
        learner = make_learner(copy.deepcopy(weights), method, chosen, 0, CPU)
        assert learner.half is None
        results.append(take_step(learner, clip, 0))
    full, brief = results
    for one, other in zip(full.output.logits, brief.output.logits, strict=True):
        assert torch.equal(one, other)  # the trained network computes in float32 all the same
    for one, other in zip(full.teacher.logits, brief.teacher.logits, strict=True):
        assert other.dtype == torch.float32
        assert not torch.equal(one, other)
        torch.testing.assert_close(one.softmax(1), other.softmax(1), rtol=0, atol=0.05)
    assert "teacher_amp" not in schedule().result_settings()  # earlier checkpoints still count
    assert schedule(teacher_amp="bf16").result_settings()["teacher_amp"] == "bf16"
