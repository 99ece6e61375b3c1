"""Memory of single pixels across visits, and the base of the methods that use it.

Values are stored in source-image coordinates at stride 4. The transform recorded with a clip maps
them to its frames and back.
"""

import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisyvos.errors import UserError
from noisyvos.losses.pixels import Frame, frame
from noisyvos.methods.base import Method
from noisyvos.models.base import Clip
from noisyvos.registry import Settings

STRIDE = 4
CERTAIN = 255  # uint8 value of probability 1


@dataclass(frozen=True)
class Warp:
    """Correspondence of one frame of one sample to its source image."""

    # (H, W) int64: flat index of the source cell shown by each pixel; -1 outside the source
    cells: Tensor
    # (h, w) int64: flat index of the pixel that shows each cell; -1 if no pixel does
    pixels: Tensor


def _floor_indices(points: Tensor, height: int, width: int, step: int) -> Tensor:
    """Return flat indices (...) of the grid squares of side `step` that contain points (..., 2).

    Points are (x, y). The index is -1 outside of height x width pixels.
    """
    x, y = points.unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    columns = -(-width // step)
    return torch.where(inside, (y / step).floor().long() * columns + (x / step).floor().long(), -1)


def _centres(height: int, width: int, step: int, like: Tensor) -> Tensor:
    """Return the centres (x, y, 1) of the grid squares of side `step`, (h, w, 3)."""
    sides = [
        (torch.arange(0, side, step).to(like) + step / 2).clamp(max=side - 0.5)
        for side in (height, width)
    ]
    y, x = torch.meshgrid(*sides, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)


def warp(to_source: Tensor, frame: tuple[int, int], source: tuple[int, int]) -> Warp:
    """Return the nearest-neighbour warp between a frame and its source, both (height, width).

    `to_source` (2, 3) maps points of the frame to the source.
    """
    matrix = torch.cat([to_source.double(), to_source.new_tensor([[0, 0, 1]]).double()])
    there = _centres(*frame, 1, matrix) @ matrix[:2].T
    back = _centres(*source, STRIDE, matrix) @ torch.linalg.inv(matrix)[:2].T
    return Warp(_floor_indices(there, *source, STRIDE), _floor_indices(back, *frame, 1))


def pick(values: Tensor, indices: Tensor, outside: float = 0) -> Tensor:
    """Return values (C, N) at flat indices (h, w), as (C, h, w); `outside` where the index is
    -1.
    """
    found = values[:, indices.clamp(min=0).flatten()].view(len(values), *indices.shape)
    return torch.where(indices >= 0, found, outside)


@dataclass(frozen=True)
class Place:
    """One frame of one sample of a batch, with its keys and warp."""

    sample: int
    # (sample in the whole batch, time): visits of a step are applied in this order
    order: tuple[int, int]
    keys: list[str]  # keys of the objects in slots 1..n
    warp: Warp


@dataclass(frozen=True)
class Visit:
    """The values of one frame for the cells it shows, sent between processes."""

    order: tuple[int, int]
    keys: list[str]
    seen: np.ndarray  # (cells,) bool
    values: np.ndarray  # (objects, cells seen) float32


class PixelMemory:
    """Maps of objects in frames: a value in 0..1 and a number of visits for every cell.

    Maps are keyed by (dataset, sequence, frame, object). Both parts are uint8 and compressed, as
    most of a map is 0: at most 2 bytes per object and cell. A visit with value v changes a map's m
    to `keep` m + `add` v. A step reads the maps from before the step. `settle` then adds its
    visits, of all processes. Neither the division of a batch nor the number of processes therefore
    changes the memory.
    """

    def __init__(self, keep: float, add: float) -> None:
        self._maps: dict[str, bytes] = {}
        self._weights = np.float32(keep), np.float32(add)
        self._visits: list[Visit] = []

    def read(self, keys: list[str], cells: int) -> tuple[np.ndarray, np.ndarray]:
        """Return values in 0..1 float32 and visits uint8 (at most 255), both (objects, cells).

        Maps that were never written are zero.
        """
        both = np.zeros((len(keys), 2, cells), np.uint8)
        for row, key in enumerate(keys):
            if key in self._maps:
                both[row] = np.frombuffer(zlib.decompress(self._maps[key]), np.uint8).reshape(
                    2, cells
                )
        return both[:, 0].astype(np.float32) / np.float32(CERTAIN), both[:, 1]

    def write(self, keys: list[str], values: np.ndarray, visits: np.ndarray) -> None:
        """Store values in 0..1 and visits, both (objects, cells)."""
        levels = np.rint(values * CERTAIN).astype(np.uint8)
        for key, level, count in zip(keys, levels, visits, strict=True):
            self._maps[key] = zlib.compress(np.stack([level, count]).tobytes(), 1)

    def visit(self, place: Place, values: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Queue a frame's values (C, H, W) for `settle`.

        Return the arrays of `read` with this visit applied.
        """
        pixels = place.warp.pixels
        picked = (
            pick(values[1 : len(place.keys) + 1].flatten(1), pixels)
            .flatten(1)
            .float()
            .cpu()
            .numpy()
        )
        seen = (pixels >= 0).flatten().cpu().numpy()
        self._visits.append(Visit(place.order, place.keys, seen, picked[:, seen]))
        return self._after(self._visits[-1])

    def _after(self, visit: Visit) -> tuple[np.ndarray, np.ndarray]:
        keep, add = self._weights
        values, visits = self.read(visit.keys, len(visit.seen))
        values[:, visit.seen] = np.minimum(keep * values[:, visit.seen] + add * visit.values, 1)
        visits[:, visit.seen] += visits[:, visit.seen] < 255
        return values, visits

    def settle(self, from_all: Callable[[Any], list[Any]]) -> None:
        """Apply the visits since the last call, of all processes.

        `from_all` gathers a value from every process.
        """
        own, self._visits = self._visits, []
        for visit in sorted(
            (visit for visits in from_all(own) for visit in visits), key=lambda visit: visit.order
        ):
            self.write(visit.keys, *self._after(visit))

    def state_dict(self) -> dict[str, Any]:
        """Return all maps as one uint8 tensor, with their keys and lengths."""
        data = np.frombuffer(b"".join(self._maps.values()), np.uint8).copy()
        return {
            "keys": list(self._maps),
            "lengths": [len(each) for each in self._maps.values()],
            "data": torch.from_numpy(data),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        data, starts = state["data"].numpy().tobytes(), np.cumsum([0, *state["lengths"]])
        self._maps = {
            key: data[first:last]
            for key, first, last in zip(state["keys"], starts[:-1], starts[1:], strict=True)
        }


def places(clip: Clip, time: int, method: str) -> Iterator[Place]:
    """Yield the place of frame `time` of each sample in its source; samples without objects are
    skipped.

    Raises UserError if the clip has no keys or no origin.
    """
    if clip.origin is None or not clip.keys:
        raise UserError(
            f"Method {method!r} stores pixel values in source-image coordinates, "
            "so its clips need `keys` and `origin`."
        )
    for sample, (key, objects) in enumerate(zip(clip.keys, clip.origin.objects, strict=True)):
        if objects:
            keys = ["/".join([*key[:2], key[2 + time], str(label)]) for label in objects]
            frame = (clip.frames.shape[-2], clip.frames.shape[-1])
            yield Place(
                sample,
                (clip.place(sample)[0], time),
                keys,
                warp(clip.origin.to_source[sample, time], frame, clip.origin.sizes[sample]),
            )


def with_background(objects: Tensor, mass: Tensor, channels: int) -> Tensor:
    """Return objects' values (n, ...) preceded by the background's, (channels, ...).

    Unused slots are zero. All values sum to `mass` (...) <= 1, so the background gets the rest.
    Excess from rounding is scaled away.
    """
    total = objects.sum(0)
    objects = objects * (mass / total.clamp(min=1e-9)).clamp(max=1)
    background = (mass - total).clamp(min=0)
    unused = objects.new_zeros(channels - 1 - len(objects), *objects.shape[1:])
    return torch.cat([background[None], objects, unused])


def on_frame(place: Place, values: np.ndarray, mass: np.ndarray, like: Tensor) -> Tensor:
    """Return values (n, cells) with the background's on a frame's pixels, (C, H, W) as `like`.

    Pixels outside the source get 0.
    """
    full = with_background(
        torch.from_numpy(values).to(like.device), torch.from_numpy(mass).to(like.device), len(like)
    )
    return pick(full, place.warp.cells)


class PixelMemoryMethod(Method):
    """Base of methods with a pixel memory. They implement `frame_terms` and `clip_loss`."""

    def __init__(
        self, settings: Settings, total_iterations: int | None, memory: PixelMemory
    ) -> None:
        super().__init__(settings, total_iterations)
        self.memory = memory

    @abstractmethod
    def frame_terms(self, now: Frame, iteration: int) -> dict[str, Any]:
        """Return the terms of one frame without memory."""

    def terms(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        num_objects: Tensor,
        teacher_logits: Tensor | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return the terms of one frame without memory: those of `frame_terms`."""
        return self.frame_terms(frame(logits, target, num_objects), iteration)

    def end_step(self) -> None:
        self.memory.settle(self.from_all)

    def state_dict(self) -> dict[str, Any]:
        return self.memory.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.memory.load_state_dict(state)
