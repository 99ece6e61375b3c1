"""The mean offset between predicted and true boundaries, and its correction in the logits.

Used by spatial correction (SC).
"""

import numpy as np
from numpy.typing import NDArray

LEAST_BIAS = 1.0  # pixels; boundaries with a smaller bias count as unbiased


def signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the signed Euclidean distance to a mask (H, W) in pixels.

    It is 1, 2, ... outside and 0, -1, ... inside, and infinite without a boundary.
    """
    from scipy.ndimage import distance_transform_edt

    if not mask.any() or mask.all():
        return np.full(mask.shape, np.inf if not mask.any() else -np.inf)
    return np.where(mask, 1 - distance_transform_edt(mask), distance_transform_edt(~mask))


def boundary_offsets(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return d_predicted - 1 on the ring d_true = 1 just outside the true mask, (N,).

    Values are negative where the prediction is too large and positive where it is too small. The
    result is empty if either mask has no boundary.
    """
    ring = signed_distance(true) == 1
    offsets = signed_distance(predicted)[ring] - 1
    return offsets[np.isfinite(offsets)]


def limited(bias: float, distance: NDArray[np.float64]) -> float:
    """Return a bias limited by an object's size: growth by its depth, shrinkage by half of it.

    The depth is the distance, in pixels, of the object's innermost pixel from the outside. A bias
    is the mean over all objects, so without this limit (our addition) it could erase small ones.
    """
    depth = 1 - float(distance.min())
    return min(bias, depth) if bias > 0 else max(bias, -depth / 2)


def corrected_logits(logits: NDArray[np.float64], bias: float) -> NDArray[np.float64]:
    """Return an object's logits (H, W), with its boundary moved by `bias` pixels.

    b exp(-d^2 / 2 bias^2) is added for a positive bias and subtracted for a negative one. d is the
    distance to the predicted boundary. b is the largest |logit| among the |bias| pixels next to it,
    outside for a positive bias, inside for a negative one. The bias is `limited` by the object's
    size. The logits stay unchanged if the bias is below one pixel or would erase the object.
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
