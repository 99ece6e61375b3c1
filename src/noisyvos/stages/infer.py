"""Stage `infer`: segment every video of a converted dataset from its first masks."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

import numpy as np
from tqdm import tqdm

from noisyvos.corruptions.base import Corruption
from noisyvos.datasets.layout import Sequence, VideoDataset
from noisyvos.errors import UserError, unknown_name
from noisyvos.inference.concurrency import in_order
from noisyvos.inference.prompts import copied_masks, first_masks
from noisyvos.inference.results import FrameResult, Speed, encode_probabilities
from noisyvos.inference.runner import open_runner
from noisyvos.inference.settings import MemoryOptions
from noisyvos.io.atomic import check_result_directory, result_directory
from noisyvos.io.masks import MaskCollection, write_mask_zip

BASELINES = ("first_mask",)
Prompts = dict[int, np.ndarray]  # (H, W) uint8 by frame index
Draw = Callable[[str, np.ndarray, np.ndarray], None]  # "<sequence>/<frame>", frame, mask


@dataclass
class _Segmenter:
    """What segments a sequence from its prompts, and what a thread does before its first one."""

    segment: Callable[[Sequence, Prompts], Iterator[FrameResult]]
    prepare_thread: Callable[[], None] = lambda: None
    background_label: int | None = None  # of scribbles, for a network that takes them


def run(
    dataset: Path,
    *,
    out: Path,
    model: str | None = None,
    weights: str | None = None,
    baseline: str | None = None,
    prompts: Path | None = None,
    corruption: str | None = None,
    settings: str = "default",
    memory: MemoryOptions | None = None,
    params: Path = Path("params"),
    device: str = "auto",
    threads: int = 1,
    videos_at_once: int = 1,
    probabilities: Path | None = None,
    draw: Draw | None = None,
) -> None:
    """Write the predicted masks of `dataset` to the zip `out`.

    The zip holds all frames, or those that the benchmark wants results for. Give either `model` (of
    models.yaml) with `weights` (a file, or "none" for a fresh network), or `baseline`. Every object
    is given once, in the frame where it first appears: its mask of the dataset, or that of
    `prompts`, a collection of (noisy) masks of the same dataset.

    corruption: an entry of corruptions.yaml, which disturbs every frame that a network sees.
    settings: an entry of eval.yaml; `memory` goes before its memory settings. videos_at_once:
    videos that are segmented side by side, with the same results. probabilities: folder for
    <sequence>/<frame>.npz of the same frames. draw: called for every frame of the dataset.

    All names and files are checked before the first frame; UserError or FileNotFoundError say what
    is wrong.
    """
    videos = VideoDataset(dataset)
    if not videos.sequences:
        raise UserError(f"{dataset}: this dataset has no sequence.")
    if probabilities is not None:
        check_result_directory(probabilities, "probabilities")
    given = None if prompts is None else MaskCollection(prompts)
    disturb = None if corruption is None else Corruption(params, corruption, seed=0)
    if baseline is not None:
        for option, value in (
            ("--corruption", disturb),
            ("--save-probabilities", probabilities),
            ("--memory", memory),
        ):
            if value is not None:
                raise UserError(f"The baseline {baseline!r} runs no network: leave out {option}.")
        segmenter = _baseline(baseline, model, weights, videos, read_frames=draw is not None)
    elif model is None or weights is None:
        raise UserError(
            "Give --model and --weights (a file, or none for an untrained network), "
            "or --baseline first_mask."
        )
    else:
        options = {"memory": memory, "device": device, "threads": threads}
        segmenter = _network(
            partial(_Frames, videos, disturb), model, weights, settings, params, options
        )
    prompts_of = partial(
        first_masks, videos, given=given, background_label=segmenter.background_label
    )
    with ExitStack() as stack:
        folder = None
        if probabilities is not None:
            folder = stack.enter_context(result_directory(probabilities, "probabilities"))
        speed = Speed()
        masks = _predict(videos, segmenter, prompts_of, videos_at_once, folder, draw, speed)
        write_mask_zip(out, masks)
    frames = sum(len(sequence.frames) for sequence in videos.sequences.values())
    print(
        f"{baseline or model}: {len(videos.sequences)} sequences, {frames} frames of "
        f"{videos.meta['name']} in {out}"
    )
    if baseline is None:
        overlap = f"; {videos_at_once} videos at once, so times overlap"
        print(f"{model}: {speed}{overlap if videos_at_once > 1 else ''}")


def _predict(
    videos: VideoDataset,
    segmenter: _Segmenter,
    prompts_of: Callable[[Sequence], Prompts],
    at_once: int,
    probabilities: Path | None,
    draw: Draw | None,
    speed: Speed,
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (sequence, frame, mask) of the wanted frames, by sequence and then by name of frame.

    The time of the network's work is added to `speed`.
    """
    total = sum(len(sequence.frames) for sequence in videos.sequences.values())
    with tqdm(total=total, desc="infer", unit="frame", disable=None) as bar:

        def whole(
            sequence: Sequence, stop: Event
        ) -> tuple[list[tuple[str, str, np.ndarray]], Speed]:
            found, own = [], Speed()
            wanted = set(sequence.frames if sequence.required is None else sequence.required)
            if probabilities is not None:
                (probabilities / sequence.name).mkdir(parents=True, exist_ok=True)
            results = segmenter.segment(sequence, prompts_of(sequence))
            for frame, result in zip(sequence.frames, results, strict=True):
                if stop.is_set():
                    return [], own
                if frame in wanted:
                    found.append((sequence.name, frame, result.mask))
                    if probabilities is not None:
                        file = probabilities / sequence.name / f"{frame}.npz"
                        file.write_bytes(encode_probabilities(result))
                if draw is not None:
                    draw(f"{sequence.name}/{frame}", result.frame, result.mask)
                own.add(result)
                bar.update()
            return sorted(found, key=lambda each: each[1]), own

        sequences = videos.sequences.values()
        for masks, own in in_order(whole, sequences, at_once, segmenter.prepare_thread):
            speed.frames += own.frames
            speed.seconds += own.seconds
            yield from masks


