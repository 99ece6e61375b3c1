"""What a network is told of a video: the mask of each object in the frame where it first appears, and nothing later."""

import numpy as np

from noisyvos.datasets.layout import Sequence, VideoDataset
from noisyvos.errors import UserError
from noisyvos.io.masks import VOID, MaskCollection


def first_masks(
    dataset: VideoDataset,
    sequence: Sequence,
    given: MaskCollection | None = None,
    background_label: int | None = None,
) -> dict[int, np.ndarray]:
    """Return {frame index: (H, W) uint8 index mask} that holds every object of a sequence once, where it first appears.

    Which objects appear in which frame is always read off the dataset's own masks; their pixels come from `given` (noisy
    masks of this dataset) instead, if it is there. A network that takes scribbles has a `background_label` for what is 0 in
    masks. UserError if no mask names an object, or an object has a number that scribbles do not have.
    """
    prompts: dict[int, np.ndarray] = {}
    missing = set(sequence.objects)
    if background_label is not None and max(missing, default=0) >= background_label:
        raise UserError(
            f"{dataset.root}: sequence {sequence.name!r} has an object {max(missing)}, but scribbles know 1 to {background_label - 1} only."
        )
    masked = set(sequence.masks)
    for index, frame in enumerate(sequence.frames):
        if not missing:
            break
        if frame in masked:
            mask = dataset.read_mask(sequence.name, frame)
            new = missing & {int(number) for number in np.unique(mask)} - {0, VOID}
            if new:
                shown = (
                    mask
                    if given is None
                    else _same_size(
                        given.read(sequence.name, frame),
                        mask,
                        given,
                        f"{sequence.name}/{frame}.png",
                    )
                )
                prompts[index] = np.where(np.isin(shown, sorted(new)), shown, 0).astype(np.uint8)
                if background_label is not None:
                    prompts[index][shown == 0] = background_label
                missing -= new
    if not any(((mask != 0) & (mask != background_label)).any() for mask in prompts.values()):
        raise UserError(
            f"{dataset.root}: no mask of sequence {sequence.name!r} names an object, so there is nothing to segment."
        )
    return prompts


def _same_size(mask: np.ndarray, own: np.ndarray, given: MaskCollection, name: str) -> np.ndarray:
    if mask.shape != own.shape:
        raise UserError(
            f"{given.path}: {name} is {mask.shape}, but the dataset's mask is {own.shape} (height, width)."
        )
    return mask


def copied_masks(sequence: Sequence, prompts: dict[int, np.ndarray]) -> list[np.ndarray]:
    """Return the baseline that moves nothing: every object stays where it was first seen, (H, W) uint8 per frame."""
    current = np.zeros(sequence.size, np.uint8)
    result = []
    for index in range(len(sequence.frames)):
        if index in prompts:
            current = np.where(prompts[index] > 0, prompts[index], current)
        result.append(current)
    return result
