"""How methods put losses together: weights, schedules, ablations, two networks, the oracle."""

from pathlib import Path

import pytest
import torch

from noisyvos import methods
from noisyvos.models.base import Clip, ClipOutput
from noisyvos.params.entries import read_family

PARAMS = Path(__file__).resolve().parents[3] / "params"
B, K, H, W = 4, 2, 16, 24
NUM_OBJECTS = torch.tensor([2, 1, 2, 2])


def example(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (B, K+1, H, W) and blocky labels (B, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = (
        torch.randint(0, K + 1, (B, H // 4, W // 4), generator=generator)
        .repeat_interleave(4, 1)
        .repeat_interleave(4, 2)
    )
    return torch.randn(B, K + 1, H, W, generator=generator), torch.minimum(
        coarse, NUM_OBJECTS.view(-1, 1, 1)
    )


def one_hot(labels: torch.Tensor) -> torch.Tensor:
    """Return logits of a network that is sure of `labels`."""
    return 20.0 * (labels.unsqueeze(1) == torch.arange(K + 1).view(1, -1, 1, 1)).float()


def run(method, seed=0, teacher=None, iteration=0):
    logits, labels = example(seed)
    teacher = example(seed + 100)[0] if teacher is None else teacher
    return method.terms(
        logits, labels, num_objects=NUM_OBJECTS, teacher_logits=teacher, iteration=iteration
    )


def clip_of(labels: list[torch.Tensor], clean: list[torch.Tensor] | None = None) -> Clip:
    stacked = torch.stack([labels[0], *labels], 1)
    truth = None if clean is None else torch.stack([clean[0], *clean], 1)
    return Clip(torch.zeros(B, len(labels) + 1, 3, H, W), stacked, NUM_OBJECTS, K, clean=truth)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "smrt"}, "Did you mean 'smart'.*Known: .*ce_plain.*xmem"),
        ({"name": "smart", "preset": "best"}, "released"),
        ({"name": "xmem", "preset": "released"}, "no setting preset. Known: dice, parity"),
        ({"name": "gce", "parity": True}, "no setting parity. Known: dice, q"),
        ({"name": "gce", "q": 0.0}, "q: Input should be greater than 0"),
        ({"name": "smart", "weights": {"union": -1}}, "weights.union"),
        ({"name": "smart", "without": ["onion"]}, "without.0"),
        ({"name": "xmem", "total_iterations": 0}, "at least 1"),
        (
            {"name": "ce_topp", "mining": {"start": 0.5, "end": 0.2}},
            "`end` must not be below `start`",
        ),
        (
            {"name": "ce_topp", "parity": True, "mining": {"start": 0, "end": 0.5}},
            "leave out `mining` or `parity`",
        ),
        ({"name": "oracle_clean", "method": "smart"}, "no teacher"),
        ({"name": "oracle_clean", "method": "nothing"}, "Unknown method 'nothing'"),
    ],
)
def test_bad_requests_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        methods.build(**arguments)


def test_every_entry_of_the_parameter_file_builds():
    entries = read_family(PARAMS, "methods")
    built = {
        name: methods.from_settings(entry.pop("kind"), entry, 100)
        for name, entry in entries.items()
    }
    assert set(methods.available()) - {"smart"} <= set(built)


def test_smart_has_fourteen_different_variants():
    entries = read_family(PARAMS, "methods")
    variants = [
        e
        for e in entries.values()
        if e.pop("kind") == "smart" and not e.keys() & {"parity", "dice", "weights"}
    ]
    weights = {tuple(methods.from_settings("smart", values).weights.items()) for values in variants}
    assert len(variants) == len(weights) == 14


def test_plain_cross_entropy_is_xmem_without_mining():
    plain, mined = (
        methods.build("ce_plain", total_iterations=100),
        methods.build("xmem", total_iterations=100),
    )
    assert torch.equal(run(plain, iteration=0)["total"], run(mined, iteration=0)["total"])
    assert torch.equal(run(plain, iteration=99)["total"], run(plain, iteration=0)["total"])
    assert run(mined, iteration=99)["total"] > run(mined, iteration=0)["total"]


