"""When a network stops learning and starts memorising: read off the curve of its overlap with the given labels (ADELE)."""

import numpy as np

LEAST_POINTS = 4  # one more than the curve has parameters


def fit_early_learning(overlaps: list[float]) -> tuple[float, float, float]:
    """Return a, b, c of f(x) = a (1 - exp(-x^b / c)), a and b in [0, 1], c >= 0, fitted to overlaps at x = 1, 2, ... by least squares.

    Liu et al., "Adaptive Early-Learning Correction for Segmentation from Noisy Annotations", CVPR 2022, equation 3.
    """
    from scipy.optimize import least_squares

    x, y = np.arange(1, len(overlaps) + 1, dtype=float), np.array(overlaps)

    def error(values: np.ndarray) -> np.ndarray:
        return curve(x, *values) - y

    tiny = 1e-6
    return tuple(
        float(value)
        for value in least_squares(error, (0.5, 0.5, 1.0), bounds=([tiny] * 3, [1, 1, np.inf])).x
    )


def curve(x: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    """Return f(x) of the fit."""
    return a * (1 - np.exp(-(x**b) / c))


def slope(x: float, a: float, b: float, c: float) -> float:
    """Return f'(x) of the fit."""
    return float(a * b / c * x ** (b - 1) * np.exp(-(x**b) / c))


def is_memorising(overlaps: list[float], fall: float) -> bool:
    """Return whether the slope has fallen by more than the share `fall` of what it was at x = 1; False with too few points."""
    if len(overlaps) < LEAST_POINTS:
        return False
    fitted = fit_early_learning(overlaps)
    first = slope(1, *fitted)
    return first > 0 and abs(slope(len(overlaps), *fitted) - first) / first > fall
