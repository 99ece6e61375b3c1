"""Stage `infer`: segment every video of a converted dataset from its first masks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from noisyvos.datasets.layout import Sequence, VideoDataset
from noisyvos.errors import UserError, unknown_name
from noisyvos.inference.prompts import copied_masks, first_masks
from noisyvos.inference.settings import Evaluation
from noisyvos.io.masks import MaskCollection, write_mask_zip
from noisyvos.params import read_family
from noisyvos.registry import Item

if TYPE_CHECKING:
    from noisyvos.models.base import VideoModel

BASELINES = ("first_mask",)
Segmenter = Callable[[Sequence, dict[int, np.ndarray]], Iterator[np.ndarray]]


def run(
    dataset: Path,
    *,
    out: Path,
    model: str | None = None,
    weights: str | None = None,
    baseline: str | None = None,
    prompts: Path | None = None,
    settings: str = "default",
    params: Path = Path("params"),
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Write the predicted masks of `dataset` to the zip `out`: of all frames, or of those its benchmark wants results for.

    Either `model` (of models.yaml) with `weights` (a file, or "none" for a fresh network), or `baseline`. Every object
    is given once, in the frame where it first appears: as the dataset's own mask shows it, or the mask of that frame in
    `prompts`, a collection of (noisy) masks of the same dataset. `settings` names an entry of eval.yaml. All names and files are
    checked before the first frame; UserError or FileNotFoundError say what is wrong.
    """
    videos = VideoDataset(dataset)
    if not videos.sequences:
        raise UserError(f"{dataset}: this dataset has no sequence.")
    given = None if prompts is None else MaskCollection(prompts)
    if baseline is not None:
        segmenter = _baseline(baseline, model, weights)
        what = baseline
    else:
        segmenter = _network_segmenter(videos, model, weights, settings, params, device, threads)
        what = str(model)
    write_mask_zip(out, _predict(videos, segmenter, given))
    frames = sum(len(sequence.frames) for sequence in videos.sequences.values())
    print(f"{what}: {len(videos.sequences)} sequences, {frames} frames of {videos.meta['name']} in {out}")


def _predict(videos: VideoDataset, segmenter: Segmenter, given: MaskCollection | None) -> Iterator[tuple[str, str, np.ndarray]]:
    total = sum(len(sequence.frames) for sequence in videos.sequences.values())
    with tqdm(total=total, desc="infer", unit="frame", disable=None) as bar:
        for sequence in videos.sequences.values():
            bar.set_postfix_str(sequence.name, refresh=False)
            masks = []
            for mask in segmenter(sequence, first_masks(videos, sequence, given)):
                masks.append(mask)
                bar.update()
            wanted = set(sequence.frames if sequence.required is None else sequence.required)
            for frame, mask in sorted(zip(sequence.frames, masks), key=lambda pair: pair[0]):
                if frame in wanted:
                    yield sequence.name, frame, mask


def _baseline(name: str, model: str | None, weights: str | None) -> Segmenter:
    if name not in BASELINES:
        raise unknown_name("baseline", name, BASELINES)
    if model is not None or weights is not None:
        raise UserError(f"The baseline {name!r} takes no network: leave out --model and --weights.")
    return lambda sequence, prompts: iter(copied_masks(sequence, prompts))


def _network_segmenter(
    videos: VideoDataset, model: str | None, weights: str | None, settings: str, params: Path, device: str, threads: int
) -> Segmenter:
    if model is None or weights is None:
        raise UserError("Give --model and --weights (a file, or none for an untrained network), or --baseline first_mask.")
    kinds = read_family(params, "models")
    if model not in kinds:
        raise unknown_name("model of models.yaml", model, kinds)
    evaluations = read_family(params, "eval")
    if settings not in evaluations:
        raise unknown_name("evaluation setting of eval.yaml", settings, evaluations)
    kind = str(kinds[model].get("kind"))
    where = f"eval.yaml: {settings}"
    evaluation = Item(settings, Evaluation, Evaluation, "").validate(evaluations[settings], where)
    memory = evaluation.memory.get(kind, {})
    if weights != "none" and not Path(weights).is_file():
        raise FileNotFoundError(f"{weights}: no such weights. Train them first.")
    network = _load(kind, {key: value for key, value in kinds[model].items() if key != "kind"}, weights, device, threads)

    from noisyvos.inference.video import iterate_video
    from noisyvos.models.base import choose_settings

    choose_settings(network.memory_settings, memory, f"{where}: memory of {kind}")

    def segment(sequence: Sequence, prompts: dict[int, np.ndarray]) -> Iterator[np.ndarray]:
        frames = _Frames(videos, sequence)
        return (result.mask for result in iterate_video(network, frames, prompts, memory, evaluation.size))

    return segment


class _Frames:
    """The frames of a sequence, of known number, each decoded when its turn comes."""

    def __init__(self, videos: VideoDataset, sequence: Sequence) -> None:
        self.videos, self.sequence = videos, sequence

    def __len__(self) -> int:
        return len(self.sequence.frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.videos.read_frame(self.sequence.name, frame) for frame in self.sequence.frames)


def _load(kind: str, overrides: dict[str, object], weights: str, device: str, threads: int) -> "VideoModel":
    import torch

    from noisyvos import models

    if device not in ("auto", "cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"Device {device!r} is not here. Use auto, cpu, or cuda where there is a GPU.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(threads)
    network = models.build(kind, **overrides)
    if weights != "none":
        models.load_weights(network, weights)
    return network.to(device)
