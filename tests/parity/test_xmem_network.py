"""The XMem network against published reference values.

Forward pass, primitives, training pass with gradients.
"""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos import models
from noisyvos.models.aggregation import aggregate, padding
from noisyvos.models.base import Clip
from noisyvos.models.xmem.network import Choices
from noisyvos.models.xmem.reading import affinity, readout, similarity


def close(actual: Tensor, wanted: np.ndarray, tolerance: float = 1e-4) -> None:
    """Assert equal shapes and the largest difference as a share of the largest wanted value."""
    assert tuple(actual.shape) == wanted.shape
    difference = np.abs(actual.detach().numpy() - wanted).max()
    assert difference <= tolerance * max(np.abs(wanted).max(), 1e-12)


def planes(mask: Tensor, count: int) -> Tensor:
    """Return the one-hot planes 1..count of an index mask."""
    return torch.stack([(mask == index).float() for index in range(1, count + 1)])


def test_names_and_order_are_the_published_ones(shared, parity_weights, xmem_model) -> None:
    shapes = parity_weights.load_shapes(shared / "parity" / "xmem.keys.json")
    assert {name: tuple(value.shape) for name, value in xmem_model.state_dict().items()} == shapes
    assert list(xmem_model.state_dict()) == list(shapes)
    assert sum(parameter.numel() for parameter in xmem_model.parameters()) == 62_185_224


def test_forward_pass(xmem_model, parity_weights, xmem_expected) -> None:
    names = [f"xmem:frame{t}" for t in range(3)]
    frames = xmem_model.normalise(
        torch.stack([parity_weights.image(name, 3, 96, 128) for name in names])
    )
    masks = planes(parity_weights.mask("xmem:mask0", 2, 96, 128), 2)[None]
    seen: dict[str, Tensor] = {}
    watched = {
        "layer3": xmem_model.value_encoder.layer3,
        "cbam": xmem_model.value_encoder.fuser.attention,
        "g16": xmem_model.decoder.fuser,
        "g8": xmem_model.decoder.up_16_8,
        "g4": xmem_model.decoder.up_8_4,
        "pred": xmem_model.decoder.pred,
    }
    hooks = [
        m.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
        for name, m in watched.items()
    ]
    with torch.no_grad():
        key, shrinkage, selection, features = xmem_model.encode_key(frames)
        for actual, name in ((key, "key"), (shrinkage, "shrinkage"), (selection, "selection")):
            close(actual.transpose(0, 1)[None], xmem_expected[f"a_{name}"])
        close(features.deep[:1, ::2], xmem_expected["a_f16_frame0"])
        close(features.middle[:1, ::16], xmem_expected["a_f8_frame0"])
        close(features.fine[:1, ::32], xmem_expected["a_f4_frame0"])

        hidden = xmem_model.new_hidden(1, 2, key)
        value0, hidden0 = xmem_model.encode_value(
            frames[:1], features.deep[:1], hidden, masks, deep_update=True
        )
        close(seen["layer3"][:, ::8], xmem_expected["a_value_layer3"])
        close(seen["cbam"][:, ::8], xmem_expected["a_value_cbam"])
        close(value0, xmem_expected["a_value0"])
        close(hidden0, xmem_expected["a_hidden0"])

        k, s, e = (x.flatten(2) for x in (key, shrinkage, selection))
        similar = similarity(k[:1], s[:1], k[1:2], e[1:2])
        close(similar, xmem_expected["a_similarity01"])
        close(affinity(similar), xmem_expected["a_affinity01"])
        close(affinity(similar, 8), xmem_expected["a_affinity01_top8"])
        close(similarity(k[:1], None, k[1:2], None)[:, ::4], xmem_expected["a_similarity01_nosel"])
        read = readout(affinity(similar), value0.flatten(3)).unflatten(-1, (6, 8))
        close(read[:, :, ::2], xmem_expected["a_readout1"])

        hidden1, logits, probabilities = xmem_model.segment(features.of_frames(1)[1], read, hidden0)
        close(seen["g16"][:, :, ::8], xmem_expected["a_g16_1"], 1e-3)
        close(seen["g8"][:, :, ::16], xmem_expected["a_g8_1"], 1e-3)
        close(seen["g4"][:, :, ::64], xmem_expected["a_g4_1"], 1e-3)
        close(seen["pred"], xmem_expected["a_pred_stride4_1"])
        close(hidden1, xmem_expected["a_hidden1"])
        close(logits[..., ::2, ::2], xmem_expected["a_agg_logits1"])
        close(probabilities, xmem_expected["a_prob1"])

        deep = features.deep[1:2]
        value1, hidden1_deep = xmem_model.encode_value(
            frames[1:2], deep, hidden1, probabilities[:, 1:], deep_update=True
        )
        same_value, same_hidden = xmem_model.encode_value(
            frames[1:2], deep, hidden1, probabilities[:, 1:], deep_update=False
        )
        assert torch.equal(same_value, value1)
        assert same_hidden is hidden1
        close(value1[:, :, ::4], xmem_expected["a_value1"], 1e-3)
        close(hidden1_deep, xmem_expected["a_hidden1_deep"], 1e-3)

        memory = (x[:2].transpose(0, 1).flatten(1)[None] for x in (k, s))
        weight = affinity(similarity(*memory, k[2:3], e[2:3]))
        read = readout(weight, torch.cat([value0, value1], 3).flatten(3)).unflatten(-1, (6, 8))
        close(read[:, :, ::2], xmem_expected["a_readout2"], 1e-3)
        hidden2, _, probabilities = xmem_model.segment(features.of_frames(1)[2], read, hidden1_deep)
        close(seen["pred"], xmem_expected["a_pred_stride4_2"], 1e-3)
        close(hidden2, xmem_expected["a_hidden2"], 1e-3)
        close(probabilities, xmem_expected["a_prob2"], 1e-3)
    for hook in hooks:
        hook.remove()


