"""What only a GPU can show: parity in full precision, closeness in half, processes over NCCL, speed. Needs torch and numpy only.

No test here imports Snakemake, DVC or MLflow, so that the suite runs on machines that lack them.
"""

import importlib.util
import json
import time

import numpy as np
import pytest
import torch

from noisyvos import models
from noisyvos.inference import segment_video
from noisyvos.methods import build as build_method
from noisyvos.models.base import Clip
from noisyvos.models.xmem import clips
from noisyvos.training.schedule import Schedule
from noisyvos.training.step import make_learner, take_step

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]

SMALL = {"kind": "xmem_tiny", "width": 8, "key_dim": 8, "value_dim": 16, "hidden_dim": 8}


@pytest.fixture(scope="module")
def recipe(shared):
    """The recipe of the reference weights, images and masks."""
    spec = importlib.util.spec_from_file_location("parity_weights", shared / "parity" / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference(shared, recipe):
    """XMem at its published size on the GPU with the reference weights."""
    values = recipe.fill_state_dict(recipe.load_shapes(shared / "parity" / "xmem.keys.json"))
    values["decoder.pred.bias"] = values["decoder.pred.bias"] - 5.4
    return models.load_official("xmem", values).cuda()


@pytest.fixture
def full_precision():
    """Convolutions and products in float32 throughout, which TF32 is not."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def reference_clip(recipe) -> Clip:
    frames = torch.stack([torch.stack([recipe.image(f"xmem:train{b}:frame{t}", 3, 64, 80) for t in range(4)]) for b in range(2)])
    masks = torch.stack([torch.stack([recipe.mask(f"xmem:train{b}:mask{t}", 2 - b, 64, 80) for t in range(4)]) for b in range(2)])
    return Clip(frames, masks.long(), torch.tensor([2, 1]), slots=3).to("cuda")


def random_clip(batch: int, length: int, side: int) -> Clip:
    """Return moving squares on noise, two objects a clip."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(batch, length, side, side, dtype=torch.int64)
    for t in range(length):
        for label in (1, 2):
            at, size = side // 8 * label + t * side // 32, side // 5
            masks[:, t, at : at + size, at : at + size] = label
    frames = 0.3 * torch.rand(batch, length, 3, side, side, generator=generator) + 0.3 * masks.unsqueeze(2)
    return Clip(frames, masks, torch.full((batch,), 2), slots=2).to("cuda")


def test_training_pass_of_xmem_in_full_precision(shared, recipe, reference, full_precision):
    reference.train()
    with torch.no_grad():
        result = clips.run(reference, reference_clip(recipe), clips.Choices((None, None, None), (True, False)))
    with np.load(shared / "parity" / "xmem.npz") as expected:
        for t in (1, 2, 3):
            wanted = expected[f"c_masks_{t}"]
            found = result.probabilities[t - 1][:, 1:, ::2, ::2].cpu().numpy()
            assert np.abs(found - wanted).max() <= 1e-3 * np.abs(wanted).max()


def test_video_of_xmem_in_full_precision(shared, recipe, reference, full_precision):
    frames = torch.stack([recipe.image(f"xmem:clip:frame{t}", 3, 90, 122) for t in range(8)])
    memory = {"enable_long_term": False, "mem_every": 2, "deep_update_every": 3, "top_k": 12}
    first = recipe.mask("xmem:clip:mask0", 2, 90, 122).numpy().astype(np.uint8)
    video = segment_video(reference, frames.cuda(), {0: first}, memory=memory)
    with np.load(shared / "parity" / "xmem.npz") as expected:
        assert (video.masks == expected["e_masks"]).reshape(8, -1).mean(1).min() >= 0.999


def test_half_precision_stays_close(recipe, reference, full_precision):
    reference.eval()
    clip, choices = reference_clip(recipe), clips.Choices((None, None, None), (True, False))
    with torch.no_grad():
        full = clips.run(reference, clip, choices)
        with torch.autocast("cuda", dtype=torch.float16):
            half = clips.run(reference, clip, choices)
    for one, other in zip(full.probabilities, half.probabilities, strict=True):
        assert (one - other.float()).abs().mean() < 0.02
        assert (one.argmax(1) == other.argmax(1)).float().mean() > 0.95


def _train(root, out, *, processes: int, init=None, method: str = "plain", schedule: str = "few") -> dict:
    from noisyvos.stages import train as stage
    from noisyvos.training.task import Task

    files = {
        "weights": out / "weights.safetensors",
        "summary": out / "summary.json",
        "curve": out / "curve.csv",
        "scratch": out / "scratch",
    }
    names = {"stage": "train", "cell": "cell", "preset": "toy", "model": "small", "seed": 1, "method": method, "schedule": schedule}
    task = Task(**names, **files, init=init, params=root / "params", device="cuda", track=False, processes=processes)
    stage.run(task, dataset=root / "data", masks=root / "noisy.zip", manifest=root / "noisy.json")
    return json.loads((out / "summary.json").read_text())


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    import yaml

    from training_world import SCHEDULE, make_world

    root = make_world(tmp_path_factory.mktemp("world"))
    few = SCHEDULE | {"iterations": 4, "batch": 4, "amp": False}
    schedules = {"few": few, "half": few | {"amp": True, "iterations": 30}}
    (root / "params" / "train.yaml").write_text(yaml.safe_dump(schedules))
    return root


def test_a_group_of_one_talks_over_nccl(tmp_path):
    from torch import distributed

    from noisyvos.training.group import _sum_in_buckets

    distributed.init_process_group("cpu:gloo,cuda:nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        gradients = [torch.randn(5, 3, device="cuda"), torch.randn((), device="cuda")]
        before = [each.clone() for each in gradients]
        _sum_in_buckets(gradients)
        assert all(torch.equal(one, other) for one, other in zip(before, gradients, strict=True))
        host = torch.ones(3, dtype=torch.float64)
        distributed.all_reduce(host)  # small facts travel between CPUs
        assert host.tolist() == [1, 1, 1]
    finally:
        distributed.destroy_process_group()


def test_processes_on_as_many_gpus_train_as_one_does(world, tmp_path, monkeypatch):
    count = torch.cuda.device_count()
    if count < 2:
        pytest.skip("there is one GPU; two are needed")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(2))))
    alone, together = _train(world, tmp_path / "1", processes=1), _train(world, tmp_path / "2", processes=2)
    assert together["final"] == pytest.approx(alone["final"], rel=1e-3)