def test_mined_cross_entropy_is_xmem_without_dice():
    found = run(methods.build("ce_topp", total_iterations=100), iteration=50)
    full = run(methods.build("xmem", total_iterations=100), iteration=50)
    assert "dice" not in found
    torch.testing.assert_close(found["total"] + full["dice"], full["total"])


def test_ignored_pixels_count_as_pixels_and_frames_are_averaged_where_asked():
    logits, labels = example(0)
    labels[:, : H // 4] = 255
    plain = methods.build("ce_topp", total_iterations=100)
    counted = methods.build("ce_topp", total_iterations=100, void="counted", frames="mean")
    one, other = (
        method.terms(logits, labels, num_objects=NUM_OBJECTS)["total"]
        for method in (plain, counted)
    )
    torch.testing.assert_close(other, one * 3 / 4)
    outputs = [ClipOutput((logits, logits, logits))]
    one, other = (method.clip_loss(outputs, clip_of([labels] * 3)) for method in (plain, counted))
    torch.testing.assert_close(other["total"] * 3, one["total"] * 3 / 4)
    torch.testing.assert_close(other["ce"] * 3, one["ce"] * 3 / 4)
    assert one["top_p"] == other["top_p"] == 1


def test_smart_total_is_the_weighted_mean_of_its_terms():
    found = run(methods.build("smart", preset="unit", total_iterations=100), iteration=50)
    summed = found["ce"] + found["reliability"] + found["intersection"] + found["union"]
    torch.testing.assert_close(found["total"], summed.mean())
    assert ((found["sigma"] >= 0) & (found["sigma"] <= 1)).all()


@pytest.mark.parametrize("iteration", [0, 50, 99])
def test_placebo_teacher_only_scales_cross_entropy(iteration):
    _, labels = example(0)
    labels[0] = 0
    method = methods.build(
        "smart",
        preset="unit",
        weights={"reliability": 0.3, "intersection": 0.8},
        without=["union"],
        total_iterations=100,
    )
    logits = example(0)[0]
    found = method.terms(
        logits, labels, num_objects=NUM_OBJECTS, teacher_logits=one_hot(labels), iteration=iteration
    )
    ce = methods.build("ce_topp", total_iterations=100).terms(
        logits, labels, num_objects=NUM_OBJECTS, iteration=iteration
    )
    torch.testing.assert_close(found["total"], (1 + 0.3 + 0.8) * ce["total"])
    assert (found["sigma"] == 1).all()


def test_smart_without_its_terms_is_mined_cross_entropy():
    bare = methods.build(
        "smart", without=["reliability", "intersection", "union"], total_iterations=100
    )
    mined = methods.build("ce_topp", total_iterations=100)
    assert torch.equal(run(bare, iteration=50)["total"], run(mined, iteration=50)["total"])


def test_smart_needs_its_teacher():
    logits, labels = example(0)
    with pytest.raises(ValueError, match="Pass teacher_logits"):
        methods.build("smart").terms(logits, labels, num_objects=NUM_OBJECTS)


def test_flags_of_smart_change_what_they_name():
    default, labels = (
        run(methods.build("smart", preset="unit")),
        run(methods.build("smart", preset="unit", reliability_score="labels")),
    )
    by_class = run(methods.build("smart", preset="unit", intersection_rule="class"))
    assert (labels["sigma"] < default["sigma"]).any()
    assert not torch.equal(by_class["intersection"], default["intersection"])
    dice = run(methods.build("smart", preset="unit", dice=0.5))
    torch.testing.assert_close(dice["total"], default["total"] + 0.5 * dice["dice"])


def test_clip_sums_losses_and_averages_shares():
    method = methods.build("smart", preset="unit", total_iterations=100)
    frames = [example(seed) for seed in (1, 2, 3)]
    teachers = [example(seed)[0] for seed in (4, 5, 6)]
    single = [
        method.terms(x, y, num_objects=NUM_OBJECTS, teacher_logits=z, iteration=50)
        for (x, y), z in zip(frames, teachers, strict=True)
    ]
    output = ClipOutput(tuple(x for x, _ in frames))
    found = method.clip_loss(
        [output], clip_of([y for _, y in frames]), teacher=ClipOutput(tuple(teachers)), iteration=50
    )
    for name in ("total", "ce", "union"):
        torch.testing.assert_close(found[name], sum(t[name] for t in single))
    torch.testing.assert_close(found["sigma"], sum(t["sigma"] for t in single) / 3)
    assert found["top_p"] == pytest.approx(single[0]["top_p"])


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("gce", {}),
        ("sce", {}),
        ("apl", {}),
        ("apl_actiseg", {}),
        ("boot_soft", {}),
        ("boot_hard", {}),
    ],
)
def test_robust_methods_keep_dice_unless_told(name, extra):
    with_dice, alone = run(methods.build(name)), run(methods.build(name, dice=0.0))
    torch.testing.assert_close(with_dice["total"], alone["total"] + with_dice["dice"])
    torch.testing.assert_close(alone["total"], alone["robust"].mean())


