"""AOC-Net against reference values of the repaired release.

Embedding, clustering, maps, decoder, logits, pool filter, corrections.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos import methods, models
from noisyvos.inference import segment_video
from noisyvos.models.aoc_net.blocks import others
from noisyvos.models.aoc_net.session import entropy
from noisyvos.params.entries import read_family
from noisyvos.training.schedule import Schedule, learning_rate

PARAMS = Path(__file__).resolve().parents[2] / "params"
SIZE = (97, 129)
OBJECTS = 3  # background included


def close(actual: Tensor, wanted: np.ndarray, tolerance: float) -> None:
    """Assert equal shapes and the largest absolute difference."""
    assert tuple(actual.shape) == wanted.shape
    assert np.abs(actual.detach().numpy() - wanted).max() <= tolerance


@pytest.fixture(scope="module")
def case(shared, parity_weights) -> SimpleNamespace:
    """The network with the reference weights, three embedded frames.

    And the first frame as reference.
    """
    shapes = parity_weights.load_shapes(shared / "parity" / "aoc_net.keys.json")
    state = parity_weights.fill_state_dict(shapes)
    model = models.load_official(
        "aoc_net", {"state_dict": {f"module.{name}": value for name, value in state.items()}}
    )
    assert not any(module.training for module in model.modules())
    with np.load(shared / "parity" / "aoc_net.npz") as file:
        expected = dict(file)
    # the reference normalises channels in index order, without the swap to BGR that the network
    # does
    frames = torch.stack(
        [parity_weights.image(f"aoc_net:frame{t}", 3, *SIZE) for t in range(3)]
    ).flip(1)
    with torch.no_grad():
        looks = model.embed(frames)
    first = looks[0].with_mask(torch.from_numpy(expected["mask0"]))
    return SimpleNamespace(
        model=model,
        shapes=shapes,
        state=state,
        expected=expected,
        frames=frames,
        looks=looks,
        first=first,
    )


def test_names_order_and_sizes_are_the_published_ones(case) -> None:
    own = case.model.state_dict()
    assert {name: tuple(value.shape) for name, value in own.items()} == case.shapes
    assert list(own) == list(case.shapes)


def test_of_tensors_with_two_names_the_second_counts(case) -> None:
    assert torch.equal(case.model.seperate_conv.weight, case.state["semantic_embedding.0.weight"])
    assert not torch.equal(case.model.seperate_conv.weight, case.state["seperate_conv.weight"])


def test_embedding(case) -> None:
    close(case.looks[0].embedding, case.expected["emb0"], 1e-4)
    close(case.looks[1].embedding[::10], case.expected["emb1_sub"], 1e-4)
    close(case.looks[0].low[0, ::16], case.expected["low0_sub"], 1e-4)


@torch.no_grad()
def test_proxies_and_head(case) -> None:
    pool = case.model.pool([case.first], OBJECTS)
    for number, proxies in enumerate(pool.proxies):
        close(proxies.centroids, case.expected[f"centroids_1_obj{number}"], 1e-4)
    close(case.model.head(pool, case.first), case.expected["head_1"], 1e-4)


@torch.no_grad()
def test_maps(case) -> None:
    model, pool = case.model, case.model.pool([case.first], OBJECTS)
    maps = model.maps(case.looks[1], pool, case.first, model.head(pool, case.first))
    close(maps, case.expected["prehead_in_1"], 1e-4)
    close(model.dynamic_prehead(maps)[:, ::8], case.expected["prehead_out_1_sub"], 2e-3)


@torch.no_grad()
def test_decoder_on_the_stored_maps(case) -> None:
    decoder, expected = case.model.dynamic_seghead, case.expected
    head = torch.from_numpy(expected["head_1"])
    maps = case.model.dynamic_prehead(torch.from_numpy(expected["prehead_in_1"]))
    x = decoder.layer1(
        decoder.IA1(torch.cat([case.looks[1].embedding.expand(OBJECTS, -1, -1, -1), maps], 1), head)
    )
    close(decoder.CLB2.code(x, head), expected["CLB2_code_1"], 2e-3)
    x = decoder.layer2(decoder.CLB2(x, head))
    close(x[:, ::32], expected["layer2_1_sub"], 2e-3)
    close(decoder.CLB3.CL_1(x), expected["CLB3_CL_1_1"], 2e-3)
    close(decoder.CLB3.CL_2(others(x)[:, :, None, None]), expected["CLB3_CL_2_1"], 2e-3)
    close(decoder.CLB3.CL_3(head[:, :, None, None]), expected["CLB3_CL_3_1"], 2e-3)
    close(decoder.CLB3.code(x, head), expected["CLB3_code_1"], 2e-3)


@torch.no_grad()
def test_logits_of_two_frames_and_of_two_references(case) -> None:
    model, expected = case.model, case.expected
    pool = model.pool([case.first], OBJECTS)
    logits, kept = model.predict(case.looks[1], pool, case.first, None)
    close(logits, expected["logits_1"], 2e-3)
    probabilities = F.interpolate(logits[None], SIZE, mode="bilinear", align_corners=True)[
        0
    ].softmax(0)
    close(probabilities, expected["probs_1"], 5e-4)
    close(entropy(probabilities), expected["entropy_1"], 2e-3)
    previous = case.looks[1].with_mask(torch.from_numpy(expected["mask1"]))
    close(model.predict(case.looks[2], pool, previous, kept)[0], expected["logits_2"], 2e-3)
    filtered = case.looks[1].with_mask(torch.from_numpy(expected["mask1_filtered"]))
    both = model.pool([case.first, filtered], OBJECTS)
    close(model.predict(case.looks[2], both, previous, kept)[0], expected["logits_2_rpa"], 2e-3)


@torch.no_grad()
def test_released_clustering(case) -> None:
    model, expected = case.model, case.expected
    pool = model.pool([case.first], OBJECTS, clustering="released")
    maps = model.maps(case.looks[1], pool, case.first, model.head(pool, case.first))
    close(maps[:, 1:3], expected["cluster_map_1_released"], 1e-4)
    logits, kept = model.predict(case.looks[1], pool, case.first, None)
    close(logits, expected["logits_1_released"], 2e-3)
    previous = case.looks[1].with_mask(torch.from_numpy(expected["mask1"]))
    close(
        model.predict(case.looks[2], pool, previous, kept)[0], expected["logits_2_released"], 2e-3
    )
    filtered = case.looks[1].with_mask(torch.from_numpy(expected["mask1_filtered"]))
    both = model.pool([case.first, filtered], OBJECTS, clustering="released")
    close(
        model.predict(case.looks[2], both, previous, kept)[0],
        expected["logits_2_rpa_released"],
        2e-3,
    )


def test_walking_through_a_video(case) -> None:
    """With a reference every frame: the second prediction sees the filtered first one."""
    video = segment_video(
        case.model,
        case.frames,
        {0: case.expected["mask0"]},
        memory={"mem_every": 1},
        keep_probabilities=True,
    )
    assert [usage["references"] for usage in video.memory_usage] == [1, 2, 3]
    close(torch.from_numpy(video.probabilities[1]), case.expected["probs_1"], 5e-4)
    assert (video.masks[1] == case.expected["mask1"]).mean() >= 0.999
    logits = torch.from_numpy(case.expected["logits_2_rpa"])
    wanted = (
        F.interpolate(logits[None], SIZE, mode="bilinear", align_corners=True)[0].argmax(0).numpy()
    )
    assert (video.masks[2] == wanted).mean() >= 0.999


def test_learning_rates(case) -> None:
    schedule = Schedule(
        iterations=50_000, learning_rate=0.01, warmup=1000, decay="poly_cfbi", floor=1e-5
    )
    rates = [learning_rate(schedule, int(step)) for step in case.expected["lr_steps"]]
    assert rates == pytest.approx(case.expected["lr_values"].tolist(), rel=1e-9)


@pytest.mark.parametrize(
    ("ignored_rows", "wanted"), [(0, "loss_values"), (20, "loss_values_ignore")]
)
def test_loss_of_the_entry_for_it(case, parity_weights, ignored_rows, wanted) -> None:
    entry = read_family(PARAMS, "methods")["ce_aoc"]
    method = methods.from_settings(entry.pop("kind"), entry, 50_000)
    logits = F.interpolate(
        torch.from_numpy(case.expected["logits_1"])[None], SIZE, mode="bilinear", align_corners=True
    )
    target = parity_weights.mask("aoc_net:target", 2, *SIZE)[None].long()
    target[:, :ignored_rows] = 255
    losses = [
        float(
            method.terms(logits, target, num_objects=torch.tensor([2]), iteration=int(step))[
                "total"
            ]
        )
        for step in case.expected["loss_steps"]
    ]
    assert losses == pytest.approx(case.expected[wanted].tolist(), rel=1e-6)
