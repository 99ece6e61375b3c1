"""Segment a video from the masks of a few frames, with any network."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.devices import Amp, half_precision
from noisyvos.errors import UserError
from noisyvos.inference.concurrency import prefetch
from noisyvos.inference.prompts import Annotations, check_annotations
from noisyvos.inference.results import FrameResult, Segmentation
from noisyvos.inference.settings import View, WorkingSize
from noisyvos.models.base import Session, VideoModel, choose_settings

Progress = Callable[[int, int | None], None]


def segment_video(
    model: VideoModel,
    frames: Tensor | Iterable[np.ndarray],
    annotations: Mapping[int, np.ndarray],
    memory: Mapping[str, Any] | None = None,
    size: int | None = None,
    keep_probabilities: bool = False,
    progress: Progress | None = None,
) -> Segmentation:
    """Return masks for all frames of a video, given index masks (H, W) uint8 for some of them.

    frames: float32 (T, 3, H, W) RGB in [0, 1], or an iterable of (H, W, 3) uint8 RGB arrays, read
    one by one. `memory` holds settings of the network's memory. `size` is the shorter side to work
    at; results keep the input size. `progress` is called with (frames done, frames in all or None).

    An object may first appear in a later frame. 255 counts as 0. Frames before the first annotation
    are background. Unknown or impossible settings and unusable annotations raise UserError (a
    ValueError) before the first frame is read.
    """
    masks, probabilities, usage = [], [], []
    total = len(frames) if isinstance(frames, Sized) else None
    for result in iterate_video(model, frames, annotations, memory, size):
        masks.append(result.mask)
        usage.append(result.memory_usage)
        if keep_probabilities:
            probabilities.append(result.probabilities)
        if progress is not None:
            progress(len(masks), total)
    return Segmentation(
        np.stack(masks), np.stack(probabilities) if keep_probabilities else None, usage
    )


def iterate_video(
    model: VideoModel,
    frames: Tensor | Iterable[np.ndarray],
    annotations: Mapping[int, np.ndarray],
    memory: Mapping[str, Any] | None = None,
    size: int | WorkingSize | None = None,
    amp: Amp = False,
    *,
    views: Sequence[View] = (View(),),
    prefetched: bool = False,
) -> Iterator[FrameResult]:
    """Yield the result of every frame in turn; the rest is as in `segment_video`.

    amp: half precision on a GPU; it changes nothing on a CPU. views: each has a memory that no
    other view sees; the result is the mean of their probabilities. prefetched: whether a thread
    reads frames in advance. Arguments are checked before the first frame.
    """
    settings = choose_settings(model.memory_settings, dict(memory or {}), "the memory")
    if not isinstance(size, WorkingSize):
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise UserError(f"size must be None or a number of pixels from 1 on, not {size!r}.")
        size = WorkingSize(size)
    if isinstance(frames, Tensor) and (
        frames.ndim != 4 or frames.shape[1] != 3 or not frames.is_floating_point()
    ):
        raise UserError(
            "frames must be a float tensor (T, 3, H, W) in [0, 1], "
            f"not {frames.dtype} of shape {tuple(frames.shape)}."
        )
    length = len(frames) if isinstance(frames, Sized) else None
    if length == 0:
        raise UserError("frames: the video is empty.")
    checked = check_annotations(annotations, length, model.background_label)
    remaining = None if length is None else length - checked.first
    half = half_precision(amp, next(model.parameters()).device)
    walks = [
        _Walk(
            model.session(channels=len(checked.ids), memory=settings, length=remaining),
            size.of(checked.size, view.scale),
            view.flip,
        )
        for view in views
    ]
    return _results(model, walks, prefetch(frames) if prefetched else frames, checked, half)


@dataclass
class _Walk:
    """One view of a video: a session, the (height, width) it works at, whether it sees a mirror."""

    session: Session
    working: tuple[int, int]
    flip: bool

    def resizes(self, full: tuple[int, int]) -> bool:
        """Return whether frames, masks and results are resized here, outside the session."""
        return self.working != full and not self.session.resizes

    def step(self, picture: Tensor, masks: dict[int, Tensor], last: bool) -> Tensor:
        """Return the probabilities (K + 1, H, W) of a frame (3, H, W) with given masks (H, W)."""
        full = (picture.shape[-2], picture.shape[-1])
        if self.flip:
            picture = picture.flip(-1)
            masks = {channel: mask.flip(-1) for channel, mask in masks.items()}
        if not self.resizes(full):
            self.session.working_size = self.working
            found = self.session.step(picture, given=masks, last=last)
        else:
            small = F.interpolate(
                picture[None], self.working, mode="bilinear", align_corners=False, antialias=True
            )[0]
            masks = {
                channel: F.interpolate(mask[None, None].float(), self.working)[0, 0] > 0.5
                for channel, mask in masks.items()
            }
            found = self.session.step(small, given=masks, last=last)
            found = F.interpolate(found[None], full, mode="bilinear", align_corners=False)[0]
        return found.flip(-1) if self.flip else found


def _results(
    model: VideoModel,
    walks: list[_Walk],
    frames: Tensor | Iterable[np.ndarray],
    annotations: Annotations,
    half: torch.dtype | None,
) -> Iterator[FrameResult]:
    device = next(model.parameters()).device
    resized = any(walk.resizes(annotations.size) for walk in walks)
    count = 0
    for index, (frame, last) in enumerate(_with_last(frames)):
        count = index + 1
        picture = _as_tensor(frame, index, annotations.size)
        given = annotations.given(index)
        seconds = 0.0
        if index < annotations.first:
            probabilities = np.zeros((len(annotations.ids) + 1, *annotations.size), np.float32)
            probabilities[0] = 1
        else:
            start = time.perf_counter()
            picture = picture.to(device)
            masks = {channel: torch.from_numpy(mask).to(device) for channel, mask in given.items()}
            with (
                _evaluating(model),
                torch.inference_mode(),
                torch.autocast(device.type, dtype=half, enabled=half is not None),
            ):
                found = [walk.step(picture, masks, last).float() for walk in walks]
                mean = found[0] if len(found) == 1 else torch.stack(found).mean(0)
                probabilities = mean.cpu().numpy()  # waits for the GPU
            seconds = time.perf_counter() - start
        mask = np.array([0, *annotations.ids], np.uint8)[probabilities.argmax(0)]
        if not model.takes_scribbles:
            _write_given(
                given,
                annotations,
                mask,
                probabilities,
                first=index == annotations.first,
                resized=resized,
            )
        usage = walks[0].session.memory_usage()
        yield FrameResult(mask, probabilities, usage, frame, annotations.ids, seconds)
    if max(annotations.masks) >= count:
        raise UserError(
            f"annotations: frame {max(annotations.masks)} is annotated, "
            f"but the video has only {count} frames."
        )


def _write_given(
    given: dict[int, np.ndarray],
    annotations: Annotations,
    mask: np.ndarray,
    probabilities: np.ndarray,
    *,
    first: bool,
    resized: bool,
) -> None:
    """Write given masks into a frame's result: all of the first annotated frame, later the pixels.

    A network that worked at another size cannot return sharp masks, so there the probabilities of
    given pixels are replaced too.
    """
    if first and given:
        mask[:] = annotations.masks[annotations.first]
    if first and resized:
        probabilities[:] = 0
        probabilities[0] = 1
    for channel, pixels in given.items():
        mask[pixels] = annotations.ids[channel - 1]
        if resized:
            probabilities[:, pixels] = 0
            probabilities[channel, pixels] = 1


def _with_last(frames: Tensor | Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Yield (frame, is the last one), reading one frame in advance."""
    iterator = iter(frames)
    try:
        current = next(iterator)
    except StopIteration:
        raise UserError("frames: the video is empty.") from None
    for following in iterator:
        yield current, False
        current = following
    yield current, True


def _as_tensor(frame: Tensor | np.ndarray, index: int, size: tuple[int, int]) -> Tensor:
    """Return a frame as (3, H, W) float32 in [0, 1]; UserError if it has another size than `size`.

    An array is uint8, or float32 on the same scale; a corrupted image may leave that scale.
    """
    if isinstance(frame, Tensor):
        picture = frame.float()
    else:
        frame = np.asarray(frame)
        if frame.dtype not in (np.uint8, np.float32) or frame.ndim != 3 or frame.shape[2] != 3:
            raise UserError(
                f"frame {index}: {frame.dtype} of shape {frame.shape}; "
                "a frame is (H, W, 3) uint8 RGB."
            )
        picture = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1))).float() / 255
    if tuple(picture.shape) != (3, *size):
        raise UserError(
            f"frame {index} is {tuple(picture.shape[-2:])}, "
            f"but the annotations are {size} (height, width)."
        )
    return picture


@contextmanager
def _evaluating(model: VideoModel) -> Iterator[None]:
    """Put a network in eval mode and restore each module's mode at the end."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
