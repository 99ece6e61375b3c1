"""Labels that a trained network corrects by its boundary bias.

The bias is measured on a few clean masks and applied to the labels of the training videos.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from noisyvos.datasets.layout import Sequence
from noisyvos.inference.video import iterate_video
from noisyvos.io.atomic import write_json
from noisyvos.io.forms import Correction, read_form
from noisyvos.io.masks import VOID, write_mask_zip
from noisyvos.losses.boundary_bias import LEAST_BIAS, boundary_offsets, corrected_logits
from noisyvos.models.base import VideoModel
from noisyvos.seeding import numpy_generator
from noisyvos.training.clip_readers import VideoClips

SMALLEST = 1e-6  # probabilities are kept this far from 0 and 1


class Relabelling(Protocol):
    """A method's settings of relabelling."""

    clean_masks: int
    share: float
    rounds: int


def _given(reader: VideoClips, video: Sequence) -> list[np.ndarray]:
    return [reader.labels(video, frame) for frame in video.masks]


def _prompts(given: list[np.ndarray]) -> dict[int, np.ndarray]:
    """Return {frame index: mask} with every object where its given labels first show it."""
    prompts: dict[int, np.ndarray] = {}
    known = {0, VOID}
    for index, mask in enumerate(given):
        new = {int(label) for label in np.unique(mask)} - known
        if new:
            prompts[index] = np.where(np.isin(mask, sorted(new)), mask, 0).astype(np.uint8)
            known |= new
    return prompts


def _predictions(
    network: VideoModel, reader: VideoClips, video: Sequence
) -> Iterator[tuple[int, list[int], np.ndarray]]:
    """Yield index, object ids and probabilities (K+1, H, W) of annotated frames but the prompts."""
    prompts = _prompts(_given(reader, video))
    if not prompts:
        return
    ids = sorted({int(label) for mask in prompts.values() for label in np.unique(mask)} - {0, VOID})
    frames = (reader.dataset.read_frame(video.name, frame) for frame in video.masks)
    for index, result in enumerate(iterate_video(network, frames, prompts)):
        if index > min(prompts) and index not in prompts:
            assert result.probabilities is not None
            yield index, ids, result.probabilities


def measure_bias(network: VideoModel, reader: VideoClips, clean_masks: int, seed: int) -> float:
    """Return the mean boundary offset in pixels over all objects of some frames.

    `seed` draws `clean_masks` frames. The bias is 0 if they have no boundary.
    """
    places = [(video, index) for video in reader.videos for index in range(1, len(video.masks))]
    order = numpy_generator("clean masks", seed, reader.name).permutation(len(places))[:clean_masks]
    chosen: dict[str, list[int]] = {}
    for place in order:
        chosen.setdefault(places[place][0].name, []).append(places[place][1])
    offsets = []
    for video in reader.videos:
        if video.name not in chosen:
            continue
        for index, ids, probabilities in _predictions(network, reader, video):
            if index in chosen[video.name]:
                true = reader.dataset.read_mask(video.name, video.masks[index])
                predicted = np.array([0, *ids])[probabilities.argmax(0)]
                offsets += [boundary_offsets(predicted == label, true == label) for label in ids]
    every = np.concatenate(offsets) if offsets else np.zeros(0)
    return float(every.mean()) if len(every) else 0.0


def corrected_mask(probabilities: np.ndarray, ids: list[int], bias: float) -> np.ndarray:
    """Return the labels (H, W) uint8 of probabilities (K+1, H, W), corrected by `bias` pixels."""
    inside = probabilities[1:].astype(np.float64).clip(SMALLEST, 1 - SMALLEST)
    logits = np.stack([corrected_logits(np.log(each) - np.log1p(-each), bias) for each in inside])
    return np.where(logits.max(0) > 0, np.array(ids)[logits.argmax(0)], 0).astype(np.uint8)


def with_all_objects(new: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return new labels (H, W) uint8 with every object of the given ones.

    An object that is missing gets its given pixels back. A weak network may lose an object; a
    training on its absence would learn more than an error of boundaries. The published method
    does not say what happens then.
    """
    labels = [label for label in np.unique(given) if label not in (0, VOID)]
    # The loop ends, because the given pixels of two objects never overlap.
    while lost := [label for label in labels if not (new == label).any()]:
        new = np.where(np.isin(given, lost), given, new)
    return new


def _relabelled(
    network: VideoModel, reader: VideoClips, bias: float
) -> Iterator[tuple[str, str, np.ndarray]]:
    for video in reader.videos:
        masks = _given(reader, video)
        for index, ids, probabilities in _predictions(network, reader, video):
            corrected = with_all_objects(corrected_mask(probabilities, ids, bias), masks[index])
            masks[index] = np.where(masks[index] == VOID, VOID, corrected)
        yield from (
            (video.name, frame, mask) for frame, mask in zip(video.masks, masks, strict=True)
        )
    # Videos too short to train on keep their labels.
    rest = [video for video in reader.dataset.sequences.values() if video not in reader.videos]
    for video in rest:
        yield from (
            (video.name, frame, mask)
            for frame, mask in zip(video.masks, _given(reader, video), strict=True)
        )


def kept_bias(out: Path, fingerprint: str) -> float | None:
    """Return the bias that the labels at `out` were corrected by, None without such labels."""
    note = out.with_suffix(".json")
    found = read_form(note, Correction, f"Remove {note}.") if note.is_file() else {}
    return found["bias"] if found.get("fingerprint") == fingerprint else None


def relabel(
    network: VideoModel,
    reader: VideoClips,
    wanted: Relabelling,
    seed: int,
    out: Path,
    fingerprint: str,
) -> float:
    """Measure the bias and return the share of it to correct, in pixels.

    Unless it is below LEAST_BIAS, write the corrected labels to `out`. A .json beside them,
    written last, holds the bias and the fingerprint, by which `kept_bias` finds them.
    """
    bias = wanted.share * measure_bias(network, reader, wanted.clean_masks, seed)
    if abs(bias) >= LEAST_BIAS:
        write_mask_zip(out, _relabelled(network, reader, bias))
        write_json(out.with_suffix(".json"), {"bias": bias, "fingerprint": fingerprint})
    return bias
