"""Finding the strength of noise that gives a wanted IoU: bisection on a quantity that falls as the strength rises."""

from collections.abc import Callable

from noisyvos.noise.base import GeometricSettings, NoisyVideo, Video
from noisyvos.noise.engine.measure import mean_iou

STEPS = 24  # bisections at most
FINE = 1e-4  # relative width of the bracket at which a search ends
START, LIMIT = 0.05, 8.0  # first guess and largest strength, in units of an object's size
ENOUGH = 5e-4  # of IoU: closer than this a search ends early


def bisect(
    iou_at: Callable[[float], float], q: float, start: float, limit: float, step: float = 0.0
) -> float:
    """Return the strength in (0, limit] whose IoU is nearest to `q`; `iou_at` falls from 1 at strength 0, not always strictly.

    The bracket opens from `start` by doubling; strengths closer than `step` make no difference. If even `limit` leaves the
    IoU above q, `limit` is returned.
    """
    low, high = 0.0, min(start, limit)
    best, best_error = low, 1 - q
    for _ in range(STEPS):
        value = iou_at(high)
        if abs(value - q) < best_error:
            best, best_error = high, abs(value - q)
        if value <= q or high >= limit or best_error <= ENOUGH:
            break
        low, high = high, min(2 * high, limit)
    for _ in range(STEPS):
        if best_error <= ENOUGH or high - low <= max(step, FINE * high):
            break
        middle = (low + high) / 2
        value = iou_at(middle)
        if abs(value - q) < best_error:
            best, best_error = middle, abs(value - q)
        low, high = (middle, high) if value > q else (low, middle)
    return best


def with_strength(
    video: Video, settings: GeometricSettings, apply: Callable[[float | None], NoisyVideo]
) -> NoisyVideo:
    """Apply noise with the calibration that the settings ask for: per object (strength None) or one common strength."""
    if settings.calib == "per_object" or settings.q == 1:
        return apply(None)
    if settings.strength is not None:
        return apply(settings.strength)
    return apply(
        bisect(lambda strength: mean_iou(video, apply(strength)), settings.q, START, LIMIT)
    )
