"""Thin-plate splines (Bookstein 1989): smooth displacement fields through control points."""

import numpy as np

CONTROL_POINTS = 12
DISPLACEMENT = 0.02  # standard deviation of a control point's shift, in shares of the sides


def kernel(distance: np.ndarray) -> np.ndarray:
    """Return U(r) = r^2 log(r + 1e-6)."""
    return distance**2 * np.log(distance + 1e-6)


def fit(points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the coefficients (n + 3, 2) of the spline with `values` (n, 2) at `points` (n, 2).

    They are n kernel weights, whose sum and first moments vanish, then the offset and the slopes
    along x and y. The spline interpolates without smoothing. The points must be distinct and not
    collinear.
    """
    count = len(points)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = kernel(np.linalg.norm(points[:, None] - points[None], axis=-1))
    system[:count, count:] = np.column_stack([np.ones(count), points])
    system[count:, :count] = system[:count, count:].T
    return np.linalg.solve(system, np.concatenate([values, np.zeros((3, 2))]))


def evaluate(
    coefficients: np.ndarray, points: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Return the spline's values (len(y), len(x), 2) on the grid of coordinates x and y."""
    offset, along_x, along_y = coefficients[len(points) :]
    values = [
        part[0] + part[1] * x[None] + part[2] * y[:, None] for part in zip(offset, along_x, along_y)
    ]
    for point, weights in zip(points, coefficients):
        bump = kernel(np.sqrt((x - point[0])[None] ** 2 + (y - point[1])[:, None] ** 2))
        for value, weight in zip(values, weights):
            value += weight * bump
    return np.stack(values, axis=-1)


def backward_map(
    source: np.ndarray, destination: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the source position of each warped pixel for `cv2.remap`.

    x and y are (height, width) float32 in pixels. Control points (n, 2) are (x, y) in shares of the
    sides; the content at `source` moves to `destination`. As published, coordinates run from 0 to
    the full side. Without displacement the last row and column therefore come from outside the
    image.
    """
    x, y = np.linspace(0, 1, width), np.linspace(0, 1, height)
    moved = evaluate(fit(destination, source - destination), destination, x, y)
    return ((moved[..., 0] + x[None]) * width).astype(np.float32), (
        (moved[..., 1] + y[:, None]) * height
    ).astype(np.float32)


def random_map(
    generator: np.random.Generator, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return a random backward map for images of at least 12 x 12 pixels.

    Row and column numbers of the control points are drawn without repetition. The published code
    stores (row, column) and reads it as (x, y). We keep this; it makes no difference on square
    images.
    """
    places = [
        generator.choice(side, CONTROL_POINTS, replace=False) / side for side in (height, width)
    ]
    source = np.stack(places, axis=1)
    return backward_map(
        source, source + generator.normal(0, DISPLACEMENT, source.shape), height, width
    )
