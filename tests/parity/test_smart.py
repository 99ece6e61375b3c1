"""SMART's terms, totals, gradients and quirks against values computed with the released code."""

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import torch

from noisyvos import methods
from noisyvos.losses.pixels import frame
from noisyvos.losses.smart import union_reverse_cross_entropy
from noisyvos.models.base import Clip, ClipOutput

CASES = {
    "one": (11, 2, 24, 32, [1]),
    "three": (12, 4, 24, 32, [3, 1, 2]),
    "four": (13, 3, 20, 28, [2, 3, 1, 2]),
}
ITERATIONS = (0, 19999, 20000, 45000, 70000, 90000)
WEIGHTS = {"ce": 1.0, "reliability": 1e-4, "intersection": 1.0, "union": 1e-4}
TOLERANCE = 2e-6  # relative; float32 on one machine reaches 3e-7


class Case(NamedTuple):
    """Inputs of one fixture case and the expected arrays."""

    name: str
    student: list[torch.Tensor]
    teacher: list[torch.Tensor]
    labels: list[torch.Tensor]
    objects: torch.Tensor
    expected: dict[str, np.ndarray]

    def frames(self):
        return zip(self.student, self.teacher, self.labels)


def load(shared: Path, recipe: ModuleType, name: str) -> Case:
    """Rebuild the inputs of case `name` as the specification of the fixture says."""
    seed, length, height, width, objects = CASES[name]
    slots = max(objects)
    labels = [
        [recipe.mask(f"smart:{name}:{b}:{t}", n, height, width).long() for t in range(length)]
        for b, n in enumerate(objects)
    ]
    labels = torch.stack([torch.stack(sample) for sample in labels])
    one_hot = (
        (labels.unsqueeze(2) == torch.arange(slots + 1).view(1, 1, -1, 1, 1))
        .numpy()
        .astype(np.float32)
    )
    random = np.random.RandomState(seed)
    shape = (len(objects), slots + 1, height, width)
    student, teacher = [], []
    for t in range(1, length):
        student.append(
            torch.from_numpy(
                np.float32(2 * one_hot[:, t] + 1.5 * random.randn(*shape).astype(np.float32))
            )
        )
        shifted = np.roll(one_hot[:, t], 3, axis=-1)
        teacher.append(
            torch.from_numpy(
                np.float32(2 * shifted + 1.5 * random.randn(*shape).astype(np.float32))
            )
        )
    with np.load(shared / "parity" / "smart.npz") as arrays:
        expected = {
            key.removeprefix(f"{name}_"): arrays[key]
            for key in arrays.files
            if key.startswith(f"{name}_")
        }
    return Case(
        name,
        student,
        teacher,
        [labels[:, t] for t in range(1, length)],
        torch.tensor(objects),
        expected,
    )


@pytest.fixture(params=CASES)
def case(shared: Path, parity_weights: ModuleType, request) -> Case:
    return load(shared, parity_weights, request.param)


def run(case: Case, method, iteration: int):
    """Return the terms of every frame, and the leaves they depend on."""
    leaves = [logits.clone().requires_grad_() for logits in case.student]
    terms = [
        method.terms(x, y, num_objects=case.objects, teacher_logits=z, iteration=iteration)
        for x, z, y in zip(leaves, case.teacher, case.labels)
    ]
    return terms, leaves


@pytest.mark.parametrize("iteration", ITERATIONS)
def test_terms_totals_and_logged_sums_are_the_released_ones(case, iteration):
    terms, _ = run(case, methods.build("smart", preset="released", parity=True), iteration)
    names = ("ce", "reliability", "intersection", "union", "sigma")
    found = np.stack(
        [
            np.stack(
                [t[name].detach().numpy() for name in names]
                + [np.full(len(case.objects), t["top_p"])],
                1,
            )
            for t in terms
        ]
    )
    np.testing.assert_allclose(found, case.expected[f"terms_it{iteration}"], rtol=TOLERANCE)
    np.testing.assert_allclose(
        sum(t["total"] for t in terms).item(), case.expected[f"total_it{iteration}"], rtol=TOLERANCE
    )
    logged = [[weight * t[name].mean().item() for name, weight in WEIGHTS.items()] for t in terms]
    np.testing.assert_allclose(logged, case.expected[f"logged_it{iteration}"], rtol=TOLERANCE)
    assert terms[0]["top_p"] == pytest.approx(float(case.expected[f"p_it{iteration}"]), rel=1e-12)


@pytest.mark.parametrize("iteration", [0, 45000])
def test_gradients_are_the_released_ones(case, iteration):
    terms, leaves = run(case, methods.build("smart", preset="released", parity=True), iteration)
    sum(t["total"] for t in terms).backward()
    sums = np.stack([leaf.grad.abs().sum((1, 2, 3)).numpy() for leaf in leaves])
    np.testing.assert_allclose(sums, case.expected[f"grad_sum_abs_it{iteration}"], rtol=TOLERANCE)
    expected = case.expected[f"grad1_it{iteration}"]
    sample = leaves[0].grad[0, : len(expected)].numpy()
    np.testing.assert_allclose(sample, expected, rtol=1e-4, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("iteration", [0, 45000])
def test_xmem_mode_of_the_released_code(case, iteration):
    terms, _ = run(case, methods.build("xmem", parity=True), iteration)
    np.testing.assert_allclose(
        sum(t["total"] for t in terms).item(),
        case.expected[f"xmem_mode_total_it{iteration}"],
        rtol=TOLERANCE,
    )
    for index, t in enumerate(terms):
        np.testing.assert_allclose(
            t["dice"].item(), case.expected[f"dice{index + 1}"], rtol=TOLERANCE
        )


def test_reverse_cross_entropy_map(case):
    now = frame(case.student[0], case.labels[0], case.objects)
    found = union_reverse_cross_entropy(now, case.labels[0] != 0)[:1].numpy()
    expected = case.expected["rce_map"]
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE * expected.max())


@pytest.mark.parametrize("iteration", ITERATIONS)
def test_corrected_total_is_the_mean_over_samples(case, iteration):
    terms, _ = run(case, methods.build("smart", preset="released", parity=True), iteration)
    method = methods.build("smart", preset="released", parity=True, accumulate="mean")
    clip = Clip(
        frames=torch.zeros(1),
        masks=torch.stack([torch.zeros_like(case.labels[0]), *case.labels], dim=1),
        num_objects=case.objects,
        slots=int(case.objects.max()),
    )
    found = method.clip_loss(
        [ClipOutput(tuple(case.student))],
        clip,
        teacher=ClipOutput(tuple(case.teacher)),
        iteration=iteration,
    )
    expected = case.expected[f"terms_it{iteration}"][..., :4] @ np.array(list(WEIGHTS.values()))
    np.testing.assert_allclose(found["total"].item(), expected.mean(1).sum(), rtol=TOLERANCE)
    assert found["top_p"] == pytest.approx(terms[0]["top_p"])