def test_published_defaults_by_hand():
    logits = torch.log(torch.tensor([0.2, 0.8])).view(1, 2, 1, 1)
    labels, objects = torch.zeros(1, 1, 1, dtype=torch.long), torch.tensor([1])
    value = {
        n: methods.build(n, dice=0.0).terms(logits, labels, num_objects=objects)["total"].item()
        for n in ("gce", "sce", "apl", "apl_actiseg")
    }
    gce = (1 - 0.2**0.7) / 0.7
    assert value["gce"] == pytest.approx(gce, rel=1e-5)
    assert value["sce"] == pytest.approx(0.1 * 1.6094379 + 9.2103404 * 0.8, rel=1e-5)
    assert value["apl"] == pytest.approx(
        1.6094379 / (1.6094379 + 0.2231436) + 9.2103404 * 0.8, rel=1e-5
    )
    assert value["apl_actiseg"] == pytest.approx(10 * gce + 0.8, rel=1e-5)


def test_student_t_learns_its_degrees_of_freedom():
    method = methods.build("tloss")
    (parameter,) = method.parameters()
    run(method)["total"].backward()
    assert parameter.grad.abs() > 0
    assert method.scalar_learning_rate == 1e-3


def test_student_t_weighs_a_mask_that_is_far_off_less():
    labels = torch.ones(2, H, W, dtype=torch.long)
    logits = torch.zeros(2, 2, H, W)
    logits[0, 0], logits[1, 0] = 6.0, -1.0
    logits.requires_grad_()
    methods.build("tloss").terms(logits, labels, num_objects=torch.tensor([1, 1]))[
        "total"
    ].backward()
    pull = logits.grad.abs().sum((1, 2, 3))
    logits.grad = None
    methods.build("gce", q=1e-6, dice=0.0).terms(logits, labels, num_objects=torch.tensor([1, 1]))[
        "total"
    ].backward()
    assert pull[0] / pull[1] < logits.grad[0].abs().sum() / logits.grad[1].abs().sum()


def test_oracle_reads_clean_labels_and_nothing_else_does():
    (logits, given), (_, clean) = example(0), example(7)
    output = [ClipOutput((logits,))]
    oracle, plain = methods.build("oracle_clean", method="ce_plain"), methods.build("ce_plain")
    on_clean = plain.clip_loss(output, clip_of([clean]))["total"]
    assert torch.equal(oracle.clip_loss(output, clip_of([given], [clean]))["total"], on_clean)
    assert not torch.equal(plain.clip_loss(output, clip_of([given], [clean]))["total"], on_clean)
    with pytest.raises(ValueError, match="needs the clean labels"):
        oracle.clip_loss(output, clip_of([given]))
    assert [name for name in methods.available() if methods.build(name).clean_labels] == [
        "oracle_clean"
    ]


def test_co_teaching_learns_only_where_the_peer_has_small_losses():
    method = methods.build("coteach", total_iterations=100, band=1.0, forgotten=0.5, dice=0.0)
    logits, labels = example(0)
    peer = example(1)[0]
    logits.requires_grad_()
    found = method.terms(
        logits, labels, num_objects=NUM_OBJECTS, teacher_logits=peer, iteration=100
    )
    found["total"].backward()
    used = logits.grad.abs().sum(1) > 0
    loss = torch.stack(
        [
            torch.nn.functional.cross_entropy(
                peer[b : b + 1, : n + 1], labels[b : b + 1], reduction="none"
            )[0]
            for b, n in enumerate(NUM_OBJECTS)
        ]
    )
    assert found["top_p"] == 0.5
    assert 0.45 < used.float().mean() < 0.6
    for b in range(B):
        for label in labels[b].unique():
            group = labels[b] == label
            assert loss[b][group & used[b]].max() <= loss[b][group & ~used[b]].min()


