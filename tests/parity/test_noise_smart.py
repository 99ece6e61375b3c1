"""SMART's released noise generators: morphology and, for equal draws, the Markov contour.

Both must match byte for byte.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest

from noisyvos.noise import corrupt
from noisyvos.noise.kinds.mar_smart import MarSettings, released


@pytest.fixture(scope="module")
def arrays(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "parity" / "smart.npz") as content:
        return {
            name: content[name] for name in content.files if name.startswith(("noise", "markov"))
        }


@pytest.mark.parametrize("operator", ["D", "E", "EAD", "DAE"])
@pytest.mark.parametrize("index", range(6))
def test_morph_equals_released(arrays: dict[str, np.ndarray], index: int, operator: str) -> None:
    mask = arrays[f"noise_in{index}"]
    for kernel, iterations in itertools.product((3, 5, 7), (1, 3, 5)):
        noisy = corrupt(
            mask, kind="morph", operator=operator, kernel=kernel, iterations=iterations, parity=True
        )
        np.testing.assert_array_equal(
            noisy,
            arrays[f"noise{index}_{operator}_k{kernel}_i{iterations}"],
            f"kernel {kernel}, {iterations} times",
        )


def test_morph_without_parity_keeps_what_the_released_code_loses(
    arrays: dict[str, np.ndarray],
) -> None:
    void = arrays["noise_in3"]
    assert np.array_equal(corrupt(void, kind="morph", operator="D") == 255, void == 255)
    full = arrays["noise_in4"]  # no background: the released code passes object 1 over
    assert 1 in corrupt(full, kind="morph", operator="EAD")
    assert 1 not in corrupt(full, kind="morph", operator="EAD", parity=True)


@pytest.mark.parametrize("index", range(4))
def test_markov_contour_equals_released_for_equal_draws(
    arrays: dict[str, np.ndarray], index: int
) -> None:
    mask = arrays[f"noise_in{index}"]
    settings = MarSettings(parity=True)
    legacy = np.random.RandomState(0)

    def rounds(label, box):
        for _ in range(settings.rounds):
            free = legacy.rand(*mask.shape) < settings.p
            yield free[box].view(np.uint8), legacy.rand() > 0.5

    np.testing.assert_array_equal(released(mask, settings, rounds), arrays[f"markov{index}_seed0"])


def statistics(mask: np.ndarray, noisy: np.ndarray) -> tuple[float, float, float]:
    clean, wrong = (mask > 0) & (mask < 255), noisy > 0
    iou = np.count_nonzero(clean & wrong) / np.count_nonzero(clean | wrong)
    return (
        iou,
        np.count_nonzero(wrong) / np.count_nonzero(clean),
        float((np.where(mask == 255, 0, mask) != noisy).mean()),
    )


@pytest.mark.parametrize("index", range(4))
def test_markov_contour_has_the_released_distribution(
    arrays: dict[str, np.ndarray], index: int
) -> None:
    """The means over seeds differ by no more than 4 standard errors of the difference."""
    mask = arrays[f"noise_in{index}"]
    values = np.array(
        [
            statistics(mask, corrupt(mask, kind="mar_smart", parity=True, seed=seed))
            for seed in range(40)
        ]
    )
    mean, deviation = arrays["markov_stats"][index, :3], arrays["markov_stats"][index, 3:]
    error = np.sqrt(values.var(0, ddof=1) / len(values) + deviation**2 / 19)
    assert np.all(np.abs(values.mean(0) - mean) <= 4 * error), (values.mean(0), mean, error)


@pytest.mark.parametrize(("p", "rounds"), [(0.3, 5), (0.3, 30), (0.7, 5), (0.7, 30)])
def test_markov_contour_follows_its_settings(
    arrays: dict[str, np.ndarray], p: float, rounds: int
) -> None:
    mask = arrays["noise_in1"]
    mean, deviation = arrays[f"markov1_iou_p{p}_n{rounds}"]
    values = [
        statistics(mask, corrupt(mask, kind="mar_smart", parity=True, seed=s, p=p, rounds=rounds))[
            0
        ]
        for s in range(40)
    ]
    assert abs(np.mean(values) - mean) <= 4 * np.sqrt(
        np.var(values, ddof=1) / len(values) + deviation**2 / 19
    )
