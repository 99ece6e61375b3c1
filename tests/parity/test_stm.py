"""STM against published reference values: forward pass, padding, losses and gradients."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos import models
from noisyvos.inference import segment_video
from noisyvos.models.aggregation import aggregate
from noisyvos.models.base import Clip
from noisyvos.models.stm_parts.matching import affinity, object_probabilities, read

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNUSED = 8  # mask channels of the reference without an object: 11 in all
SIZE = (96, 128)
GRADIENTS = (
    "Encoder_M.conv1_m.weight",
    "Encoder_M.conv1_o.weight",
    "Encoder_M.bn1.weight",
    "Encoder_Q.conv1.weight",
    "Encoder_Q.res4.0.conv1.weight",
    "KV_M_r4.Key.weight",
    "KV_Q_r4.Value.bias",
    "Decoder.pred2.weight",
)


def close(actual: Tensor, wanted: np.ndarray, tolerance: float = 1e-4) -> None:
    """Assert equal shapes and the largest absolute difference."""
    assert tuple(actual.shape) == wanted.shape
    assert np.abs(actual.detach().numpy() - wanted).max() <= tolerance


@pytest.fixture(
    scope="module", params=[("r50", "stm"), ("r18", "stm_resnet18")], ids=["resnet50", "resnet18"]
)
def case(request, shared, parity_weights) -> SimpleNamespace:
    """One published network with the reference weights, as a checkpoint saved from DataParallel.

    And its reference arrays.
    """
    prefix, name = request.param
    shapes = parity_weights.load_shapes(shared / "parity" / f"{name}.keys.json")
    state = parity_weights.fill_state_dict(shapes)
    for encoder in ("Encoder_M", "Encoder_Q"):
        state[f"{encoder}.mean"] = torch.tensor(MEAN).view(1, 3, 1, 1)
        state[f"{encoder}.std"] = torch.tensor(STD).view(1, 3, 1, 1)
    model = models.load_official(name, {f"module.{key}": value for key, value in state.items()})
    assert not any(module.training for module in model.modules())
    with np.load(shared / "parity" / "stm.npz") as file:
        expected = {
            key.removeprefix(f"{prefix}_"): file[key]
            for key in file.files
            if key.startswith(prefix)
        }
    frames = torch.cat([parity_weights.image(f"stm/frame{t}", 1, 3, *SIZE) for t in range(3)])
    masks = torch.stack([parity_weights.mask(f"stm/frame{t}", 2, *SIZE) for t in range(3)])
    return SimpleNamespace(
        name=name, model=model, shapes=shapes, expected=expected, frames=frames, masks=masks
    )


def planes(mask: Tensor) -> Tensor:
    """Return the one-hot planes of both objects, (2, H, W)."""
    return torch.stack([(mask == label).float() for label in (1, 2)])


def softmax(logits: Tensor) -> Tensor:
    """Return the softmax over the used and the unused channels, all of them."""
    unused = logits.new_full((UNUSED, *logits.shape[1:]), float(torch.logit(torch.tensor(1e-7))))
    return torch.softmax(torch.cat([logits, unused]), 0)


def test_names_order_and_sizes_are_the_published_ones(case) -> None:
    assert {
        name: tuple(value.shape) for name, value in case.model.state_dict().items()
    } == case.shapes
    assert list(case.model.state_dict()) == list(case.shapes)
    count = {"stm": 38_925_570, "stm_resnet18": 13_247_810}[case.name]
    assert sum(parameter.numel() for parameter in case.model.parameters()) == count


@torch.no_grad()
def test_forward_pass(case) -> None:
    model, expected, both = case.model, case.expected, torch.zeros(2, dtype=torch.long)
    own = planes(case.masks[0])
    key0, value0 = model.memorize(case.frames[:1], own, own.flip(0), both)
    close(key0, expected["key0"])
    close(value0, expected["value0"])

    features = model.Encoder_Q(case.frames[1:2])
    for name, tensor in (("r4", features.deep), ("r3", features.middle), ("r2", features.fine)):
        close(tensor[0].mean((1, 2)), expected[f"{name}_1_mean"])
    query, query_value = model.KV_Q_r4(features.deep)
    close(query[0], expected["query_key1"])
    if "query_value1" in expected:
        close(query_value[0], expected["query_value1"])
    query, prepared = model.look(case.frames[1:2])
    query = query.flatten(2).expand(2, -1, -1)
    close(affinity(key0.flatten(2), query).mT, expected["affinity1"], 1e-5)
    found = read(key0.flatten(2), value0.flatten(2), query).unflatten(2, key0.shape[-2:])
    two = model.segment(prepared, found, both)
    if "decoder1" in expected:
        close(two, expected["decoder1"], 1e-3)
    logits = aggregate(object_probabilities(two)[None])[0][0]
    close(logits, expected["logit1"], 1e-3)
    soft = softmax(logits)
    if "prob1" in expected:
        close(soft[:3], expected["prob1"])
    close(soft[:3].log() - soft[3:4].log() + expected["phantom_logit"][0], expected["logit1"], 1e-3)

    key1, value1 = model.memorize(case.frames[1:2], soft[1:3], soft[[2, 1]], both)
    close(key1, expected["key1"])
    if "value1" in expected:
        close(value1, expected["value1"])
    query, prepared = model.look(case.frames[2:])
    keys, values = torch.cat([key0, key1], 2).flatten(2), torch.cat([value0, value1], 2).flatten(2)
    found = read(keys, values, query.flatten(2).expand(2, -1, -1)).unflatten(2, key0.shape[-2:])
    logits = aggregate(object_probabilities(model.segment(prepared, found, both))[None])[0][0]
    close(logits, expected["logit2"], 1e-3)


def test_whole_video_gives_the_published_probabilities(case) -> None:
    video = segment_video(
        case.model, case.frames, {0: case.masks[0].numpy()}, keep_probabilities=True
    )
    for t in (1, 2):
        close(
            torch.from_numpy(video.probabilities[t]),
            softmax(torch.from_numpy(case.expected[f"logit{t}"]))[:3].numpy(),
        )
        assert (
            video.masks[t] != case.expected[f"logit{t}"].argmax(0)
        ).sum() <= 3  # two labels may be equal but for rounding


@torch.no_grad()
def test_padding(case, parity_weights) -> None:
    frames = torch.cat([parity_weights.image(f"stm/pad{t}", 1, 3, 90, 117) for t in range(2)])
    mask = parity_weights.mask("stm/pad0", 2, 90, 117)
    own = F.pad(planes(mask), (5, 6, 3, 3))
    key0, _ = case.model.memorize(
        F.pad(frames[:1], (5, 6, 3, 3)), own, own.flip(0), torch.zeros(2, dtype=torch.long)
    )
    close(key0, case.expected["pad_key0"])
    clip = Clip(frames[None], torch.stack([mask, mask])[None].long(), torch.tensor([2]), slots=2)
    logits = case.model.forward_clip(clip, generator=torch.Generator()).logits
    close(logits[0][0], case.expected["pad_logit1"], 1e-3)
    session = case.model.session(
        channels=2, memory=case.model.memory_settings(), length=2
    )  # the mask covers one object wholly
    session.step(frames[0], given={label: mask == label for label in (1, 2)})
    close(session.step(frames[1], last=True), softmax(logits[0][0])[:3].numpy())


@pytest.mark.parametrize("detach", [True, False])
def test_losses_and_gradients(case, detach) -> None:
    model = case.model
    model.settings = model.settings.model_copy(update={"detach_memory": detach})
    model.train()
    model.zero_grad(set_to_none=True)
    clip = Clip(case.frames[None], case.masks[None].long(), torch.tensor([2]), slots=2 + UNUSED)
    logits = model.forward_clip(clip, generator=torch.Generator()).logits
    assert [tuple(each.shape) for each in logits] == [(1, 11, *SIZE)] * 2
    close(logits[0][0, 3:].amax().view(1), case.expected["phantom_logit"])
    losses = torch.stack(
        [F.cross_entropy(each, clip.masks[:, t]) for t, each in enumerate(logits, 1)]
    )
    losses.sum().backward()
    model.eval()
    kind = f"detach{int(detach)}"
    assert losses.tolist() == pytest.approx(case.expected[f"loss_{kind}"].tolist(), rel=1e-5)
    parameters = dict(model.named_parameters())
    norms = [float(parameters[name].grad.norm()) for name in GRADIENTS]
    assert norms == pytest.approx(case.expected[f"gradnorm_{kind}"].tolist(), rel=1e-3)