@pytest.mark.parametrize("name", ["coteach", "jocor"])
def test_dice_is_confined_to_the_kept_pixels_too(name):
    logits, labels = example(0)
    peer = example(1)[0]
    support = []
    for weight in (0.0, 1.0):
        leaf = logits.clone().requires_grad_()
        method = methods.build(name, total_iterations=100, band=1.0, forgotten=0.5, dice=weight)
        method.terms(leaf, labels, num_objects=NUM_OBJECTS, teacher_logits=peer, iteration=100)[
            "total"
        ].backward()
        support.append(leaf.grad.abs().sum(1) > 0)
    assert torch.equal(*support)
    assert not support[0].all()


def test_co_teaching_starts_with_everything():
    found, plain = (
        run(methods.build("coteach"), iteration=0),
        run(methods.build("ce_plain"), iteration=0),
    )
    torch.testing.assert_close(found["total"], plain["total"])
    assert (found["kept"] == 1).all()


def test_two_networks_share_a_clip_loss_and_log_their_disagreement():
    first, labels = example(0)
    second = example(1)[0]
    method = methods.build("coteach", total_iterations=100)
    clip, arguments = clip_of([labels]), {"num_objects": NUM_OBJECTS, "iteration": 60}
    found = method.clip_loss([ClipOutput((first,)), ClipOutput((second,))], clip, iteration=60)
    each = [
        method.terms(a, labels, teacher_logits=b, **arguments)["total"]
        for a, b in ((first, second), (second, first))
    ]
    torch.testing.assert_close(found["total"], sum(each))
    assert 0 < found["disagreement"] < 1
    assert method.clip_loss([ClipOutput((first,))] * 2, clip, iteration=60)["disagreement"] == 0


def test_frame_co_teaching_drops_the_frame_that_the_peer_finds_hardest():
    method = methods.build("coteach_frame", total_iterations=100)
    logits, labels = example(0)
    peer = one_hot(labels)
    peer[2] = -peer[2]
    found = method.terms(logits, labels, num_objects=NUM_OBJECTS, teacher_logits=peer, iteration=0)
    assert found["kept"].tolist() == [1.0, 1.0, 0.0, 1.0]
    assert found["top_p"] == 0.95
    assert method.terms(logits, labels, num_objects=NUM_OBJECTS, iteration=100)[
        "top_p"
    ] == pytest.approx(0.85)


def test_joint_training_of_equal_networks_has_no_divergence():
    method = methods.build("jocor", agreement=0.9, dice=0.0)
    logits, labels = example(0)
    found = method.terms(
        logits, labels, num_objects=NUM_OBJECTS, teacher_logits=logits, iteration=0
    )
    ce = methods.build("ce_plain", dice=0.0).terms(logits, labels, num_objects=NUM_OBJECTS)
    torch.testing.assert_close(found["total"], 0.1 * 2 * ce["total"])


def test_joint_training_adds_both_divergences():
    first, second = torch.log(torch.tensor([0.2, 0.8])), torch.log(torch.tensor([0.5, 0.5]))
    labels, objects = torch.zeros(1, 1, 1, dtype=torch.long), torch.tensor([1])
    method = methods.build("jocor", agreement=0.9, dice=0.0)
    found = method.terms(
        first.view(1, 2, 1, 1), labels, num_objects=objects, teacher_logits=second.view(1, 2, 1, 1)
    )
    p, q = first.exp().double(), second.exp().double()
    divergence = (p * (p / q).log()).sum() + (q * (q / p).log()).sum()
    expected = 0.1 * (1.6094379 + 0.6931472) + 0.9 * divergence.item()
    assert found["total"].item() == pytest.approx(expected, rel=1e-5)
