"""AFB-URR against published reference values.

Every step of two frames, the bank alone, training, and the loop for YouTube-VOS.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos import models
from noisyvos.inference import segment_video
from noisyvos.models.afb_urr.bank import ChannelBank, FeatureBank
from noisyvos.models.afb_urr.decoder import Owners, RefiningDecoder, scores, uncertainty
from noisyvos.models.afb_urr.settings import AFBURRMemory
from noisyvos.models.base import Clip
from noisyvos.models.stm_parts.matching import object_probabilities

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def close(actual: Tensor | np.ndarray, wanted: np.ndarray) -> None:
    """Assert equal shapes, and values within 1e-4 absolute plus 1e-4 relative."""
    np.testing.assert_allclose(np.asarray(actual), wanted, rtol=1e-4, atol=1e-4, strict=True)


@pytest.fixture(scope="module")
def expected(shared):
    """The reference arrays."""
    with np.load(shared / "parity" / "afb_urr.npz") as file:
        yield file


@pytest.fixture(scope="module")
def case(shared, parity_weights) -> SimpleNamespace:
    """The network with the reference weights, loaded as from a published checkpoint.

    And its published names and shapes.
    """
    shapes = parity_weights.load_shapes(shared / "parity" / "afb_urr.keys.json")
    state = parity_weights.fill_state_dict(shapes)
    for encoder in ("encoder_m", "encoder_q"):
        state[f"{encoder}.mean"] = torch.tensor(MEAN).view(1, 3, 1, 1)
        state[f"{encoder}.std"] = torch.tensor(STD).view(1, 3, 1, 1)
    model = models.load_official("afb_urr", {"epoch": 3, "model": state, "loss": 0.5, "seed": 7})
    assert not any(module.training for module in model.modules())
    return SimpleNamespace(model=model, shapes=shapes, weights=parity_weights)


def one_hot(mask: Tensor) -> Tensor:
    """Return the planes of background and both objects, (3, H, W)."""
    return torch.stack([(mask == label).float() for label in range(3)])


def info(bank: ChannelBank) -> Tensor:
    """Return what the reference keeps of every feature, (N, 2)."""
    return torch.stack([bank.born, bank.use], 1)


def test_names_order_and_sizes_are_the_published_ones(case) -> None:
    assert {
        name: tuple(value.shape) for name, value in case.model.state_dict().items()
    } == case.shapes
    assert list(case.model.state_dict()) == list(case.shapes)
    assert len(list(case.model.parameters())) == 300


@torch.no_grad()
def test_every_step_of_two_frames(case, expected) -> None:
    model, all_of_one = case.model, torch.zeros(3, dtype=torch.long)
    frames = [case.weights.image(f"afb_urr.frame{t}", 1, 3, 96, 128) for t in range(3)]
    bank = FeatureBank(3, AFBURRMemory(budget=180, similarity_threshold=0.951))
    assert bank.channels[0].limit == expected["class_budget"]
    keys, values = (
        x.flatten(2)
        for x in model.memorize(frames[0], one_hot(torch.from_numpy(expected["mask"])), all_of_one)
    )
    close(keys, expected["keys_0"])
    close(values[:, :128], expected["values_0"])
    bank.start(keys, values, 0)
    sizes, peak, removed = [bank.sizes()], np.array(bank.sizes()), np.zeros(3)
    for t in (1, 2):
        query, prepared = model.look(frames[t])
        close(query[0].flatten(1), expected[f"query_key_{t}"])
        _, own = model.keyval_r4(model.encoder_q(frames[t]).deep)
        close(own[0, :64].flatten(1), expected[f"query_value_{t}"])
        found = bank.read(query[0].flatten(1), 512).unflatten(2, (6, 8))
        close(found[:, ::8], expected[f"match_{t}"])
        for channel, one in enumerate(bank.channels):
            close(info(one), expected[f"info_seen_{t}_{channel}"])
        score = check_decoder(model, prepared, found, expected, t)
        soft = torch.softmax(score, 0)
        assert (soft.argmax(0).numpy() != expected["argmax"][t - 1]).mean() <= 0.001
        close(soft.mean((1, 2)), expected["mean_prob"][t - 1])
        keys, values = (x.flatten(2) for x in model.memorize(frames[t], soft, all_of_one))
        close(keys, expected[f"keys_{t}"])
        close(values[:, :32], expected[f"values_{t}"])
        before = np.array(bank.sizes())
        bank.update(keys, values, t)
        inserted = np.array([int((one.born == t).sum()) for one in bank.channels])
        sizes.append(bank.sizes())
        peak, removed = np.maximum(peak, sizes[-1]), removed + before + inserted - sizes[-1]
        for channel, one in enumerate(bank.channels):
            close(one.keys, expected[f"bank_keys_{t}_{channel}"])
            close(info(one), expected[f"bank_info_{t}_{channel}"])
            if t == 2:
                close(one.values[:32], expected[f"bank_values_2_{channel}"])
    assert np.array_equal(sizes, expected["bank_sizes"])
    assert np.array_equal(peak, expected["peak_n"])
    assert np.array_equal(removed, expected["replace_n"])
    np.testing.assert_allclose(
        [info(one).sum(0).numpy() for one in bank.channels], expected["info_sum"], rtol=1e-4
    )


def check_decoder(model, prepared, found: Tensor, expected, t: int) -> Tensor:
    """Compare every step of the decoder and return the final scores (3, 96, 128)."""
    decoder: RefiningDecoder = model.decoder
    owners = Owners.of_one_frame(3, found.device)
    coarse = decoder.coarse(prepared.coarse, found, owners.frame)
    close(coarse, expected[f"pre_urr_logits_{t}"])
    shares = owners.softmax(
        object_probabilities(
            F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        )
    )
    close(shares[0], expected[f"rough_{t}"])
    close(uncertainty(shares)[0], expected[f"uncertainty_{t}"])
    close(decoder.confidence(shares[0])[:, 0], expected[f"local_conf_{t}"])
    reference = decoder.reference(prepared, shares[0], owners)
    close(reference[1, :4], expected[f"local_ref_{t}"])
    close(decoder.local(prepared, reference, owners), expected[f"local_pred_{t}"])
    score = scores(object_probabilities(model.segment(prepared, found, owners)))
    close(score, expected[f"score_{t}"])
    return score


def test_whole_video_gives_the_published_probabilities(case, expected) -> None:
    frames = torch.cat([case.weights.image(f"afb_urr.frame{t}", 1, 3, 96, 128) for t in range(3)])
    memory = {"budget": 180, "similarity_threshold": 0.951}
    video = segment_video(
        case.model, frames, {0: expected["mask"]}, memory=memory, keep_probabilities=True
    )
    for t in (1, 2):
        close(
            video.probabilities[t],
            torch.softmax(torch.from_numpy(expected[f"score_{t}"]), 0).numpy(),
        )
        assert (video.masks[t] != expected["argmax"][t - 1]).mean() <= 0.001
    assert [usage["bank"] for usage in video.memory_usage] == expected["bank_sizes"][
        [0, 1, 1]
    ].tolist()  # the last is not memorised


@pytest.mark.parametrize(
    ("prefix", "memory"),
    [
        ("bank3", AFBURRMemory(budget=120, update_rate=0.1, similarity_threshold=0.9)),
        ("bank2", AFBURRMemory(budget=130, update_rate=0.05, similarity_threshold=0.9)),
    ],
)
def test_bank_alone(expected, prefix, memory) -> None:
    def given(name: str, t: int) -> Tensor:
        return torch.from_numpy(expected[f"{prefix}/{name}_{t}"])

    count = len(expected[f"{prefix}/peak_n"])
    bank = FeatureBank(count, memory)
    assert bank.channels[0].limit == pytest.approx(float(expected[f"{prefix}/class_budget"]))
    bank.start(given("key", 0), given("value", 0), 0)
    removals, peak = [], np.array(bank.sizes())
    for t in range(1, 5 if prefix == "bank3" else 6):
        found = bank.read(given("query", t)[0], 12)
        close(
            torch.cat([found, given("query_value", t).expand(count, -1, -1)], 1)[None],
            expected[f"{prefix}/match_{t}"],
        )
        for channel, one in enumerate(bank.channels):
            close(info(one), expected[f"{prefix}/before_info_{t}_{channel}"])
        before = bank.sizes()
        bank.update(given("key", t), given("value", t), t)
        peak = np.maximum(peak, bank.sizes())
        for channel, one in enumerate(bank.channels):
            close(one.keys, expected[f"{prefix}/bank_key_{t}_{channel}"])
            close(one.values, expected[f"{prefix}/bank_value_{t}_{channel}"])
            close(info(one), expected[f"{prefix}/bank_info_{t}_{channel}"])
            inserted = int((one.born == t).sum())
            if before[channel] + inserted > one.limit:
                removals.append([t, channel, before[channel], inserted, one.size - inserted])
    assert removals == expected[f"{prefix}/removals"].tolist()
    assert np.array_equal(peak, expected[f"{prefix}/peak_n"])
    removed = [
        sum(before - after for _, channel, before, _, after in removals if channel == index)
        for index in range(count)
    ]
    assert removed == expected[f"{prefix}/replace_n"].tolist()


def test_removal_alone(expected) -> None:
    table = torch.from_numpy(expected["remove/info"])
    bank = ChannelBank(40, 0.1, 0.95)
    bank.start(torch.zeros(1, len(table)), torch.zeros(1, len(table)), 0)
    bank.born, bank.use = table.unbind(1)
    kept = bank.survivors(25, 10)
    assert kept.tolist() == expected["remove/kept"].tolist()
    assert bank.limit - len(kept) - 25 == expected["remove/balance"]


def test_uncertainty_alone(expected) -> None:
    close(uncertainty(torch.from_numpy(expected["unc/score"]))[:, None], expected["unc/map"])


def test_losses_and_gradients(case, expected) -> None:
    model = case.model
    model.train()
    model.zero_grad(set_to_none=True)
    frames = torch.cat(
        [case.weights.image(f"afb_urr.train.frame{t}", 1, 3, 64, 64) for t in range(3)]
    )
    masks = torch.stack([case.weights.mask(f"afb_urr.train.mask{t}", 2, 64, 64) for t in range(3)])
    output = model.forward_clip(
        Clip(frames[None], masks[None].long(), torch.tensor([2]), slots=4),
        generator=torch.Generator(),
    )
    close(torch.cat(output.logits)[:, :3].detach(), expected["train/score"])
    entropy = torch.stack(
        [F.cross_entropy(each, masks[None, t].long()) for t, each in enumerate(output.logits, 1)]
    )
    doubt = output.auxiliary["uncertainty"]
    loss = (entropy.sum() + doubt) / 2  # ours sums over frames, the published loss is their mean
    loss.backward()
    entropy, doubt, loss = entropy.detach(), doubt.detach(), loss.detach()
    model.eval()
    assert float(entropy.mean()) == pytest.approx(float(expected["train/ce"]), rel=1e-4)
    assert float(doubt) == pytest.approx(
        float(expected["train/uncertainty"]), rel=1e-4
    )  # two frames at a weight of a half
    assert float(loss) == pytest.approx(float(expected["train/loss"]), rel=1e-4)
    norms = [float(parameter.grad.double().norm()) for parameter in model.parameters()]
    # Of the bias of pred2 the parts nearly cancel; in float64 its norm agrees within 5e-4 too.
    np.testing.assert_allclose(norms, expected["train/grad_norms"], rtol=1e-3, atol=1e-6)


def test_objects_that_appear_late(case, expected) -> None:
    frames = torch.cat([case.weights.image(f"afb_urr.yt.frame{t}", 1, 3, 63, 94) for t in range(5)])
    mask = case.weights.mask("afb_urr.yt.mask", 2, 63, 94).numpy()
    assert np.array_equal(mask, expected["yt/mask"])
    memory = {"budget": 180, "similarity_threshold": 0.951, "update_rate": 0.05}
    given = {
        0: np.where(mask == 1, mask, 0).astype(np.uint8),
        2: np.where(mask == 2, mask, 0).astype(np.uint8),
    }
    video = segment_video(case.model, frames, given, memory=memory, keep_probabilities=True)
    close(
        video.probabilities[1:],
        torch.softmax(torch.from_numpy(expected["yt/scores_after_edit"]), 1).numpy(),
    )
    assert [usage["bank"] for usage in video.memory_usage[:4]] == expected["yt/bank_sizes"].tolist()
    for t in range(5):
        enlarged = F.interpolate(
            torch.from_numpy(video.probabilities[t : t + 1]), (84, 125), mode="nearest"
        ).argmax(1)[0]
        assert (enlarged.numpy() != expected["yt/saved"][t]).mean() <= 0.001
