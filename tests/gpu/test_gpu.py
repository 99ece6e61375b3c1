"""What only a GPU can show.

Parity in full precision, closeness in half, processes over NCCL, speed. Needs torch and numpy only.

No test here imports Snakemake, DVC or MLflow, so that the suite runs on machines that lack them.
"""

import copy
import importlib.util
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from noisyvos import models
from noisyvos.inference import iterate_video, segment_video
from noisyvos.inference.concurrency import in_order
from noisyvos.models.base import Clip
from noisyvos.models.xmem.network import Choices
from noisyvos.pipeline.grid import Catalogue
from noisyvos.pipeline.speed import Speed, Workload, settings_hash, write_speeds
from noisyvos.stages.measure import WARM, measure

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

PARAMS = Path(__file__).resolve().parents[2] / "params"
SPEED = Path(
    os.environ.get("NOISYVOS_SPEED", PARAMS.parent / "speed.csv")
)  # where `noisyvos plan` looks
SMALL = {"kind": "xmem_tiny", "width": 8, "key_dim": 8, "value_dim": 16, "hidden_dim": 8}


@pytest.fixture(scope="module")
def recipe(shared):
    """The recipe of the reference weights, images and masks."""
    spec = importlib.util.spec_from_file_location(
        "parity_weights", shared / "parity" / "weights.py"
    )
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
    frames = torch.stack(
        [
            torch.stack([recipe.image(f"xmem:train{b}:frame{t}", 3, 64, 80) for t in range(4)])
            for b in range(2)
        ]
    )
    masks = torch.stack(
        [
            torch.stack([recipe.mask(f"xmem:train{b}:mask{t}", 2 - b, 64, 80) for t in range(4)])
            for b in range(2)
        ]
    )
    return Clip(frames, masks.long(), torch.tensor([2, 1]), slots=3).to("cuda")


def test_training_pass_of_xmem_in_full_precision(shared, recipe, reference, full_precision):
    reference.train()
    with torch.no_grad():
        result = reference.segment_clips(
            reference_clip(recipe), Choices((None, None, None), (True, False))
        )
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


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_stays_close(recipe, reference, full_precision, half):
    if half is torch.bfloat16 and not torch.cuda.is_bf16_supported():
        pytest.skip("this GPU does not compute in bf16")
    reference.eval()
    clip, choices = reference_clip(recipe), Choices((None, None, None), (True, False))
    with torch.no_grad():
        full = reference.segment_clips(clip, choices)
        with torch.autocast("cuda", dtype=half):
            brief = reference.segment_clips(clip, choices)
    for one, other in zip(full.probabilities, brief.probabilities, strict=True):
        assert (one - other.float()).abs().mean() < 0.02
        assert (one.argmax(1) == other.argmax(1)).float().mean() > 0.95


def _train(
    root,
    out,
    *,
    processes: int,
    init=None,
    method: str = "plain",
    schedule: str = "few",
    device: str = "cuda",
) -> dict:
    """Run stage `train` on the world of the tests and return its summary."""
    from noisyvos.stages import train as stage
    from noisyvos.training.task import TrainingTask

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
    task = TrainingTask(
        **names,
        **files,
        init=init,
        params=root / "params",
        device=device,
        track=False,
        processes=processes,
    )
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


