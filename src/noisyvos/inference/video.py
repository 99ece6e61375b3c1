"""Segment a video from the masks of a few frames, with any network."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.devices import Amp, half_precision
from noisyvos.errors import UserError
from noisyvos.inference.annotations import Annotations, check_annotations
from noisyvos.models.base import Session, VideoModel, choose_settings

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Segmentation:
    """A segmented video of T frames with K objects."""

    masks: np.ndarray  # (T, H, W) uint8, ids as in the annotations
    probabilities: np.ndarray | None  # (T, K + 1, H, W) float32, background first, ids ascending
    memory_usage: list[dict[str, Any]]  # what the network's memory held after each frame


@dataclass(frozen=True)
class FrameResult:
    """One segmented frame."""

    mask: np.ndarray  # (H, W) uint8
    probabilities: np.ndarray  # (K + 1, H, W) float32
    memory_usage: dict[str, Any]


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

    frames: float32 (T, 3, H, W) RGB in [0, 1], or an iterable of (H, W, 3) uint8 RGB arrays, read one by one. `memory`
    holds settings of the network's memory; `size` is the shorter side to work at (results keep the input size);
    `progress` is called with (frames done, frames in all or None). An object may first appear in a later frame; 255
    counts as 0; frames before the first annotation are background. Unknown or impossible settings and unusable
    annotations raise UserError (a ValueError) before the first frame is read.
    """
    masks, probabilities, usage = [], [], []
    total = len(frames) if hasattr(frames, "__len__") else None
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
    size: int | None = None,
    amp: Amp = False,
) -> Iterator[FrameResult]:
    """Yield the result of every frame in turn; arguments and errors as in `segment_video`, checked before the first frame.

    amp: half precision on a GPU; nothing changes on a CPU.
    """
    settings = choose_settings(model.memory_settings, dict(memory or {}), "the memory")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise UserError(f"size must be None or a number of pixels from 1 on, not {size!r}.")
    if isinstance(frames, Tensor) and (
        frames.ndim != 4 or frames.shape[1] != 3 or not frames.is_floating_point()
    ):
        raise UserError(
            f"frames must be a float tensor (T, 3, H, W) in [0, 1], not {frames.dtype} of shape {tuple(frames.shape)}."
        )
    length = len(frames) if hasattr(frames, "__len__") else None
    if length == 0:
        raise UserError("frames: the video is empty.")
    checked = check_annotations(annotations, length, model.background_label)
    remaining = None if length is None else length - checked.first
    half = half_precision(amp, next(model.parameters()).device)
    session = model.session(channels=len(checked.ids), memory=settings, length=remaining)
    return _walk(model, session, frames, checked, size, half)


def _walk(
    model: VideoModel,
    session: Session,
    frames: Tensor | Iterable[np.ndarray],
    annotations: Annotations,
    size: int | None,
    half: torch.dtype | None,
) -> Iterator[FrameResult]:
    device = next(model.parameters()).device
    count = 0
    for index, (frame, last) in enumerate(_with_last(frames)):
        count = index + 1
        picture = _as_tensor(frame, index, annotations.size).to(device)
        given = annotations.given(index)
        if index < annotations.first:
            probabilities = np.zeros((len(annotations.ids) + 1, *annotations.size), np.float32)
            probabilities[0] = 1
        else:
            with (
                _evaluating(model),
                torch.inference_mode(),
                torch.autocast(device.type, dtype=half, enabled=half is not None),
            ):
                probabilities = _step(session, picture, given, last, size).float().cpu().numpy()
        mask = np.array([0, *annotations.ids], np.uint8)[probabilities.argmax(0)]
        if not model.takes_scribbles:
            _hold(
                given,
                annotations,
                mask,
                probabilities,
                first=index == annotations.first,
                resized=size not in (None, min(annotations.size)),
            )
        yield FrameResult(mask, probabilities, session.memory_usage())
    if max(annotations.masks) >= count:
        raise UserError(
            f"annotations: frame {max(annotations.masks)} is annotated, but the video has only {count} frames."
        )


def _step(
    session: Session, picture: Tensor, given: dict[int, np.ndarray], last: bool, size: int | None
) -> Tensor:
    """Return the probabilities of one frame at its own size, working at shorter side `size`."""
    masks = {channel: torch.from_numpy(mask).to(picture.device) for channel, mask in given.items()}
    full = tuple(picture.shape[-2:])
    working = full if size is None else tuple(int(side / min(full) * size) for side in full)
    if working == full:
        return session.step(picture, given=masks, last=last)
    small = F.interpolate(
        picture[None], working, mode="bilinear", align_corners=False, antialias=True
    )[0]
    small_masks = {
        channel: F.interpolate(mask[None, None].float(), working)[0, 0] > 0.5
        for channel, mask in masks.items()
    }
    probabilities = session.step(small, given=small_masks, last=last)
    return F.interpolate(probabilities[None], full, mode="bilinear", align_corners=False)[0]


def _hold(
    given: dict[int, np.ndarray],
    annotations: Annotations,
    mask: np.ndarray,
    probabilities: np.ndarray,
    *,
    first: bool,
    resized: bool,
) -> None:
    """Write given masks into a frame's result: in the first annotated frame all of it, later the given pixels.

    Where the network worked at another size its probabilities are replaced too, as they cannot be sharp there.
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
    """Yield (frame, is the last one), reading one frame ahead."""
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
    """Return a frame as (3, H, W) float32 in [0, 1]; UserError if it is not of the annotations' size.

    An array is uint8, or float32 on the same scale, where a corrupted image may leave it.
    """
    if isinstance(frame, Tensor):
        picture = frame.float()
    else:
        frame = np.asarray(frame)
        if frame.dtype not in (np.uint8, np.float32) or frame.ndim != 3 or frame.shape[2] != 3:
            raise UserError(
                f"frame {index}: {frame.dtype} of shape {frame.shape}; a frame is (H, W, 3) uint8 RGB."
            )
        picture = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1))).float() / 255
    if tuple(picture.shape) != (3, *size):
        raise UserError(
            f"frame {index} is {tuple(picture.shape[-2:])}, but the annotations are {size} (height, width)."
        )
    return picture


@contextmanager
def _evaluating(model: VideoModel) -> Iterator[None]:
    """Put a network in eval mode and give every module its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