def _baseline(
    name: str, model: str | None, weights: str | None, videos: VideoDataset, *, read_frames: bool
) -> _Segmenter:
    if name not in BASELINES:
        raise unknown_name("baseline", name, BASELINES)
    if model is not None or weights is not None:
        raise UserError(f"The baseline {name!r} takes no network: leave out --model and --weights.")

    def segment(sequence: Sequence, prompts: Prompts) -> Iterator[FrameResult]:
        for frame, mask in zip(sequence.frames, copied_masks(sequence, prompts), strict=True):
            picture = videos.read_frame(sequence.name, frame) if read_frames else None
            yield FrameResult(mask, np.empty(0, np.float32), {}, picture)

    return _Segmenter(segment)


def _network(
    frames_of: Callable[[Sequence], "_Frames"],
    model: str,
    weights: str,
    settings: str,
    params: Path,
    options: dict,
) -> _Segmenter:
    runner = open_runner(model, weights, settings, params, **options)

    import torch

    where = next(runner.network.parameters()).device

    def own_stream() -> None:  # kernels of one video then need not wait for those of another
        if where.type == "cuda":
            torch.cuda.synchronize(where)
            torch.cuda.set_stream(torch.cuda.Stream(where))

    def segment(sequence: Sequence, prompts: Prompts) -> Iterator[FrameResult]:
        return runner.segment(frames_of(sequence), prompts)

    return _Segmenter(segment, own_stream, runner.network.background_label)


@dataclass(frozen=True)
class _Frames:
    """The frames of a sequence, each decoded, and corrupted if asked for, when its turn comes."""

    videos: VideoDataset
    disturb: Corruption | None
    sequence: Sequence

    def __len__(self) -> int:
        return len(self.sequence.frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        name = str(self.videos.meta["name"])
        for frame in self.sequence.frames:
            picture = self.videos.read_frame(self.sequence.name, frame)
            key = (name, self.sequence.name, frame)
            yield picture if self.disturb is None else self.disturb(picture, key)
