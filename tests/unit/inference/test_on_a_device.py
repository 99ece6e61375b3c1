"""What inference does for a GPU, shown without one: no round trips, recordings, kept twins."""

import threading
import traceback

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from noisyvos import models
from noisyvos.inference import iterate_video
from noisyvos.inference import video as video_module
from noisyvos.models.aoc_net.references import Pool, Proxies
from noisyvos.models.fast import prepare
from noisyvos.models.fast.recording import Recorded, with_recorded_parts

SIZE = (48, 64)


class RoundTrips(TorchDispatchMode):
    """Collects calls that move data between host and device or let the host wait for a value.

    Under fake tensors, a value or a size that only the device knows raises an error anyway.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
        crossing = len({x.device.type for x in tensors if x.ndim}) > 1
        if crossing or "_local_scalar_dense" in str(func):
            ours = [f for f in traceback.extract_stack() if "torch" not in f.filename]
            self.seen.append(f"{func} at {ours[-2].filename}:{ours[-2].lineno}")
        return out


def on_a_fake_gpu(network: nn.Module) -> nn.Module:
    """Replace every weight by one of the same shape on a GPU that is not there."""
    for module in network.modules():
        for name, value in module._parameters.items():
            if value is not None:
                empty = torch.empty(value.shape, dtype=value.dtype, device="cuda")
                module._parameters[name] = nn.Parameter(empty, requires_grad=False)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device="cuda")
    network.for_inference = lambda half=None: prepare(network, network.fast_blocks)
    return network


def pool_of_fixed_size(frames, objects, **_):
    """Stand in for AOC-Net's pool, whose sizes depend on the reference's mask, not on the frame."""
    rows = torch.empty(7, len(frames[0].embedding), device="cuda")
    proxies = [Proxies(rows[:3], rows[:2]) for _ in range(objects)]
    sums = (rows[:objects], rows[:objects, :1], rows[:objects], rows[:objects, :1])
    return Pool([rows for _ in range(objects)], proxies, sums)


# AFB-URR is left out: how many features its bank absorbs depends on the frame.
SOON = {"mem_every": 1, "max_mid_term_frames": 4, "min_mid_term_frames": 2, "num_prototypes": 8}
CASES = {  # memory settings; XMem's condense the memory within a few frames
    "xmem": SOON,
    "xmem with late objects": SOON | {"late_groups": "fixed"},
    "stm": {"every": 2},
    "rhmnet": {},
    "aoc_net": {},
}


@pytest.mark.parametrize("case", CASES)
def test_no_frame_makes_the_host_wait_for_the_device(case) -> None:
    name = case.split()[0]
    network = models.build(name)
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = on_a_fake_gpu(network)
        if name == "aoc_net":
            network.pool = pool_of_fixed_size
        session = network.session(
            channels=2, memory=network.memory_settings(**CASES[case]), length=60
        )
        mask = torch.zeros(SIZE, dtype=torch.bool, device="cuda")
        session.step(torch.empty(3, *SIZE, device="cuda"), given={1: mask, 2: mask})
        session.step(torch.empty(3, *SIZE, device="cuda"))  # makes what a video needs once
        with RoundTrips() as found:
            for _ in range(2 if name == "aoc_net" else 6):
                result = session.step(torch.empty(3, *SIZE, device="cuda"))
    assert result.shape == (3, *SIZE)
    assert result.device.type == "cuda"
    assert found.seen == []
    if name == "xmem":
        assert session.memory_usage()["long_term"] > 0


def test_round_trips_are_noticed() -> None:
    with FakeTensorMode():
        there = torch.ones(4, device="cuda")
        with RoundTrips() as found:
            there[[0, 2]] = 0
            there.cpu()
        assert len(found.seen) == 2
        for ask in (lambda: bool(there[0]), lambda: there.nonzero()):
            with pytest.raises(Exception, match=r"_local_scalar_dense|nonzero"):
                ask()


def reused(work):
    """Record as a CUDA graph does: results are the same tensors each time."""
    found = work()

    def replay():
        for own, new in zip(found, work(), strict=True):
            own.copy_(new)
        return found

    return replay


@pytest.mark.parametrize("name", ["xmem_tiny", "stm_tiny", "afb_urr_tiny", "rhmnet_tiny"])
def test_recorded_parts_change_no_result(name) -> None:
    model = models.build(name, seed=1)
    frames = [
        np.random.default_rng(t).integers(0, 256, (*SIZE, 3)).astype(np.uint8) for t in range(12)
    ]
    masks = {}
    for index, label in ((0, 1), (3, 2)):  # a second object appears, so shapes change
        masks[index] = np.zeros(SIZE, np.uint8)
        masks[index][16 * label - 10 : 16 * label + 6, 10 * label : 30 * label] = label
    plain = list(iterate_video(model, frames, masks))
    twin = with_recorded_parts(model.for_inference(), reused)
    recorded = list(iterate_video(twin, frames, masks))
    for one, other in zip(plain, recorded, strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)
    parts = [part for part in vars(twin).values() if isinstance(part, Recorded)]
    assert parts
    assert any(part._own.made for part in parts)


def test_a_recording_serves_one_shape_and_one_thread() -> None:
    made = []

    def recorder(work):
        made.append(threading.get_ident())
        return reused(work)

    double = Recorded(lambda x, times=2: x * times, recorder)
    small, large = torch.ones(2), torch.ones(3)
    first = double(small)
    assert torch.equal(double(3 * small), 6 * small)
    assert torch.equal(first, 2 * small)  # an earlier result stays
    assert torch.equal(double(large), 2 * large)
    assert torch.equal(double(small, times=5), 5 * small)
    assert len(made) == 3
    thread = threading.Thread(target=double, args=(small,))
    thread.start()
    thread.join()
    assert len(made) == 4


def test_a_twin_is_kept_until_a_weight_changes() -> None:
    model = models.build("xmem_tiny")
    twin = model.for_inference()
    assert model.for_inference() is twin
    assert twin.for_inference() is twin
    weight = next(model.parameters())
    with torch.no_grad():
        weight.add_(0.5)
    changed = model.for_inference()
    assert changed is not twin
    weight.data[0] *= 2  # leaves no trace in the tensor's version
    assert model.for_inference() is not changed
    assert "is_twin" not in model.state_dict()


def test_half_weights_compute_what_autocast_computes(monkeypatch) -> None:
    monkeypatch.setattr(
        video_module, "half_precision", lambda amp, device, inference: torch.bfloat16
    )
    model = models.build("xmem", seed=0)
    frames = torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    mask = np.zeros(SIZE, np.uint8)
    mask[8:40, 10:60] = 1
    twin = model.for_inference(torch.bfloat16)
    assert twin.key_proj.key_proj.weight.dtype == torch.bfloat16
    assert model.key_proj.key_proj.weight.dtype == torch.float32
    found = [result.probabilities for result in iterate_video(model, frames, {0: mask})]
    monkeypatch.setattr(twin.__class__, "for_inference", lambda self, half=None: self)
    cast = [result.probabilities for result in iterate_video(model.eval(), frames, {0: mask})]
    assert not np.array_equal(found[2], cast[2])  # the twin folds normalisation in float32
    assert np.abs(found[2] - cast[2]).max() < 0.05


def test_masks_alone_are_the_same_masks() -> None:
    model = models.build("stm_tiny")
    frames = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    mask = np.zeros(SIZE, np.uint8)
    mask[8:40, 10:60] = 7
    full = list(iterate_video(model, frames, {1: mask}))
    brief = list(iterate_video(model, frames, {1: mask}, keep_probabilities=False))
    assert all(result.probabilities is None for result in brief)
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(full, brief, strict=True))