def test_single_object_network(parity_weights, xmem_state, xmem_expected) -> None:
    name = "value_encoder.conv1.weight"
    single = models.load_official(
        "xmem", xmem_state | {name: parity_weights.fill(name, (64, 4, 7, 7))}
    )
    assert single.settings.single_object
    frame = single.normalise(parity_weights.image("xmem:frame0", 3, 96, 128))[None]
    with torch.no_grad():
        key, _, _, features = single.encode_key(frame)
        mask = planes(parity_weights.mask("xmem:mask0", 2, 96, 128), 1)[None]
        value, hidden = single.encode_value(
            frame, features.deep, single.new_hidden(1, 1, key), mask
        )
    close(value[:, :, ::8], xmem_expected["a_single_value0"])
    close(hidden, xmem_expected["a_single_hidden0"])


def test_network_without_sensory_memory_is_the_full_one_with_an_empty_state(
    xmem_model, xmem_state, parity_weights
) -> None:
    """A checkpoint without the hidden entries: the decoder then reads 1024 + 512 channels."""
    state = {name: value for name, value in xmem_state.items() if "hidden_" not in name}
    for layer in ("conv1", "downsample"):
        name = f"decoder.fuser.block1.{layer}.weight"
        state[name] = state[name][:, : 1024 + 512]
    bare = models.load_official("xmem", state)
    assert bare.settings.hidden_dim == 0
    frames = bare.normalise(
        torch.stack([parity_weights.image(f"xmem:frame{t}", 3, 96, 128) for t in range(2)])
    )
    masks = planes(parity_weights.mask("xmem:mask0", 2, 96, 128), 2)[None]
    found = []
    with torch.no_grad():
        for model in (xmem_model, bare):
            key, shrinkage, selection, features = model.encode_key(frames)
            empty = model.new_hidden(1, 2, key)
            value, _ = model.encode_value(frames[:1], features.deep[:1], empty, masks)
            k, s, e = (x.flatten(2) for x in (key, shrinkage, selection))
            weight = affinity(similarity(k[:1], s[:1], k[1:], e[1:]))
            read = readout(weight, value.flatten(3)).unflatten(-1, (6, 8))
            found.append(model.segment(features.of_frames(1)[1], read, empty)[2])
    assert torch.allclose(*found, atol=1e-5)


