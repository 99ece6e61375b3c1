"""RHMNet against published reference values.

One frame after the other, memory policies, late objects, training and its losses.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from noisyvos import models
from noisyvos.inference import iterate_video, segment_video
from noisyvos.losses import scribbles as losses
from noisyvos.models.rhmnet.memory import planes as label_planes
from noisyvos.models.rhmnet.memory import region_targets, similarity_labels
from noisyvos.models.rhmnet.network import RHMNet

BACKGROUND = 11
CHANNELS = 12
SIZE = (96, 128)
GRADIENTS = (
    "backbone.layer0.0.weight",
    "backbone.layer3.5.conv3.weight",
    "bottleneck.0.weight",
    "position_embedding.row_embed.weight",
    "transformer.decoders.0.cross_attn.in_proj_weight",
    "transformer.decoders.1.linear2.weight",
    "segmentors.0.conv_in.conv.weight",
    "scribble_predictor.conv_out.weight",
    "hr_embed_obj.weight",
    "hr_embed_bg.weight",
)


def close(actual: Tensor | np.ndarray, wanted: np.ndarray, tolerance: float = 2e-3) -> None:
    """Assert equal shapes and the largest absolute difference."""
    actual = np.asarray(actual.detach() if isinstance(actual, Tensor) else actual)
    assert actual.shape == wanted.shape
    assert np.abs(actual - wanted).max() <= tolerance


def close_logits(actual: Tensor, wanted: np.ndarray) -> None:
    """Assert log-odds alike where they are not saturated."""
    close(actual.clamp(-8, 8), wanted.clip(-8, 8), 2e-2)


def alike(actual: np.ndarray, wanted: np.ndarray) -> None:
    """Assert maps of labels that agree nearly everywhere."""
    assert actual.shape == wanted.shape
    assert (actual == wanted).mean() >= 0.999


def background_last(planes: Tensor | np.ndarray, axis: int = 0) -> Tensor | np.ndarray:
    """Return planes in the order of the reference: objects, then background."""
    return torch.roll(planes, -1, axis) if isinstance(planes, Tensor) else np.roll(planes, -1, axis)


def published_weights(shapes: dict, parity_weights) -> dict[str, Tensor]:
    """Return the reference weights, made lively so that labels matter."""
    state = parity_weights.fill_state_dict(shapes)
    for name, value in state.items():
        if name.startswith("hr_embed_"):
            state[name] = value * 16
        elif name.endswith("cross_attn.in_proj_weight"):
            state[name] = value * 3
        elif name.startswith("position_embedding."):
            state[name] = value * 8
        elif ".adapter_" in name and name.endswith(".weight"):
            state[name] = value * 0.25
        elif name.endswith("conv_out.weight"):
            state[name] = 8 * (value - value.mean(1, keepdim=True))
    return state


@pytest.fixture(scope="module")
def scribble(parity_weights):
    """The reference rule of drawing scribbles; labels as `segment_video` takes them."""

    def draw(name: str, objects: int, height: int, width: int, background: bool) -> np.ndarray:
        mask = parity_weights.mask(name, objects, height, width).numpy()
        drawn = np.zeros_like(mask)
        for label in range(1, objects + 1):
            rows = np.nonzero(mask == label)[0]
            if len(rows):
                middle, reach = int(np.floor(rows.mean() + 0.5)), 2 if label % 2 else 1
                band = slice(max(0, middle - reach), middle + reach + 1)
                drawn[band][mask[band] == label] = label
        if background:
            drawn[4:8][mask[4:8] == 0] = BACKGROUND
        return drawn

    return draw


@pytest.fixture(scope="module")
def case(shared, parity_weights, scribble) -> SimpleNamespace:
    """The published network with the reference weights.

    As a checkpoint saved from several processes, and its reference arrays.
    """
    shapes = parity_weights.load_shapes(shared / "parity" / "rhmnet.keys.json")
    state = published_weights(shapes, parity_weights)
    model = models.load_official(
        "rhmnet",
        {"epoch": 79, "state_dict": {f"module.{name}": value for name, value in state.items()}},
    )
    assert not any(module.training for module in model.modules())
    with np.load(shared / "parity" / "rhmnet.npz") as file:
        expected = {key: file[key] for key in file.files}
    frames = torch.stack([parity_weights.image(f"rhmnet.frame{t}", 3, *SIZE) for t in range(6)])
    return SimpleNamespace(
        model=model, shapes=shapes, state=state, expected=expected, frames=frames
    )


def planes(drawn: np.ndarray, objects: int) -> Tensor:
    """Return 0/1 planes (1, objects + 1, H, W) of a scribble map, background first."""
    return torch.from_numpy(
        np.stack([drawn == label for label in (BACKGROUND, *range(1, objects + 1))])
    )[None].float()


def test_names_order_and_sizes_are_the_published_ones(case) -> None:
    own = case.model.state_dict()
    assert list(own) == list(case.shapes)
    assert len(own) == 355
    assert {name: tuple(value.shape) for name, value in own.items()} == case.shapes
    assert sum(parameter.numel() for parameter in case.model.parameters()) == 13_943_875


def test_of_two_copies_the_top_level_one_is_taken_and_both_must_be_there(case, tmp_path) -> None:
    name = "segmentors.0.conv_in.conv.weight"
    assert not torch.equal(case.state[name], case.state[f"transformer.{name}"])
    assert torch.equal(case.model.state_dict()[f"transformer.{name}"], case.state[name])
    models.save_weights(case.model, tmp_path / "own.safetensors")
    written = load_file(tmp_path / "own.safetensors")
    assert set(written) == set(case.shapes)
    assert torch.equal(written[f"transformer.{name}"], written[name])
    for missing in (name, f"transformer.{name}"):
        with pytest.raises(ValueError, match=missing):
            models.load_official(
                "rhmnet", {key: value for key, value in case.state.items() if key != missing}
            )


@torch.no_grad()
def test_features_positions_and_first_memory(case, scribble) -> None:
    model, expected = case.model, case.expected
    features = model.look(model.normalise(case.frames[:1]))
    close(features.fine[0, :4], expected["m_layer1"])
    close(features.middle[0, :8], expected["m_layer2"])
    close(features.deep[0, :16], expected["m_layer3"])
    grid = features.tokens.mT.unflatten(2, features.grid)
    close(grid[0], expected["m_feat0"])
    close(model.position_embedding(6, 8)[0, ::8], expected["m_pos_6x8"])
    close(model.position_embedding(30, 54)[0, ::32], expected["m_pos_30x54"])
    drawn = planes(scribble("rhmnet.mask", 2, *SIZE, True), 2)
    close(background_last(similarity_labels(drawn, grid, 16)[0]), expected["m_similarity"])
    for layer, tokens in enumerate(model.initial_memory(features, drawn)):
        close(tokens[..., :128].transpose(0, 1), expected[f"m_initmem{layer}"])


class Listening(RHMNet):
    """The network, keeping what passes through it."""

    def find_regions(self, *arguments):
        self.regions = super().find_regions(*arguments)
        return self.regions

    def find_targets(self, *arguments):
        self.targets = super().find_targets(*arguments)
        return self.targets

    def mask_memory(self, *arguments, **options):
        self.masks = super().mask_memory(*arguments, **options)
        return self.masks


def session_of(case, channels: int, **memory):
    """Start a session whose network listens."""
    session = case.model.session(
        channels=channels, memory=case.model.memory_settings(**memory), length=None
    )
    session.network.__class__ = Listening
    return session


def test_each_frame_of_a_video(case, scribble) -> None:
    expected = case.expected
    drawn = scribble("rhmnet.mask", 2, *SIZE, True)
    session = session_of(case, 2, background_scribble=True)
    for t in range(3):
        given = (
            {
                channel: torch.from_numpy(drawn == label)
                for channel, label in ((0, BACKGROUND), (1, 1), (2, 2))
            }
            if t == 0
            else None
        )
        found = session.step(case.frames[t], given=given)
        regions, targets = session.network.regions, session.network.targets
        close_logits(regions.logits[0], expected[f"m{t}_scribble_logit"])
        probabilities = background_last(regions.probabilities[0])
        close(probabilities, expected[f"m{t}_scribble_prob"])
        alike((probabilities[:2] > 0.65).numpy(), expected[f"m{t}_reliable"])
        shown = 256 if t == 1 else 32
        for layer, readout in enumerate((regions.readout, targets.readout)):
            close(readout[..., :shown].mT.unflatten(2, (6, 8)), expected[f"m{t}_readout{layer}"])
        close(regions.memory[..., :64].transpose(0, 1), expected[f"m{t}_scribble_mem"])
        close(background_last(found).mean((1, 2)), expected[f"m{t}_prob_mean"])
        if t == 0:
            close(session.network.masks[..., :128].transpose(0, 1), expected["m_maskmem0"])
        else:
            close_logits(background_last(targets.logits[0]), expected[f"m{t}_logit"])


def test_the_other_row_of_embeddings_is_another_result(case, scribble) -> None:
    drawn = scribble("rhmnet.mask", 2, *SIZE, True)
    memory = {"background_scribble": True, "mask_memory_row": 2}
    video = segment_video(
        case.model, case.frames[:3], {0: drawn}, memory=memory, keep_probabilities=True
    )
    published = np.stack([case.expected[f"m{t}_prob_mean"] for t in range(3)])
    assert (
        0.1 < np.abs(background_last(video.probabilities, 1).mean((2, 3)) - published).max() < 0.2
    )


def test_padding(case, parity_weights, scribble) -> None:
    frames = torch.stack(
        [parity_weights.image(f"rhmnet.pad.frame{t}", 3, 90, 122) for t in range(2)]
    )
    session = session_of(case, 1)
    drawn = torch.from_numpy(scribble("rhmnet.pad.mask", 1, 90, 122, False) == 1)
    for t in range(2):
        found = session.step(frames[t], given={1: drawn} if t == 0 else None)
        close(found[1], case.expected[f"pad{t}_prob"])
        regions = F.interpolate(
            session.network.regions.probabilities, SIZE, mode="bilinear", align_corners=True
        )
        close(regions[0, 1, 3:93:2, 3:125:2], case.expected[f"pad{t}_scribble_prob"])


def test_what_is_kept(case, scribble) -> None:
    expected = case.expected
    drawn = scribble("rhmnet.mask", 2, *SIZE, False)
    memory = {"scribble_every": 2, "mask_every": 2, "capacity": 2}
    video = segment_video(
        case.model, case.frames, {0: drawn}, memory=memory, keep_probabilities=True
    )
    close(background_last(video.probabilities, 1).mean((2, 3)), expected["s_prob_mean"])
    alike(video.masks, expected["s_argmax"] % BACKGROUND)
    close(background_last(video.probabilities[5])[:, ::2, ::2], expected["s5_prob"])
    usage = [
        [held["scribbles"], held["masks"], held["last_scribble"]] for held in video.memory_usage
    ]
    assert usage == expected["s_memory_lengths"].tolist()


def test_object_that_appears_late(case, scribble) -> None:
    drawn = scribble("rhmnet.mask", 2, *SIZE, False)
    annotations = {0: np.where(drawn == 1, drawn, 0), 1: np.where(drawn == 2, drawn, 0)}
    results = list(iterate_video(case.model, case.frames[:3], annotations))
    close(
        np.stack([background_last(each.probabilities).mean((1, 2)) for each in results]),
        case.expected["l_prob_mean"],
    )
    close(background_last(results[2].probabilities)[:, ::2, ::2], case.expected["l2_prob"])


@pytest.fixture(scope="module")
def training(case, parity_weights, scribble) -> SimpleNamespace:
    """The reference batch: two clips of three frames, with two objects and with one."""
    counts = (2, 1)
    frames = [
        [parity_weights.image(f"rhmnet.train.b{b}.frame{t}", 3, 96, 96) for t in range(3)]
        for b in range(2)
    ]
    maps = [
        [scribble(f"rhmnet.train.b{b}.mask{t}", counts[b], 96, 96, True) for t in range(3)]
        for b in range(2)
    ]
    labels = np.array(maps).astype(np.int64)
    labels = np.where(labels == 0, 255, np.where(labels == BACKGROUND, 0, labels))
    used = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    return SimpleNamespace(
        frames=torch.stack([torch.stack(clip) for clip in frames]),
        labels=torch.from_numpy(labels),
        maps=np.array(maps),
        used=used,
    )


def test_targets(case, training) -> None:
    assert np.array_equal(training.maps, case.expected["t_label"])
    target, asked = region_targets(training.labels, 2, 35)
    assert np.array_equal(target.numpy(), case.expected["t_ds_label"])
    assert np.array_equal(~asked.numpy(), case.expected["t_ignore"])


@pytest.mark.parametrize("stage", ["pretrain", "video"])
def test_training_losses_and_gradients(case, training, stage) -> None:
    expected, model = case.expected, case.model
    background_weight, alpha, weight = (1.0, 0.35, 0.0) if stage == "pretrain" else (2.0, 0.5, 20.0)
    model.zero_grad(set_to_none=True)
    features = model.look(model.normalise(training.frames).flatten(0, 1))
    found = model.segment_clips(
        features, 3, label_planes(training.labels[:, 0], 2), training.used, None
    )
    with torch.no_grad():
        last = label_planes(training.labels[:, -1], 2)
        back = model.segment_clips(features, 3, last, training.used, None, backwards=True)
    pce = losses.partial_cross_entropy(
        found.logits, training.labels, background_weight, pooled=True
    )
    unused = (
        9 * 0.021
    )  # channels that no object uses are flat, and the published sum has their floor
    probabilities = found.probabilities.flatten(0, 1)
    smooth = losses.smoothness(probabilities, losses.gray(training.frames).flatten(0, 1)) + unused
    target, asked = region_targets(training.labels, 2, 35)
    asked = asked & training.used.bool()[:, None, :, None, None]
    region = losses.region_loss(found.region_logits, target, asked, alpha, pooled=True)
    consistency = losses.difference(found.probabilities, back.probabilities, CHANNELS)
    total = pce + 0.3 * smooth + region + weight * consistency
    total.backward()

    close_logits(background_last(found.logits.flatten(0, 1)[..., ::8, ::8], 1), expected["t_logit"])
    close_logits(
        found.region_logits.transpose(0, 1).flatten(1, 2)[..., ::4, ::4],
        expected["t_scribble_logit"],
    )
    close(background_last(probabilities, 1).mean((2, 3)), expected["t_prob_mean"])
    close(
        background_last(back.probabilities.flatten(0, 1), 1).mean((2, 3)),
        expected["t_prob_back_mean"],
    )
    wanted = expected[f"t_losses_{stage}"].tolist()
    measured = [float(each.detach()) for each in (pce, smooth, consistency, region, total)]
    if weight == 0:
        wanted, measured = wanted[:2] + wanted[3:], measured[:2] + measured[3:]
    assert measured == pytest.approx(wanted, rel=1e-3)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    norms = [float(parameters[name].grad.norm()) for name in GRADIENTS]
    assert norms == pytest.approx(expected[f"t_grads_{stage}"].tolist(), rel=2e-2)


def test_losses(case, parity_weights, scribble) -> None:
    expected = case.expected
    names = ("rhmnet.loss.logit", "rhmnet.loss.logitback")
    forward, backward = (
        12 * (parity_weights.image(name, 4, CHANNELS, 48, 64) - 0.5) for name in names
    )
    forward.requires_grad_()
    maps = torch.from_numpy(
        np.stack([scribble(f"rhmnet.loss.mask{b}", 2, 48, 64, True) for b in range(4)])
    ).long()
    labels = torch.where(
        maps == 0, 255, maps
    )  # channel 0 has no weight in the reference, so the order of channels does not matter
    labels = torch.where(maps == BACKGROUND, 0, labels)
    order = [BACKGROUND, *range(1, BACKGROUND), 0]  # background first, unlabelled last
    gray = parity_weights.image("rhmnet.loss.gray", 4, 48, 64)
    probabilities, other = torch.softmax(forward, 1), torch.softmax(backward, 1)
    pce = [
        losses.partial_cross_entropy(forward[:, None, order], labels[:, None], weight, pooled=True)
        for weight in (1.0, 2.0)
    ]
    smooth = losses.smoothness(probabilities, gray)
    consistency = losses.difference(probabilities[:, None], other[:, None], CHANNELS)
    measured = {
        "p_pce_bg1": pce[0],
        "p_pce_bg2": pce[1],
        "p_smooth": smooth,
        "p_smooth_alpha2": losses.smoothness(probabilities, gray, 2.0),
        "p_smooth_scribble": losses.smoothness(probabilities, gray, labelled=maps > 0),
        "p_consistency": consistency,
    }
    logits = (
        10 * (parity_weights.image("rhmnet.loss.scribblelogit", 4, 2, 12, 16) - 0.6)
    ).requires_grad_()
    target = parity_weights.image("rhmnet.loss.scribblelabel", 4, 2, 12, 16) > 0.75
    asked = parity_weights.image("rhmnet.loss.scribblevalid", 4, 2, 12, 16) > 0.3
    for alpha in (0.25, 0.35, 0.5):
        measured[f"p_focal_{alpha}"] = losses.region_loss(logits, target, asked, alpha, pooled=True)
    assert {name: float(value.detach()) for name, value in measured.items()} == pytest.approx(
        {n: float(expected[n]) for n in measured}, rel=1e-3
    )
    (pce[1] + 0.3 * smooth + 20 * consistency).backward()
    measured["p_focal_0.5"].backward()
    for found, name in (
        (forward.grad[..., ::4, ::4], "p_grad_logit"),
        (logits.grad, "p_grad_scribble"),
    ):
        assert np.linalg.norm(found.numpy() - expected[name]) <= 2e-2 * np.linalg.norm(
            expected[name]
        )
    assert float(forward.grad.norm()) == pytest.approx(
        float(expected["p_grad_logit_norm"]), rel=2e-2
    )
