"""Segment a video from the masks of a few frames, with any network."""

from collections import deque
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
from noisyvos.inference.transfer import Direct, Fetched, Streams, link
from noisyvos.models.base import Session, VideoModel, choose_settings
from noisyvos.models.fast.recording import with_recorded_parts

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
    results = iterate_video(
        model, frames, annotations, memory, size, keep_probabilities=keep_probabilities
    )
    for result in results:
        masks.append(result.mask)
        usage.append(result.memory_usage)
        if result.probabilities is not None:
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
    keep_probabilities: bool = True,
    cuda_graphs: bool = False,
) -> Iterator[FrameResult]:
    """Yield the result of every frame in turn; the rest is as in `segment_video`.

    amp: half precision on a GPU; on a CPU only "bf16" changes anything, if the CPU computes in it.
    views: each has a memory that no other view sees; the result is the mean of their
    probabilities. prefetched: whether a thread reads frames in advance. keep_probabilities: whether
    results hold them; if not, only masks leave a GPU. cuda_graphs: whether a GPU records parts of
    the network once per shape and replays them. Arguments are checked before the first frame.
    On a GPU, the work on a frame starts before the result of the frame before it is yielded.
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
    device = next(model.parameters()).device
    half = half_precision(amp, device, inference=True)
    network = model.for_inference(half)
    recorded = cuda_graphs and device.type == "cuda"
    if recorded:
        network = with_recorded_parts(network)
    walks = [
        _Walk(
            network.session(channels=len(checked.ids), memory=settings, length=remaining),
            size.of(checked.size, view.scale),
            view.flip,
        )
        for view in views
    ]
    video = _Video(network, walks, checked, half, keep_probabilities, recorded)
    return video.results(prefetch(frames) if prefetched else frames)


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


@dataclass(frozen=True)
class _Frame:
    """A frame whose result is under way."""

    index: int
    frame: Any
    given: dict[int, np.ndarray]
    usage: dict[str, Any]
    fetched: Fetched | None  # None: before the first annotation


@dataclass(frozen=True)
class _Video:
    """One video: how its frames get to the network and its results back."""

    network: VideoModel
    walks: list[_Walk]
    annotations: Annotations
    half: torch.dtype | None
    probabilities: bool  # whether results hold them
    recorded: bool  # whether parts of the network are recorded

    def results(self, frames: Tensor | Iterable[np.ndarray]) -> Iterator[FrameResult]:
        """Yield every frame's result; on a GPU, one is fetched while the next is worked on."""
        device = next(self.network.parameters()).device
        over = link(device)
        under_way: deque[_Frame] = deque()
        modules = list(self.network.modules())
        # (K + 1,) the label of each channel, for results that are decided on the device
        labels = torch.tensor([0, *self.annotations.ids], dtype=torch.uint8, device=device)
        count = 0
        for index, (frame, last) in enumerate(_with_last(frames)):
            count = index + 1
            picture = _checked(frame, index, self.annotations.size)
            given = self.annotations.given(index)
            fetched = None
            if index >= self.annotations.first:
                with _evaluating(modules):
                    fetched = self._start(picture, given, last, labels, over)
            usage = self.walks[0].session.memory_usage()
            under_way.append(_Frame(index, frame, given, usage, fetched))
            if len(under_way) > over.delay:
                yield self._finish(under_way.popleft())
        while under_way:
            yield self._finish(under_way.popleft())
        if max(self.annotations.masks) >= count:
            raise UserError(
                f"annotations: frame {max(self.annotations.masks)} is annotated, "
                f"but the video has only {count} frames."
            )

    def _start(
        self,
        picture: Tensor,
        given: dict[int, np.ndarray],
        last: bool,
        labels: Tensor,
        over: Direct | Streams,
    ) -> Fetched:
        """Start the work on a frame and the way back of its result."""
        begun: Any = over.begin()
        where = labels.device
        with (
            torch.inference_mode(),
            torch.autocast(
                where.type,
                dtype=self.half,
                enabled=self.half is not None,
                cache_enabled=not self.recorded,
            ),
        ):
            there = _in_unit_range(over.upload(picture))
            masks = {
                channel: over.upload(torch.from_numpy(mask)) for channel, mask in given.items()
            }
            found = [walk.step(there, masks, last).float() for walk in self.walks]
            mean = found[0] if len(found) == 1 else torch.stack(found).mean(0)
            if where.type == "cpu":
                return over.fetch([mean], begun)
            mask = labels[mean.argmax(0)]
            return over.fetch([mask, mean] if self.probabilities else [mask], begun)

    def _finish(self, frame: _Frame) -> FrameResult:
        """Wait for a frame's result and write what was given into it."""
        annotations = self.annotations
        ids = np.array([0, *annotations.ids], np.uint8)
        seconds, probabilities = 0.0, None
        if frame.fetched is None:
            mask = np.zeros(annotations.size, np.uint8)
            if self.probabilities:
                probabilities = np.zeros((len(ids), *annotations.size), np.float32)
                probabilities[0] = 1
        else:
            (first, *others), seconds = frame.fetched.wait()
            if first.ndim == 2:
                mask, probabilities = first, others[0] if others else None
            else:  # on a CPU the decision is numpy's, which is faster there
                mask, probabilities = ids[first.argmax(0)], first
            if not self.probabilities:
                probabilities = None
        if not self.network.takes_scribbles:
            _write_given(
                frame.given,
                annotations,
                mask,
                probabilities,
                first=frame.index == annotations.first,
                resized=any(walk.resizes(annotations.size) for walk in self.walks),
            )
        return FrameResult(mask, probabilities, frame.usage, frame.frame, annotations.ids, seconds)


def _write_given(
    given: dict[int, np.ndarray],
    annotations: Annotations,
    mask: np.ndarray,
    probabilities: np.ndarray | None,
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
    if first and resized and probabilities is not None:
        probabilities[:] = 0
        probabilities[0] = 1
    for channel, pixels in given.items():
        mask[pixels] = annotations.ids[channel - 1]
        if resized and probabilities is not None:
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


def _checked(frame: Tensor | np.ndarray, index: int, size: tuple[int, int]) -> Tensor:
    """Return a frame as it is, as a tensor; UserError if it has another size than `size`.

    An array is (H, W, 3) uint8, or float32 on the same scale; a corrupted image may leave that
    scale. A tensor is (3, H, W) in [0, 1].
    """
    if isinstance(frame, Tensor):
        found, picture = tuple(frame.shape[-2:]), frame
        fits = tuple(frame.shape) == (3, *size)
    else:
        frame = np.asarray(frame)
        if frame.dtype not in (np.uint8, np.float32) or frame.ndim != 3 or frame.shape[2] != 3:
            raise UserError(
                f"frame {index}: {frame.dtype} of shape {frame.shape}; "
                "a frame is (H, W, 3) uint8 RGB."
            )
        found, fits = frame.shape[:2], frame.shape[:2] == size
        picture = torch.from_numpy(np.require(frame, requirements=["C", "W"]))
    if not fits:
        raise UserError(
            f"frame {index} is {found}, but the annotations are {size} (height, width)."
        )
    return picture


def _in_unit_range(picture: Tensor) -> Tensor:
    """Return a checked frame as (3, H, W) float32 in [0, 1], on its device."""
    if picture.shape[-1] == 3 and picture.shape[0] != 3:
        return picture.permute(2, 0, 1).contiguous().float() / 255
    return picture.float()


@contextmanager
def _evaluating(modules: list[torch.nn.Module]) -> Iterator[None]:
    """Put modules that train in eval mode and restore their mode at the end."""
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
