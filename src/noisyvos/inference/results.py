"""What inference returns, how long it took, and probabilities as files that can be merged."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisyvos.errors import UserError
from noisyvos.io.files import check_regular
from noisyvos.io.forms import damaged

STEPS = 255  # of a stored probability


@dataclass(frozen=True)
class Segmentation:
    """A segmented video of T frames with K objects."""

    masks: np.ndarray  # (T, H, W) uint8, ids as in the annotations
    probabilities: np.ndarray | None  # (T, K + 1, H, W) float32, background first, ids ascending
    memory_usage: list[dict[str, Any]]  # what the network's memory held after each frame


@dataclass(frozen=True)
class FrameResult:
    """One segmented frame of a video with K objects."""

    mask: np.ndarray  # (H, W) uint8
    # (K + 1, H, W) float32, background first, ids ascending; None if not asked for
    probabilities: np.ndarray | None
    memory_usage: dict[str, Any]
    frame: Any = None  # the frame as it was handed in
    ids: tuple[int, ...] = ()  # of channels 1, 2, ...
    seconds: float = 0.0  # of the network's work; 0 before the first annotation


@dataclass
class Speed:
    """Frames that a network segmented and the seconds of its work, without reading and writing."""

    frames: int = 0
    seconds: float = 0.0

    def add(self, result: FrameResult) -> None:
        """Count a frame; frames before the first annotation do not count."""
        if result.seconds > 0:
            self.frames += 1
            self.seconds += result.seconds

    def __str__(self) -> str:
        rate = self.frames / self.seconds if self.seconds else 0.0
        return (
            f"{self.frames} frames in {self.seconds:.2f} s of the network's work, "
            f"{rate:.2f} frames per second (without loading, reading and writing)"
        )


def encode_probabilities(result: FrameResult) -> bytes:
    """Return a frame's probabilities in 255 steps, as a compressed NPZ file.

    It holds `probabilities`, (K + 1, H, W) uint8, and `ids`, (K,) uint8. Where the mask is given
    rather than predicted, the given label has probability 1.
    """
    channels = np.array([0, *result.ids], np.uint8)
    assert result.probabilities is not None
    probabilities = result.probabilities.copy()
    given = channels[probabilities.argmax(0)] != result.mask
    probabilities[:, given] = channels[:, None] == result.mask[given]
    steps = np.rint(probabilities * STEPS).clip(0, STEPS).astype(np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, probabilities=steps, ids=channels[1:])
    return buffer.getvalue()


def merge_probabilities(folders: Sequence[Path]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (sequence, frame, mask) with the label of the largest summed probability.

    folders: what several runs saved, <sequence>/<frame>.npz each. As XMem's published merging does,
    it adds the 8-bit maps of all runs. FileNotFoundError or UserError names a folder or file that
    is missing or does not fit the others.
    """
    frames = [_saved_frames(folder) for folder in folders]
    for folder, found in zip(folders[1:], frames[1:], strict=True):
        for one, other, missing in (
            (folders[0], folder, frames[0] - found),
            (folder, folders[0], found - frames[0]),
        ):
            if missing:
                raise UserError(
                    f"{other}: {min(missing)}.npz is missing, but {one} has it. "
                    "Merge runs over the same videos."
                )
    for name in sorted(frames[0]):
        sequence, _, frame = name.rpartition("/")
        ids, total = _read(folders[0] / f"{name}.npz")
        for folder in folders[1:]:
            file = folder / f"{name}.npz"
            other_ids, steps = _read(file)
            if steps.shape != total.shape or not np.array_equal(ids, other_ids):
                raise UserError(
                    f"{file}: objects or size differ from {folders[0] / f'{name}.npz'}. "
                    "Merge runs over the same videos."
                )
            total = total + steps
        yield sequence, frame, np.array([0, *ids], np.uint8)[total.argmax(0)]


def _saved_frames(folder: Path) -> set[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of probabilities.")
    names = (file.relative_to(folder).with_suffix("") for file in folder.rglob("*.npz"))
    found = {name.as_posix() for name in names if len(name.parts) > 1}
    if not found:
        raise UserError(
            f"{folder}: this folder holds no probabilities. "
            "`noisyvos infer --save-probabilities` writes them."
        )
    return found


def _read(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids (K,) and the probabilities (K + 1, H, W) in steps, as int32."""
    check_regular(file)
    again = "Run `noisyvos infer --save-probabilities` again."
    with damaged(file, again), np.load(file, allow_pickle=False) as content:
        ids, steps = content["ids"], content["probabilities"]
        fits = ids.dtype == steps.dtype == np.uint8 and steps.ndim == 3 and ids.ndim == 1
        if not fits or len(steps) != len(ids) + 1 or not steps.size:
            raise ValueError("not the ids of objects and their probabilities")
        return ids, steps.astype(np.int32)
