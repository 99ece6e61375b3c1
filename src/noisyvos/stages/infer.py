"""Stage `infer`: segment every video of a converted dataset from its first masks."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event

import numpy as np
from tqdm import tqdm

from noisyvos.corruptions.base import Corruption
from noisyvos.datasets.layout import Sequence, VideoDataset
from noisyvos.errors import UserError, unknown_name
from noisyvos.inference.prefetch import ahead
from noisyvos.inference.prompts import copied_masks, first_masks
from noisyvos.inference.runner import open_runner
from noisyvos.inference.together import in_order
from noisyvos.io.masks import MaskCollection, write_mask_zip

BASELINES = ("first_mask",)
Prompts = Callable[[Sequence], dict[int, np.ndarray]]
Segmenter = Callable[[Sequence, dict[int, np.ndarray]], Iterator[np.ndarray]]


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
    params: Path = Path("params"),
    device: str = "auto",
    threads: int = 1,
    videos_at_once: int = 1,
) -> None:
    """Write the predicted masks of `dataset` to the zip `out`: of all frames, or of those its benchmark wants results for.

    Either `model` (of models.yaml) with `weights` (a file, or "none" for a fresh network), or `baseline`. Every object
    is given once, in the frame where it first appears: as the dataset's own mask shows it, or the mask of that frame in
    `prompts`, a collection of (noisy) masks of the same dataset. `corruption` names an entry of corruptions.yaml that disturbs
    every frame a network sees. `settings` names an entry of eval.yaml. `videos_at_once`
    are segmented side by side, with the same results. All names and files are checked before the first frame; UserError or
    FileNotFoundError say what is wrong.
    """
    videos = VideoDataset(dataset)
    if not videos.sequences:
        raise UserError(f"{dataset}: this dataset has no sequence.")
    given = None if prompts is None else MaskCollection(prompts)
    disturb = None if corruption is None else Corruption(params, corruption, seed=0)
    background_label = None
    if baseline is not None:
        if disturb is not None:
            raise UserError(f"The baseline {baseline!r} sees no image: leave out --corruption.")
        segmenter, stream = _baseline(baseline, model, weights), lambda: None
        what = baseline
    else:
        segmenter, stream, background_label = _network_segmenter(
            partial(_Frames, videos, disturb), model, weights, settings, params, device, threads
        )
        what = str(model)
    prompts_of = partial(first_masks, videos, given=given, background_label=background_label)
    write_mask_zip(out, _predict(videos, segmenter, prompts_of, videos_at_once, stream))
    frames = sum(len(sequence.frames) for sequence in videos.sequences.values())
    print(
        f"{what}: {len(videos.sequences)} sequences, {frames} frames of {videos.meta['name']} in {out}"
    )


def _predict(
    videos: VideoDataset,
    segmenter: Segmenter,
    prompts_of: Prompts,
    at_once: int,
    stream: Callable[[], None],
) -> Iterator[tuple[str, str, np.ndarray]]:
    total = sum(len(sequence.frames) for sequence in videos.sequences.values())
    with tqdm(total=total, desc="infer", unit="frame", disable=None) as bar:

        def whole(sequence: Sequence, stop: Event) -> list[tuple[str, str, np.ndarray]]:
            masks = []
            for mask in segmenter(sequence, prompts_of(sequence)):
                if stop.is_set():
                    return []
                masks.append(mask)
                bar.update()
            wanted = set(sequence.frames if sequence.required is None else sequence.required)
            pairs = sorted(zip(sequence.frames, masks), key=lambda pair: pair[0])
            return [(sequence.name, frame, mask) for frame, mask in pairs if frame in wanted]

        for masks in in_order(whole, videos.sequences.values(), at_once, stream):
            yield from masks


def _baseline(name: str, model: str | None, weights: str | None) -> Segmenter:
    if name not in BASELINES:
        raise unknown_name("baseline", name, BASELINES)
    if model is not None or weights is not None:
        raise UserError(f"The baseline {name!r} takes no network: leave out --model and --weights.")
    return lambda sequence, prompts: iter(copied_masks(sequence, prompts))


def _network_segmenter(
    frames_of: Callable[[Sequence], "_Frames"],
    model: str | None,
    weights: str | None,
    settings: str,
    params: Path,
    device: str,
    threads: int,
) -> tuple[Segmenter, Callable[[], None], int | None]:
    """Return what segments a sequence, what a thread has to do before it, and the label of background scribbles where those are taken."""
    if model is None or weights is None:
        raise UserError(
            "Give --model and --weights (a file, or none for an untrained network), or --baseline first_mask."
        )
    runner = open_runner(model, weights, settings, params, device=device, threads=threads)

    import torch

    where = next(runner.network.parameters()).device

    def own_stream() -> None:
        if (
            where.type == "cuda"
        ):  # so that the kernels of one video need not wait for those of another
            torch.cuda.synchronize(where)
            torch.cuda.set_stream(torch.cuda.Stream(where))

    def segment(sequence: Sequence, prompts: dict[int, np.ndarray]) -> Iterator[np.ndarray]:
        frames = ahead(frames_of(sequence))
        return (result.mask for result in runner.segment(frames, prompts))

    return segment, own_stream, runner.network.background_label


class _Frames:
    """The frames of a sequence, of known number, each decoded, and disturbed where that is asked for, when its turn comes."""

    def __init__(
        self, videos: VideoDataset, disturb: Corruption | None, sequence: Sequence
    ) -> None:
        self.videos, self.disturb, self.sequence = videos, disturb, sequence

    def __len__(self) -> int:
        return len(self.sequence.frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        name = str(self.videos.meta["name"])
        for frame in self.sequence.frames:
            picture = self.videos.read_frame(self.sequence.name, frame)
            yield (
                picture
                if self.disturb is None
                else self.disturb(picture, (name, self.sequence.name, frame))
            )
