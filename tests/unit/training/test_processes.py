"""Several processes that train together: same weights as one, stopped and ended together."""

import json
import math
import multiprocessing
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import group_work
import pytest
import torch
import yaml
from safetensors.torch import load_file
from training_world import SCHEDULE, make_world

from noisyvos import methods, models
from noisyvos.errors import UserError
from noisyvos.methods.base import METHODS
from noisyvos.params.entries import read_family
from noisyvos.stages import train as stage
from noisyvos.training import distributed, loop, step
from noisyvos.training.batches import make_batch
from noisyvos.training.clip_readers import VideoClips
from noisyvos.training.distributed import Group, choose_count, run_together
from noisyvos.training.schedule import Schedule
from noisyvos.training.step import make_learner
from noisyvos.training.task import TrainingTask

SMALL = {"seed": 3, "width": 8, "key_dim": 8, "value_dim": 16, "hidden_dim": 8}
SCHEDULES = {
    "often": {"iterations": 4, "checkpoint_every": 1},
    "traced": {"iterations": 8, "batch": 1},
    "uneven": {"iterations": 3, "batch": 5, "warmup": 0, "clip_length": 4},
    "parts": {"iterations": 3, "batch": 6, "parts": 3, "warmup": 0, "workers": 1},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = make_world(tmp_path_factory.mktemp("world"))
    params = root / "params" / "train.yaml"
    smoke = read_family("params", "train")["smoke_main"]
    schedules = {name: SCHEDULE | changes for name, changes in SCHEDULES.items()}
    params.write_text(
        yaml.safe_dump(schedules | {"smoke": smoke, "smoke_in_two": smoke | {"parts": 2}})
    )
    methods = {
        "plain": {"kind": "ce_plain"},
        "pair": {"kind": "jocor"},
        "smart": {"kind": "smart"},
        "sums": {"kind": "xmem", "parity": True},
        "frames": {"kind": "coteach_frame"},
    }
    (root / "params" / "methods.yaml").write_text(yaml.safe_dump(methods))
    return root


def task(world, out, *, method="plain", schedule="uneven", processes=1, **rest) -> TrainingTask:
    files = {
        "weights": out / "weights.safetensors",
        "summary": out / "summary.json",
        "curve": out / "curve.csv",
        "scratch": out / "scratch",
    }
    names = {
        "stage": "train",
        "cell": "cell",
        "preset": "toy",
        "model": "small",
        "seed": 1,
        "method": method,
        "schedule": schedule,
    }
    return TrainingTask(
        **names,
        **files,
        params=world / "params",
        device="cpu",
        track=False,
        processes=processes,
        **rest,
    )


def run(world, out, **rest):
    stage.run(
        task(world, out, **rest),
        dataset=world / "data",
        masks=world / "noisy.zip",
        manifest=world / "noisy.json",
    )
    return load_file(out / "weights.safetensors"), json.loads((out / "summary.json").read_text())


def apart(left, right) -> float:
    """Return the distance between two sets of weights as a share of their length.

    Without the bias of the keys: matching does not see it, so its gradient is rounding noise, which
    Adam brings to full size.
    """
    names = [name for name in left if name != "key_proj.key_proj.bias"]
    square = sum((left[name].double() - right[name].double()).square().sum() for name in names)
    return float((square / sum(left[name].double().square().sum() for name in names)).sqrt())


def assert_close_facts(left, right, tolerance=1e-5):
    for part in ("final", "diagnostics"):
        assert left[part].keys() == right[part].keys()
        assert left[part] == pytest.approx(right[part], rel=tolerance, abs=tolerance)


START = multiprocessing.get_context
PRELOAD = [
    *("torch._dynamo", "torch.distributed", "safetensors.torch", "scipy.ndimage", "cv2"),
    *("noisyvos.training.task", "noisyvos.training.step", "noisyvos.models.xmem"),
]


@pytest.fixture(scope="module", autouse=True)
def quick_starts():
    """Groups are forks of one process that has PyTorch imported.

    Fixture `pair_of_processes` is a group of new Pythons, as a user starts it.
    """
    context = START("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            multiprocessing,
            "get_context",
            lambda how=None: context if how == "spawn" else START(how),
        )
        yield


@pytest.fixture(scope="module")
def alone(world, tmp_path_factory):
    return run(world, tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def pair_of_processes(world, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", START)
        return run(world, tmp_path_factory.mktemp("two"), processes=2)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [4, 5, 7])
def test_every_sample_belongs_to_one_process(batch, size):
    rows = [list(Group(rank, size).rows(batch)) for rank in range(size)]
    assert [index for own in rows for index in own] == list(range(batch))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


# a seed whose batch has no near-ties: where a maximum or a choice of pixels flips by rounding,
# gradients differ by up to 5e-5
CALM = 5


def gradients(source, name, schedule, size):
    """Return the gradients that `size` processes add up, computed here one after the other."""
    method = methods.build(name, total_iterations=3)
    learner = make_learner(
        models.build("xmem_tiny", **SMALL), method, schedule, 1, torch.device("cpu")
    )
    for rank in range(size):
        clip = make_batch(
            source, schedule, CALM, 2, clean=method.clean_labels, group=Group(rank, size)
        )
        step.add_gradients(learner, clip, 2)
    weights = [*learner.weights, *method.parameters()]
    return torch.cat(
        [weight.grad.flatten().double() for weight in weights if weight.grad is not None]
    )


SEPARABLE = [name for name in METHODS.names() if methods.build(name, total_iterations=3).in_parts]


@pytest.mark.parametrize("name", SEPARABLE)
def test_gradients_of_slices_add_up_to_the_batch(world, name):
    source = VideoClips(world / "data", world / "noisy.zip", 4)
    whole, parted = (
        Schedule(**(SCHEDULE | {"batch": 6, "clip_length": 4, "parts": parts})) for parts in (1, 2)
    )
    wanted = gradients(source, name, whole, 1)
    for schedule, size in ((whole, 2), (whole, 4), (parted, 1), (parted, 4)):
        assert (gradients(source, name, schedule, size) - wanted).norm() < 1e-6 * wanted.norm()


REMEMBERING = ["adele", "coteach_frame", "elr", "npn"]


@pytest.fixture(scope="module")
def memories(world, tmp_path_factory):
    """Return the gradients and states that one process and two processes left.

    The methods remember pixels or compare frames.
    """
    folders = {count: tmp_path_factory.mktemp(f"remembered{count}") for count in (1, 2)}
    for count, folder in folders.items():
        run_together(group_work.remembered, (world, REMEMBERING, folder), count)
    return folders


@pytest.mark.parametrize("name", REMEMBERING)
def test_what_is_remembered_is_the_same_in_several_processes(memories, name):
    """The batch of 5 holds frames twice, of 3 videos.

    Both processes have news of the same pixels in one step.
    """
    alone, first, second = (
        torch.load(memories[size] / f"{name}-{rank}.pt", weights_only=True)
        for size, rank in ((1, 0), (2, 0), (2, 1))
    )
    for wanted, found, same in zip(
        alone["gradients"], first["gradients"], second["gradients"], strict=True
    ):
        assert torch.equal(found, same)
        assert (found - wanted).norm() < 1e-6 * wanted.norm()
    for key, value in first["state"].items():
        assert (
            torch.equal(value, second["state"][key])
            if isinstance(value, torch.Tensor)
            else value == second["state"][key]
        )
    assert name == "coteach_frame" or first["state"]["keys"] == alone["state"]["keys"] != []


def test_weights_of_several_processes_are_those_of_one(world, alone, pair_of_processes, tmp_path):
    weights, facts = alone
    for count, (together, same) in {
        2: pair_of_processes,
        4: run(world, tmp_path, processes=4),
    }.items():
        assert apart(weights, together) < 1e-6
        assert_close_facts(facts, same)
        assert same["processes"] == count
    assert "processes" not in facts
    assert facts["diagnostics"]["mislabelled"] > 0


def test_the_smoke_training_of_two_processes_is_that_of_one_in_two_parts_bit_for_bit(
    world, tmp_path
):
    models.save_weights(models.build("xmem_tiny", **SMALL), tmp_path / "init.safetensors")
    choice = {"method": "smart", "init": tmp_path / "init.safetensors"}
    together, facts = run(world, tmp_path / "two", schedule="smoke", processes=2, **choice)
    parted, same = run(world, tmp_path / "parts", schedule="smoke_in_two", **choice)
    whole, _ = run(world, tmp_path / "one", schedule="smoke", **choice)
    assert all(
        torch.equal(value, parted[name]) for name, value in together.items()
    )  # a sum of two does not depend on its order
    assert_close_facts(same, facts)
    assert apart(whole, together) < 1e-4  # rounding, which grows where pixels are chosen


def test_training_goes_on_in_another_number_of_processes(world, tmp_path, monkeypatch, capsys):
    choice = {"method": "pair", "schedule": "parts"}
    whole, facts = run(world, tmp_path / "whole", **choice)
    with monkeypatch.context() as patch:
        patch.setattr(
            distributed,
            "run_together",
            lambda work, arguments, count: saved_by_self(*arguments, Group()),
        )
        with pytest.raises(SystemExit) as stopped:
            run(world, tmp_path / "parts", **choice)
    assert stopped.value.code == 143
    resumed, same = run(world, tmp_path / "parts", processes=2, **choice)
    assert apart(whole, resumed) < 1e-6
    assert_close_facts(facts, same)


def saved_by_self(*arguments):
    group_work.train_with_signal(signal.SIGTERM, False, *arguments)


def spoiled(work):
    """Return a way to start processes that do `work` in place of the training."""
    return lambda _, arguments, count: run_together(work, arguments, count)


def test_a_request_to_stop_reaches_all_and_the_rest_gives_the_same_bits(
    world, pair_of_processes, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(distributed, "run_together", spoiled(group_work.saved_by_term))
        with pytest.raises(SystemExit) as stopped:
            run(world, tmp_path, processes=2)
    assert stopped.value.code == 143
    assert list((tmp_path / "scratch" / "toy" / "cell").glob("checkpoint-*.pt"))
    resumed, facts = run(world, tmp_path, processes=2)
    assert all(torch.equal(value, resumed[name]) for name, value in pair_of_processes[0].items())
    assert facts == pair_of_processes[1]


def test_the_death_of_one_ends_the_others_and_is_named(world, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "run_together", spoiled(group_work.killed))
    with pytest.raises(
        UserError,
        match=(
            r"Process 1 of 2 was ended by SIGKILL, so the others were ended too\..*last "
            r"checkpoint is kept"
        ),
    ):
        run(world, tmp_path, processes=2)
    assert not (tmp_path / "weights.safetensors").exists()


def test_an_error_for_the_user_comes_through():
    with pytest.raises(UserError, match=r"^The second process does not like its labels.$"):
        run_together(group_work.refuse, (), 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"method": "sums", "processes": 2},
            "'sums' compares the samples of a batch.*--processes 1",
        ),
        (
            {"method": "frames", "schedule": "parts"},
            "'frames' compares the samples of a batch.*set `parts: 1`.*in place of 3",
        ),
        ({"processes": 6}, "A batch of 5 cannot be shared by 6 processes: take at most 5"),
    ],
)
def test_what_cannot_be_shared_is_refused_before_anything_starts(world, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        run(world, tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_one_process_a_granted_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert choose_count(None, "auto") == 2
    assert choose_count(1, "cuda") == 1
    assert choose_count(4, "cpu") == 4
    with pytest.raises(UserError, match="3 processes need 3 GPUs, this job holds 2"):
        choose_count(3, "auto")
    for granted in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", granted)
        assert choose_count(None, "auto") == 1
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert choose_count(None, "auto") == 1


def test_a_trace_of_a_few_iterations(world, tmp_path):
    run(world, tmp_path, schedule="traced", profile=tmp_path / "trace.json")
    names = [
        event.get("name", "")
        for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    ]
    assert any("convolution" in name for name in names)


def test_running_out_of_memory_names_the_settings_that_need_less(world, tmp_path, monkeypatch):
    def greedy(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(loop, "take_step", greedy)
    with pytest.raises(
        UserError,
        match=r"Memory ran out at iteration 0 \(CUDA out.*raise `parts`.*lower `crop`, `batch`",
    ):
        run(world, tmp_path)


def test_a_gradient_that_is_no_number_keeps_the_last_good_state(world, tmp_path, monkeypatch):
    def spoil(learner, clip, iteration, take_step=loop.take_step):
        result = take_step(learner, clip, iteration)
        return replace(result, norm=math.inf) if iteration == 2 else result

    monkeypatch.setattr(loop, "take_step", spoil)
    with pytest.raises(
        UserError, match=r"at iteration 2 \(its gradient\).*The state of iteration 2 is kept\."
    ):
        run(world, tmp_path, schedule="often")
    assert list((tmp_path / "scratch" / "toy" / "cell").glob("checkpoint-*.pt"))


def test_under_torchrun_the_processes_it_started_train(world, pair_of_processes, tmp_path):
    values = {
        "dataset": "data",
        "masks": "noisy.zip",
        "noise-manifest": "noisy.json",
        "params": "params",
    }
    outputs = {
        name: tmp_path / file
        for name, file in (("weights", "w.safetensors"), ("summary", "s.json"), ("curve", "c.csv"))
    }
    names = {
        "model": "small",
        "method": "plain",
        "schedule": "uneven",
        "seed": 1,
        "cell": "cell",
        "preset": "toy",
    }
    options = (
        {name: world / file for name, file in values.items()}
        | outputs
        | names
        | {"scratch": tmp_path / "scratch", "device": "cpu"}
    )
    words = [
        "train",
        "--no-track",
        *(str(word) for name, value in options.items() for word in (f"--{name}", value)),
    ]
    program = [str(Path(sys.executable).with_name("noisyvos")), *words]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--no-python",
    ]
    done = subprocess.run([*launcher, *program], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    trained = load_file(outputs["weights"])
    assert all(torch.equal(value, trained[name]) for name, value in pair_of_processes[0].items())
    assert json.loads(outputs["summary"].read_text())["processes"] == 2


def test_torchrun_over_several_machines_is_refused(monkeypatch):
    for name, value in {
        "TORCHELASTIC_RUN_ID": "a",
        "RANK": "0",
        "WORLD_SIZE": "4",
        "LOCAL_WORLD_SIZE": "2",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="on several machines"):
        choose_count(None, "auto")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert choose_count(None, "auto") == 4
    with pytest.raises(UserError, match="torchrun started 4 processes, --processes says 2"):
        choose_count(2, "auto")