def test_a_short_smart_training_on_generated_data(world, tmp_path):
    init = tmp_path / "init.safetensors"
    models.save_weights(models.build(SMALL["kind"], seed=3, **{name: value for name, value in SMALL.items() if name != "kind"}), init)
    facts = _train(world, tmp_path, processes=1, init=init, method="smart", schedule="half")
    assert facts["device"] == "cuda"
    assert all(np.isfinite(value) for value in facts["final"].values())


@pytest.mark.parametrize("kind", ["smart", "xmem"])
def test_training_speed_at_published_size(kind, capsys):
    """Eight clips of eight frames at 384 x 384 are the published batch; four are used here, and the speed is printed."""
    schedule = Schedule(iterations=1000, batch=4, clip_length=8, learning_rate=1e-5, crop=384)
    learner = make_learner(models.build("xmem", seed=0), build_method(kind, total_iterations=1000), schedule, 0, torch.device("cuda"))
    clip = random_clip(4, 8, 384)
    for iteration in range(3):
        take_step(learner, clip, iteration)
    torch.cuda.synchronize()
    began, steps = time.perf_counter(), 10
    for iteration in range(3, 3 + steps):
        result = take_step(learner, clip, iteration)
    torch.cuda.synchronize()
    speed, peak = steps / (time.perf_counter() - began), torch.cuda.max_memory_allocated() / 2**30
    with capsys.disabled():
        print(f"\n{kind}: {speed:.2f} it/s with half precision, batch 4 of 8 frames at 384 x 384, peak memory {peak:.1f} GiB")
    assert torch.isfinite(result.loss)


def test_inference_speed_at_480p(capsys):
    model = models.build("xmem", seed=0).cuda().eval()
    frames = torch.rand(60, 3, 480, 854, generator=torch.Generator().manual_seed(0)).cuda()
    first = np.zeros((480, 854), np.uint8)
    first[100:300, 200:500] = 1
    seen = []
    for half in (False, True):
        with torch.autocast("cuda", dtype=torch.float16, enabled=half):
            segment_video(model, frames[:10], {0: first})
            torch.cuda.synchronize()
            began = time.perf_counter()
            video = segment_video(model, frames, {0: first})
        seen.append(len(frames) / (time.perf_counter() - began))
        assert video.masks.shape == (60, 480, 854)
    with capsys.disabled():
        print(f"\nxmem, one object at 480 x 854: {seen[0]:.1f} frames a second in full, {seen[1]:.1f} in half precision")
