"""Draws a scene: textured background, lit bodies with soft shadows, and the index mask."""

from dataclasses import dataclass

import cv2
import numpy as np

from noisyvos.raw.textures import draw_surface
from noisyvos.raw.world import Body, Pose, Scene

_MARGIN = 10.0  # how far the camera may wander over the background, in units


@dataclass(frozen=True)
class Window:
    """A body in the part of the picture that it can reach; arrays cover that part."""

    rows: slice
    columns: slice
    # (h, w) distance from the centre over that of the outline in this direction; inside is <= 1
    ratio: np.ndarray
    # (h, w) signed distance to the outline in pixels, positive inside, exact only near the outline
    edge: np.ndarray
    across: tuple[np.ndarray, np.ndarray]  # unit direction from the centre, x and y
    # coordinates on the body, in pixels of the picture at size factor 1
    texels: tuple[np.ndarray, np.ndarray]


def view(
    body: Body, pose: Pose, shape: tuple[int, int], scale: float, padding: float = 0.0
) -> Window | None:
    """Return the body's window in a picture of `shape` (height, width), None if it is outside.

    `scale` is in pixels a unit.
    """
    reach = (body.reach * pose.scale + padding) * scale
    top, bottom = (
        max(int(pose.y * scale - reach), 0),
        min(int(pose.y * scale + reach) + 2, shape[0]),
    )
    left, right = (
        max(int(pose.x * scale - reach), 0),
        min(int(pose.x * scale + reach) + 2, shape[1]),
    )
    if top >= bottom or left >= right:
        return None
    dy = (np.arange(top, bottom, dtype=np.float32) + 0.5 - pose.y * scale)[:, None]
    dx = (np.arange(left, right, dtype=np.float32) + 0.5 - pose.x * scale)[None, :]
    cos, sin = np.float32(np.cos(pose.angle)), np.float32(np.sin(pose.angle))
    u, v = (dx * cos + dy * sin) / pose.scale, (dy * cos - dx * sin) / pose.scale
    a, b = u / np.float32(body.aspect), v * np.float32(body.aspect)
    turn, distance = np.arctan2(b, a), np.sqrt(a * a + b * b)
    outline = np.ones_like(turn)
    for harmonic, amplitude, phase in zip(
        body.harmonics, body.amplitudes, pose.phases, strict=True
    ):
        outline += np.float32(amplitude) * np.cos(harmonic * turn + np.float32(phase))
    outline *= body.radius * scale
    far = np.sqrt(dx * dx + dy * dy) + 1e-6
    return Window(
        slice(top, bottom),
        slice(left, right),
        distance / outline,
        (outline - distance) * pose.scale,
        (dx / far, dy / far),
        (u, v),
    )


def draw_mask(scene: Scene, frame: int, shape: tuple[int, int]) -> np.ndarray:
    """Return the index mask (H, W) uint8 of the visible parts.

    Distractors are 0 and hide what is behind them.
    """
    mask, scale = np.zeros(shape, np.uint8), shape[0] / scene.size[0]
    for body in scene.bodies:
        window = view(body, body.poses[frame], shape, scale)
        if window is not None:
            mask[window.rows, window.columns][window.ratio <= 1] = body.label
    return mask


class Painter:
    """Draws the frames of one scene.

    `rng` draws the surfaces once; each frame has a stream for its grain.
    """

    def __init__(self, scene: Scene, shape: tuple[int, int], rng: np.random.Generator) -> None:
        self.scene, self.shape, self.scale = scene, shape, shape[0] / scene.size[0]
        margin = int(2 * _MARGIN * self.scale)
        size = (shape[0] + margin, shape[1] + margin)
        floor = draw_surface(rng, scene.background, scene.palette, size, 1.2 * self.scale)
        self.floor = cv2.GaussianBlur(floor, (0, 0), 0.2 * self.scale)
        self.surfaces = [self._draw_skin(rng, body) for body in scene.bodies]
        self.glow = self._draw_glow()

    def _draw_skin(self, rng: np.random.Generator, body: Body) -> np.ndarray:
        side = int(2 * body.reach * self.scale) + 8
        return draw_surface(rng, body.family, self.scene.palette, (side, side), self.scale)

    def _draw_glow(self) -> np.ndarray:
        """Return the light on the floor, (H, W, 1): bright on one side, dark in the corners."""
        rows = np.linspace(-1, 1, self.shape[0], dtype=np.float32)[:, None]
        columns = np.linspace(-1, 1, self.shape[1], dtype=np.float32)[None, :]
        slope = columns * self.scene.light[0] + rows * self.scene.light[1]
        return (0.86 + 0.10 * slope - 0.14 * (rows**2 + columns**2) / 2 * (rows**2 + columns**2))[
            ..., None
        ]

    def draw_frame(self, frame: int, rng: np.random.Generator) -> np.ndarray:
        """Return one frame, (H, W, 3) uint8 RGB."""
        picture = self._draw_floor(frame)
        for body, surface in zip(self.scene.bodies, self.surfaces, strict=True):
            self._draw_shadow(picture, body, body.poses[frame])
            self._draw_body(picture, body, body.poses[frame], surface)
        picture *= self.scene.gains[frame]
        picture += 0.015 * rng.standard_normal((*self.shape, 1), dtype=np.float32)
        return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)

    def _draw_floor(self, frame: int) -> np.ndarray:
        x, y = (
            self.scale * (_MARGIN + np.clip(shift, -_MARGIN, _MARGIN))
            for shift in self.scene.camera[frame]
        )
        move = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
        floor = cv2.warpAffine(
            self.floor,
            move,
            self.shape[::-1],
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        return floor * self.glow

    def _draw_shadow(self, picture: np.ndarray, body: Body, pose: Pose) -> None:
        """Darken what is behind the body, away from the light."""
        away = 1.1
        moved = Pose(
            pose.x - away * self.scene.light[0],
            pose.y - away * self.scene.light[1],
            *list(vars(pose).values())[2:],
        )
        window = view(body, moved, self.shape, self.scale, padding=2.5)
        if window is not None:
            depth = np.clip(0.5 + window.edge / (4 * self.scale), 0, 1)
            depth = depth * depth * (3 - 2 * depth)
            picture[window.rows, window.columns] *= (1 - 0.42 * depth)[..., None]

    def _draw_body(self, picture: np.ndarray, body: Body, pose: Pose, surface: np.ndarray) -> None:
        window = view(body, pose, self.shape, self.scale, padding=0.5)
        if window is None:
            return
        centre = surface.shape[0] / 2
        u, v = (
            np.ascontiguousarray(np.broadcast_to(axis + centre, window.ratio.shape))
            for axis in window.texels
        )
        colour = cv2.remap(surface, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        colour = (
            colour * (pose.gain * self._light(window))[..., None] + self._shine(window)[..., None]
        )
        cover = np.clip(0.5 + window.edge, 0, 1)[..., None]
        target = picture[window.rows, window.columns]
        target += cover * (colour - target)

    def _tilt(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Return the normal of a cushion: its parts along the light and towards the viewer."""
        bend = np.clip(window.ratio, 0, 1) ** 3 * 0.92
        towards = window.across[0] * self.scene.light[0] + window.across[1] * self.scene.light[1]
        return bend * towards, np.sqrt(1 - bend * bend)

    def _light(self, window: Window) -> np.ndarray:
        along, up = self._tilt(window)
        return 0.50 + 0.50 * up + 0.30 * along

    def _shine(self, window: Window) -> np.ndarray:
        along, up = self._tilt(window)
        return 0.22 * np.clip(0.55 * along + 0.835 * up, 0, 1) ** 24