def test_a_group_of_one_sums_gradients_over_nccl(tmp_path):
    from torch import distributed

    from noisyvos.training.distributed import data_parallel

    distributed.init_process_group(
        "cpu:gloo,cuda:nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        alone = torch.nn.Linear(3, 2).cuda()
        shared = data_parallel(copy.deepcopy(alone))
        frames = torch.randn(5, 3, device="cuda")
        for module in (alone, shared):
            module(frames).square().sum().backward()
        assert torch.equal(alone.weight.grad, shared.module.weight.grad)
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
    alone, together = (
        _train(world, tmp_path / "1", processes=1),
        _train(world, tmp_path / "2", processes=2),
    )
    assert together["final"] == pytest.approx(alone["final"], rel=1e-3)


def test_a_short_smart_training_on_generated_data(world, tmp_path):
    init = tmp_path / "init.safetensors"
    models.save_weights(
        models.build(
            SMALL["kind"],
            seed=3,
            **{name: value for name, value in SMALL.items() if name != "kind"},
        ),
        init,
    )
    facts = _train(world, tmp_path, processes=1, init=init, method="smart", schedule="half")
    assert facts["device"] == "cuda"
    assert all(np.isfinite(value) for value in facts["final"].values())


def step_cost(
    load: Workload, device: str, steps: int, params: Path = PARAMS
) -> tuple[Speed, float]:
    """Return the measured speed of a training as `noisyvos measure` takes it.

    And operations a second in its convolutions and products.
    """
    catalogue = Catalogue(params)
    speed = measure(load, settings_hash(load, catalogue), params, device, threads=1, steps=steps)
    with FlopCounterMode(display=False) as counter:
        measure(load, "", params, device, threads=1, steps=1)
    return speed, speed.iterations_per_second * counter.get_total_flops() / (WARM + 1)


def best_product(device: str, side: int) -> float:
    """Return operations a second of a large half-precision matrix product.

    The peak that this machine shows.
    """
    left = torch.randn(side, side, device=device, dtype=torch.float16)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        left @ left
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def test_training_speed_as_published(capsys):
    """SMART and XMem train as published: eight clips of eight frames at 384 x 384.

    `noisyvos plan` reads what is measured here.
    """
    rates = {}
    for method in ("xmem", "smart_released"):
        try:
            speed, operations = step_cost(
                Workload("xmem", method, "smart_stage3", 384, 384), "cuda", 10
            )
        except torch.OutOfMemoryError:
            pytest.skip("the published batch does not fit the memory of this GPU")
        write_speeds(SPEED, [speed])
        rates[method] = speed.iterations_per_second
        share = operations / best_product("cuda", 8192)
        with capsys.disabled():
            print(
                f"\n{method}, smart_stage3 on {speed.device}: {speed.iterations_per_second:.3g} "
                f"it/s in {speed.precision}, peak memory "
                f"{speed.peak_memory_mib} MiB, {operations / 1e12:.0f} Tflop/s, {share:.0%} of a "
                f"large matrix product's"
            )
    with capsys.disabled():
        print(
            f"\na SMART step takes {rates['xmem'] / rates['smart_released']:.2f} times a plain "
            f"one (target 1.35); written to {SPEED}"
        )


@pytest.fixture
def video():
    """Return noise as frames and the masks of two objects, the second of which appears late."""
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (120, 214, 3), dtype=np.uint8) for _ in range(24)]
    masks = {0: np.zeros((120, 214), np.uint8), 7: np.zeros((120, 214), np.uint8)}
    masks[0][20:70, 30:110] = 3
    masks[7][40:100, 120:200] = 9
    return frames, masks


def test_a_gpu_decides_as_the_host_does(reference, video, full_precision):
    frames, masks = video
    whole = list(iterate_video(reference, frames, masks))
    brief = list(iterate_video(reference, frames, masks, keep_probabilities=False))
    assert all(result.probabilities is None for result in brief)
    for one, other in zip(whole, brief, strict=True):
        assert np.array_equal(one.mask, other.mask)
        assert one.seconds > 0
    ids = np.array([0, 3, 9], np.uint8)
    assert all(np.array_equal(ids[r.probabilities.argmax(0)], r.mask) for r in whole[8:])


@pytest.mark.parametrize("amp", [False, "fp16"])
@pytest.mark.parametrize("name", ["xmem", "stm", "afb_urr", "rhmnet"])
def test_recorded_parts_change_no_mask(name, amp, video, full_precision):
    frames, masks = video
    model = models.build(name, seed=0).cuda().eval()
    if model.background_label is not None:
        masks = {0: masks[0]}
        masks[0][-10:] = model.background_label
    plain, recorded = (
        [
            result.probabilities
            for result in iterate_video(model, frames, masks, amp=amp, cuda_graphs=graphs)
        ]
        for graphs in (False, True)
    )
    for one, other in zip(plain, recorded, strict=True):
        # Sums over atomic additions may differ in their last bits from run to run.
        assert np.abs(one - other).mean() < 1e-3


def test_half_weights_are_what_autocast_makes_of_the_full_ones(reference, video):
    frames, masks = video
    twin = reference.for_inference(torch.float16)
    assert twin.key_proj.key_proj.weight.dtype == torch.float16
    full = list(iterate_video(reference, frames, masks))
    half = list(iterate_video(reference, frames, masks, amp="fp16"))
    agree = [(a.mask == b.mask).mean() for a, b in zip(full, half, strict=True)]
    assert min(agree) > 0.95


def test_several_videos_at_once_give_the_same_masks(reference, video, full_precision):
    frames, masks = video

    def segment(_, stop):
        torch.cuda.set_stream(torch.cuda.Stream())
        results = iterate_video(reference, frames, masks, keep_probabilities=False)
        return np.stack([result.mask for result in results])

    alone = segment(0, None)
    for found in in_order(segment, range(4), 4):
        assert (found == alone).mean() > 0.999


def test_no_frame_makes_the_host_wait(reference, video):
    _, masks = video
    session = reference.for_inference().session(
        channels=2, memory=reference.memory_settings(), length=60
    )
    planes = torch.from_numpy(np.stack([masks[0] == 3, masks[7] == 9])).cuda()
    picture = torch.rand(3, 120, 214, device="cuda")
    session.step(picture, given={1: planes[0], 2: planes[1]})
    session.step(picture)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(60):
            session.step(picture)
    finally:
        torch.cuda.set_sync_debug_mode("default")
