"""What happens in a generated video: bodies, their shapes and their paths, from a random stream.

Lengths are in pixels of the size that training on a CPU uses (videos 48 high), whatever size is
rendered.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from noisyvos.raw.textures import FAMILIES, draw_palette

VIDEO_HEIGHT = 48
IMAGE_HEIGHT = 60  # clips made of still pictures are crops 48 high, which take 480 / 384 of that
SPEED = (1.1, 2.6)  # units a frame
RADIUS = (7.0, 11.5)


@dataclass(frozen=True)
class Pose:
    """A body at one time: centre, angle (radians), size factor, outline phases, brightness."""

    x: float
    y: float
    angle: float
    scale: float
    phases: tuple[float, ...]
    gain: float


@dataclass(frozen=True)
class Body:
    """A blob r(t) = radius (1 + sum_h amplitude_h cos(h t + phase_h)), stretched by `aspect`.

    It has a pose for every frame.
    """

    label: int  # 0 for a distractor, which nobody annotates
    family: str
    radius: float
    aspect: float
    harmonics: tuple[int, ...]
    amplitudes: tuple[float, ...]
    poses: tuple[Pose, ...]
    leaves: bool = False

    @property
    def reach(self) -> float:
        """The longest distance of the outline from the centre at size factor 1."""
        return self.radius * (1 + sum(self.amplitudes)) * max(self.aspect, 1 / self.aspect)


@dataclass(frozen=True)
class Scene:
    """One video: bodies from back to front, background, light, and the camera in every frame."""

    size: tuple[float, float]  # height, width in units
    palette: np.ndarray = field(compare=False)  # (5, 3) float32
    background: str
    bodies: tuple[Body, ...]
    camera: tuple[tuple[float, float], ...]
    gains: tuple[float, ...]
    light: tuple[float, float]  # unit vector in the picture, towards the light


@dataclass(frozen=True)
class Manner:
    """How lively a scene is: videos deform, change light and lose objects; images do not."""

    frames: int
    objects: tuple[int, int]  # fewest, most
    harmonics: tuple[int, ...] = (2, 3, 5)
    amplitude: float = 0.28
    distractor_share: float = 0.5
    leaving_share: float = 0.3
    drift: float = 0.35  # deviation of the outline's phases per frame, radians


def still(objects: tuple[int, int]) -> Manner:
    """Return the manner of single pictures: simpler outlines, nothing that is not annotated."""
    return Manner(
        1, objects, harmonics=(2, 3), amplitude=0.18, distractor_share=0.0, leaving_share=0.0
    )


def draw_scene(rng: np.random.Generator, manner: Manner, size: tuple[float, float]) -> Scene:
    """Return a random scene of `size` (height, width) units; the caller rejects unsuitable ones."""
    count = int(rng.integers(manner.objects[0], manner.objects[1] + 1))
    labels = list(range(1, count + 1)) + [0] * int(rng.uniform() < manner.distractor_share)
    families = _draw_families(rng, len(labels) + 1)
    leaver = int(rng.integers(1, count + 1)) if rng.uniform() < manner.leaving_share else -1
    starts = _draw_starts(rng, len(labels), size)
    headings = _draw_headings(rng, starts)
    bodies = []
    for label, family, start, heading in zip(labels, families, starts, headings, strict=False):
        body = _draw_body(rng, label, family, manner)
        if label == leaver:
            path = _leaving_path(rng, body, manner.frames, size)
        else:
            path = _path(rng, start, heading, body.radius, manner.frames, size)
        bodies.append(replace(body, poses=_draw_poses(rng, path, manner), leaves=label == leaver))
    order = rng.permutation(len(bodies))
    direction = rng.uniform(-0.8, 0.8) - np.pi / 2  # from above, more or less
    return Scene(
        size,
        draw_palette(rng),
        families[-1],
        tuple(bodies[i] for i in order),
        tuple(map(tuple, np.cumsum(rng.normal(0, 0.9, (manner.frames, 2)), axis=0))),
        tuple(np.exp(np.cumsum(rng.normal(0, 0.05, manner.frames)))),
        (float(np.cos(direction)), float(np.sin(direction))),
    )


def _draw_families(rng: np.random.Generator, count: int) -> list[str]:
    names = sorted(FAMILIES)
    return [names[i] for i in rng.integers(len(names), size=count)]


def _draw_starts(
    rng: np.random.Generator, count: int, size: tuple[float, float], tries: int = 12
) -> np.ndarray:
    """Return `count` points (x, y): the random set whose closest pair is furthest apart."""
    margin = 7.0
    sets = rng.uniform((margin, margin), (size[1] - margin, size[0] - margin), (tries, count, 2))
    apart = np.linalg.norm(sets[:, :, None] - sets[:, None], axis=-1) + 1e9 * np.eye(count)
    return sets[int(np.argmax(apart.min(axis=(1, 2))))]


def _draw_headings(rng: np.random.Generator, starts: np.ndarray) -> np.ndarray:
    """Return a direction for each body; half of them aim at another body, so paths cross."""
    headings = rng.uniform(0, 2 * np.pi, len(starts))
    targets = (np.arange(len(starts)) + rng.integers(1, max(len(starts), 2), len(starts))) % len(
        starts
    )
    there = starts[targets] - starts
    return np.where(
        rng.uniform(size=len(starts)) < 0.5,
        np.arctan2(there[:, 1], there[:, 0]) + rng.normal(0, 0.3),
        headings,
    )


def _draw_body(rng: np.random.Generator, label: int, family: str, manner: Manner) -> Body:
    amplitudes = tuple(manner.amplitude * 2 / h * rng.uniform(0.3, 1.0) for h in manner.harmonics)
    return Body(
        label,
        family,
        rng.uniform(*RADIUS),
        float(np.exp(rng.uniform(-0.25, 0.25))),
        manner.harmonics,
        amplitudes,
        (),
    )


def _path(
    rng: np.random.Generator,
    start: np.ndarray,
    heading: float,
    radius: float,
    frames: int,
    size: tuple[float, float],
) -> np.ndarray:
    """Return centres (frames, 2) of a body that wanders and turns back before half of it leaves."""
    velocity = rng.uniform(*SPEED) * np.array([np.cos(heading), np.sin(heading)])
    low, high = np.full(2, 0.5 * radius), np.array([size[1], size[0]]) - 0.5 * radius
    points = [np.array(start)]
    for _ in range(frames - 1):
        velocity = velocity + rng.normal(0, 0.4, 2)
        ahead = points[-1] + velocity
        velocity = np.where((ahead < low) | (ahead > high), -velocity, velocity)
        points.append(points[-1] + velocity)
    return np.array(points)


def _leaving_path(
    rng: np.random.Generator, body: Body, frames: int, size: tuple[float, float]
) -> np.ndarray:
    """Return centres (frames, 2) of a body that starts at a border, leaves and comes back."""
    side = int(rng.integers(4))  # left, right, top, bottom
    across, along = (size[1], size[0]) if side < 2 else (size[0], size[1])
    inside = rng.uniform(0.1, 0.6) * body.radius
    turn = rng.uniform(0.36, 0.46) * (frames - 1)  # the time at which it is farthest out
    deepest = inside + 1.05 * body.reach + rng.uniform(1, 3)
    time = np.arange(frames)
    depth = inside - deepest * (1 - ((time - turn) / turn) ** 2)
    drift = rng.uniform(0.25, 0.75) * along + rng.uniform(-1.2, 1.2) * time
    normal = depth if side in (0, 2) else across - depth
    return np.stack([normal, drift] if side < 2 else [drift, normal], axis=1)


def _draw_poses(rng: np.random.Generator, path: np.ndarray, manner: Manner) -> tuple[Pose, ...]:
    frames, waves = len(path), len(manner.harmonics)
    angles = rng.uniform(0, 2 * np.pi) + np.cumsum(
        rng.normal(0, 0.10, frames) + rng.normal(0, 0.06)
    )
    scales = np.exp(np.arange(frames) * rng.normal(0, 0.05))
    phases = rng.uniform(0, 2 * np.pi, waves) + np.cumsum(
        rng.normal(0, manner.drift, (frames, waves)), axis=0
    )
    gains = np.exp(np.cumsum(rng.normal(0, 0.05, frames)))
    return tuple(
        Pose(
            float(x),
            float(y),
            float(angle),
            float(np.clip(scale, 0.7, 1.4)),
            tuple(map(float, phase)),
            float(gain),
        )
        for (x, y), angle, scale, phase, gain in zip(
            path, angles, scales, phases, gains, strict=True
        )
    )
