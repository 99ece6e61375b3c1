"""How far predicted boundaries lie off the true ones on average, and logits moved back by that much (spatial correction)."""

import numpy as np
from numpy.typing import NDArray

LEAST_BIAS = 1.0  # pixels, below which boundaries count as unbiased


def signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the Euclidean distance to a mask (H, W) in pixels: 1, 2, ... outside, 0, -1, ... inside; infinite without a boundary."""
    from scipy.ndimage import distance_transform_edt

    if not mask.any() or mask.all():
        return np.full(mask.shape, np.inf if not mask.any() else -np.inf)
    return np.where(mask, 1 - distance_transform_edt(mask), distance_transform_edt(~mask))


def boundary_offsets(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return d_predicted - 1 on the ring d_true = 1 just outside the true mask, (N,); empty where either has no boundary.

    Negative where the prediction is too large, positive where it is too small.
    """
    ring = signed_distance(true) == 1
    offsets = signed_distance(predicted)[ring] - 1
    return offsets[np.isfinite(offsets)]


def limited(bias: float, distance: NDArray[np.float64]) -> float:
    """Return a bias cut to an object's size: growing by at most its depth, shrinking by at most half of it (ours).

    The depth is how far, in pixels, the innermost pixel of the predicted object lies from the outside. A bias is measured over
    all objects; a small one that is shrunk by it would be gone.
    """
    depth = 1 - float(distance.min())
    return min(bias, depth) if bias > 0 else max(bias, -depth / 2)


def corrected_logits(logits: NDArray[np.float64], bias: float) -> NDArray[np.float64]:
    """Return an object's logits (H, W) with b exp(-d^2 / 2 bias^2) added (bias > 0) or taken away (bias < 0).

    d: distance to the predicted boundary; b: the largest |logit| in the |bias| pixels next to it, outside for a bias > 0, inside
    for one < 0. The bias is `limited` by the object's size; below one pixel it changes nothing, and neither does one that would
    leave nothing of the object.
    """
    distance = signed_distance(logits > 0)
    if not np.isfinite(distance).all():
        return logits
    bias = limited(bias, distance)
    if abs(bias) < LEAST_BIAS:
        return logits
    side = (distance > 0) & (distance <= bias) if bias > 0 else (distance <= 0) & (distance > bias)
    height = np.abs(logits[side]).max()
    changed = logits + np.sign(bias) * height * np.exp(-(distance**2) / (2 * bias**2))
    return changed if (changed > 0).any() else logits