def test_primitives(xmem_expected) -> None:
    random = np.random.RandomState(1234)

    def draw(*shape: int) -> Tensor:
        return torch.from_numpy(random.randn(*shape).astype(np.float32))

    memory, shrinkage = (
        draw(2, 64, 3, 4, 5).flatten(2),
        (draw(2, 1, 3, 4, 5).square() + 1).flatten(2),
    )
    query, selection = draw(2, 64, 4, 5).flatten(2), torch.sigmoid(draw(2, 64, 4, 5)).flatten(2)
    probabilities = torch.from_numpy(random.rand(2, 3, 6, 7).astype(np.float32))
    probabilities[0, 0], probabilities[0, 1], probabilities[1, :, :3] = 0, 1, 0

    similar = similarity(memory, shrinkage, query, selection)
    close(similar, xmem_expected["b_sim"])
    close(similarity(memory, shrinkage, query, None), xmem_expected["b_sim_noselection"])
    close(similarity(memory, None, query, selection), xmem_expected["b_sim_noshrink"])
    close(affinity(similar / 4), xmem_expected["b_aff"])
    close(affinity(similar / 4, 6), xmem_expected["b_aff_top6"])
    close(affinity(similar / 4, 6).sum(2), xmem_expected["b_usage_top6"])
    close(probabilities, xmem_expected["b_agg_in"])
    logits, joined = aggregate(probabilities)
    close(logits, xmem_expected["b_agg_logits"])
    close(joined, xmem_expected["b_agg_prob"])
    for size in ((17, 33), (100, 150), (96, 128), (101, 149)):
        assert padding(*size, 16) == tuple(xmem_expected[f"b_pad_{size[0]}_{size[1]}"])


def bootstrapped(logits: Tensor, target: Tensor, iteration: int) -> Tensor:
    """Mean of the largest per-pixel cross-entropies of one sample.

    The share falling from 1 to 0.15.
    """
    losses = F.cross_entropy(logits[None], target[None], reduction="none").flatten()
    if iteration < 20000:
        return losses.mean()
    share = 0.15 if iteration > 70000 else 0.15 + 0.85 * (70000 - iteration) / 50000
    return losses.topk(int(losses.numel() * share)).values.mean()


def dice(probabilities: Tensor, target: Tensor, slots: int) -> Tensor:
    """Mean dice loss over all slots and samples."""
    truth = torch.stack([(target == slot).float() for slot in range(1, slots + 1)], 1).flatten(2)
    predicted = probabilities.flatten(2)
    return (1 - (2 * (predicted * truth).sum(2) + 1) / (predicted.sum(2) + truth.sum(2) + 1)).mean()


def test_training_pass_with_gradients(xmem_model, parity_weights, xmem_expected) -> None:
    frames = torch.stack(
        [
            torch.stack(
                [parity_weights.image(f"xmem:train{b}:frame{t}", 3, 64, 80) for t in range(4)]
            )
            for b in range(2)
        ]
    )
    masks = torch.stack(
        [
            torch.stack(
                [parity_weights.mask(f"xmem:train{b}:mask{t}", 2 - b, 64, 80) for t in range(4)]
            )
            for b in range(2)
        ]
    )
    clip = Clip(frames, masks.long(), torch.tensor([2, 1]), slots=3)
    choices = Choices((None, None, None), (True, False))
    xmem_model.train()
    xmem_model.zero_grad(set_to_none=True)
    result = xmem_model.segment_clips(clip, choices)

    for t in (1, 2, 3):
        close(result.probabilities[t - 1][:, 1:, ::2, ::2], xmem_expected[f"c_masks_{t}"], 1e-3)
    close(result.logits[2][..., ::2, ::2], xmem_expected["c_logits_3"], 1e-3)
    dices = [dice(result.probabilities[t - 1][:, 1:], clip.masks[:, t], 3) for t in (1, 2, 3)]
    for t in (1, 2, 3):
        close(dices[t - 1], xmem_expected[f"c_dice{t}"], 1e-3)
    for iteration in (0, 19999, 20000, 45000, 70000, 70001):
        total = sum(dices)
        for t in (1, 2, 3):
            rows = [
                bootstrapped(result.logits[t - 1][b, : 3 - b], clip.masks[b, t], iteration)
                for b in range(2)
            ]
            close(torch.stack(rows).mean(), xmem_expected[f"c_ce{t}_it{iteration}"], 1e-3)
            total = total + torch.stack(rows).mean()
        close(total, xmem_expected[f"c_total_it{iteration}"], 1e-3)
        if iteration == 45000:
            total.backward(retain_graph=True)
    gradients = {name: parameter.grad for name, parameter in xmem_model.named_parameters()}
    assert not [name for name, gradient in gradients.items() if gradient is None]
    for name, wanted in zip(xmem_expected["c_grad_names"], xmem_expected["c_grad_norms"]):
        assert float(gradients[str(name)].norm()) == pytest.approx(float(wanted), rel=2e-3)
    close(gradients["decoder.pred.weight"], xmem_expected["c_grad_pred_weight"], 1e-3)
    total_norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    assert float(total_norm) == pytest.approx(float(xmem_expected["c_grad_total_norm"]), rel=2e-3)
