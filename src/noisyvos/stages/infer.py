"""Stage `infer`: segment every video of a converted dataset from its first masks."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

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
from noisyvos.io.atomic import (
    check_output,
    check_result_directory,
    output_directory,
    result_directory,
)
from noisyvos.io.masks import MaskCollection, encode_mask, mask_zip

BASELINES = ("first_mask",)
_KEPT_BYTES = 1 << 30  # frames of a sequence that several runs share; of longer ones each decodes
Prompts = dict[int, np.ndarray]  # (H, W) uint8 by frame index
Draw = Callable[[str, np.ndarray, np.ndarray], None]  # "<sequence>/<frame>", frame, mask


@dataclass(frozen=True)
class _Run:
    """One pass over the dataset.

    given: the masks that its prompts come from, None for those of the dataset. disturb: what
    corrupts its frames. name: of its zip, where there are several.
    """

    given: MaskCollection | None = None
    disturb: Corruption | None = None
    name: str = ""


@dataclass
class _Segmenter:
    """What segments a sequence from its prompts, and what a thread does before its first one."""

    segment: Callable[[Sequence, "_Frames", Prompts], Iterator[FrameResult]]
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
    disturb: Iterable[str] = (),
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
    disturb: several runs in place of one, each "prompt_<name>=<collection>" or
    "corruption_<entry>". `out` is then a folder with a zip for each run, equal to what the run
    writes alone; the weights are loaded and the frames decoded once.
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
    runs = _runs(tuple(disturb), prompts, corruption, params)
    several = bool(runs[0].name)
    if several:
        check_output(out, "infer", inputs=(dataset,), names=("*.zip",))
    if several and (probabilities is not None or draw is not None):
        raise UserError("--save-probabilities and --viz go with one run: leave out --disturb.")
    if baseline is not None:
        for option, value in (
            ("--corruption", next((run.disturb for run in runs if run.disturb), None)),
            ("--save-probabilities", probabilities),
            ("--memory", memory),
        ):
            if value is not None:
                raise UserError(f"The baseline {baseline!r} runs no network: leave out {option}.")
        segmenter = _baseline(baseline, model, weights)
    elif model is None or weights is None:
        raise UserError(
            "Give --model and --weights (a file, or none for an untrained network), "
            "or --baseline first_mask."
        )
    else:
        options = {"memory": memory, "device": device, "threads": threads}
        keep = probabilities is not None
        segmenter = _network(model, weights, settings, params, options, keep)
    speed = Speed()
    with ExitStack() as stack:
        saved = None
        if probabilities is not None:
            saved = stack.enter_context(result_directory(probabilities, "probabilities"))
        zips = [out]
        if several:
            inside = output_directory(out, "infer", inputs=(dataset,), names=("*.zip",))
            folder = stack.enter_context(inside)
            zips = [folder / f"{each.name}.zip" for each in runs]
        add = [stack.enter_context(mask_zip(path)) for path in zips]
        for masks in _predict(videos, runs, segmenter, videos_at_once, saved, draw, speed):
            for add_to_run, of_run in zip(add, masks, strict=True):
                for mask in of_run:
                    add_to_run(*mask)
    frames = sum(len(sequence.frames) for sequence in videos.sequences.values())
    times = f", {len(runs)} times," if several else ""
    print(
        f"{baseline or model}: {len(videos.sequences)} sequences, {frames} frames of "
        f"{videos.meta['name']}{times} in {out}"
    )
    if baseline is None:
        overlap = f"; {videos_at_once} videos at once, so times overlap"
        print(f"{model}: {speed}{overlap if videos_at_once > 1 else ''}")


def _runs(
    disturb: tuple[str, ...], prompts: Path | None, corruption: str | None, params: Path
) -> list[_Run]:
    """Return the runs that are asked for; UserError for an unknown form, name or a name twice."""
    if not disturb:
        return [
            _Run(
                None if prompts is None else MaskCollection(prompts),
                None if corruption is None else Corruption(params, corruption, seed=0),
            )
        ]
    if prompts is not None or corruption is not None:
        raise UserError("--disturb takes the place of --prompts and --corruption: leave these out.")
    found: list[_Run] = []
    for text in disturb:
        name, _, masks = text.partition("=")
        kind, _, entry = name.partition("_")
        if kind == "prompt" and entry and masks:
            found.append(_Run(MaskCollection(Path(masks)), None, name))
        elif kind == "corruption" and entry and not masks:
            found.append(_Run(None, Corruption(params, entry, seed=0), name))
        else:
            raise UserError(
                f"--disturb {text}: give prompt_<name>=<zip of masks> or corruption_<entry of "
                "corruptions.yaml>."
            )
    names = [each.name for each in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--disturb {twice[0]} is given twice.")
    return found


Masks = list[tuple[str, str, bytes]]  # sequence, frame, PNG


def _predict(
    videos: VideoDataset,
    runs: list[_Run],
    segmenter: _Segmenter,
    at_once: int,
    probabilities: Path | None,
    draw: Draw | None,
    speed: Speed,
) -> Iterator[list[Masks]]:
    """Yield the masks of the wanted frames of each sequence, by run and then by name of frame.

    The time of the network's work is added to `speed`.
    """
    total = len(runs) * sum(len(sequence.frames) for sequence in videos.sequences.values())
    with tqdm(total=total, desc="infer", unit="frame", disable=None) as bar:

        def whole(sequence: Sequence, stop: Event) -> tuple[list[Masks], Speed]:
            own = Speed()
            wanted = set(sequence.frames if sequence.required is None else sequence.required)
            if probabilities is not None:
                (probabilities / sequence.name).mkdir(parents=True, exist_ok=True)
            decoded = _Decoded(videos, sequence, shared=len(runs) > 1)
            made: list[Masks] = []
            for each in runs:
                prompts = first_masks(
                    videos, sequence, each.given, background_label=segmenter.background_label
                )
                found: Masks = []
                results = segmenter.segment(sequence, _Frames(decoded, each.disturb), prompts)
                for frame, result in zip(sequence.frames, results, strict=True):
                    if stop.is_set():
                        return [], own
                    if frame in wanted:
                        found.append((sequence.name, frame, encode_mask(result.mask)))
                        if probabilities is not None:
                            file = probabilities / sequence.name / f"{frame}.npz"
                            file.write_bytes(encode_probabilities(result))
                    if draw is not None:
                        picture = decoded[frame] if result.frame is None else result.frame
                        draw(f"{sequence.name}/{frame}", picture, result.mask)
                    own.add(result)
                    bar.update()
                made.append(sorted(found, key=lambda mask: mask[1]))
            return made, own

        sequences = videos.sequences.values()
        for masks, own in in_order(whole, sequences, at_once, segmenter.prepare_thread):
            speed.frames += own.frames
            speed.seconds += own.seconds
            yield masks


def _baseline(name: str, model: str | None, weights: str | None) -> _Segmenter:
    if name not in BASELINES:
        raise unknown_name("baseline", name, BASELINES)
    if model is not None or weights is not None:
        raise UserError(f"The baseline {name!r} takes no network: leave out --model and --weights.")

    def segment(sequence: Sequence, frames: _Frames, prompts: Prompts) -> Iterator[FrameResult]:
        for mask in copied_masks(sequence, prompts):
            yield FrameResult(mask, np.empty(0, np.float32), {})

    return _Segmenter(segment)


def _network(
    model: str, weights: str, settings: str, params: Path, options: dict[str, Any], keep: bool
) -> _Segmenter:
    runner = open_runner(model, weights, settings, params, **options)

    import torch

    where = next(runner.network.parameters()).device

    def own_stream() -> None:  # kernels of one video then need not wait for those of another
        if where.type == "cuda":
            torch.cuda.synchronize(where)
            torch.cuda.set_stream(torch.cuda.Stream(where))

    def segment(sequence: Sequence, frames: _Frames, prompts: Prompts) -> Iterator[FrameResult]:
        return runner.segment(frames, prompts, keep_probabilities=keep)

    return _Segmenter(segment, own_stream, runner.network.background_label)


class _Decoded:
    """The frames of a sequence by name, decoded when their turn comes.

    Where several runs share them they are kept, unless they would take too much memory.
    """

    def __init__(self, videos: VideoDataset, sequence: Sequence, *, shared: bool) -> None:
        self.videos, self.sequence = videos, sequence
        height, width = sequence.size
        self._keep = shared and 3 * height * width * len(sequence.frames) <= _KEPT_BYTES
        self._kept: dict[str, np.ndarray] = {}

    def __getitem__(self, frame: str) -> np.ndarray:
        if frame in self._kept:
            return self._kept[frame]
        picture = self.videos.read_frame(self.sequence.name, frame)
        if self._keep:
            picture.setflags(write=False)
            self._kept[frame] = picture
        return picture


@dataclass(frozen=True)
class _Frames:
    """The frames of a sequence for one run, corrupted if asked for, when their turn comes."""

    decoded: _Decoded
    disturb: Corruption | None

    def __len__(self) -> int:
        return len(self.decoded.sequence.frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        sequence = self.decoded.sequence
        name = str(self.decoded.videos.meta["name"])
        for frame in sequence.frames:
            picture = self.decoded[frame]
            key = (name, sequence.name, frame)
            yield picture if self.disturb is None else self.disturb(picture, key)
