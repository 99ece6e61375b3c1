"""The masks a network is given: checks of a user's annotations, and the prompts of a dataset."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from noisyvos.datasets.layout import Sequence, VideoDataset
from noisyvos.errors import UserError
from noisyvos.io.masks import VOID, MaskCollection


@dataclass(frozen=True)
class Annotations:
    """Masks by frame index, all of one size.

    Frames whose mask names no object are left out, also those with only a background scribble.
    """

    masks: dict[int, np.ndarray]  # (H, W) uint8, void turned into 0
    ids: tuple[int, ...]  # every object id of the video, ascending: id of channel 1, 2, ...
    size: tuple[int, int]  # (height, width)
    background_label: int | None = None  # of scribbles

    @property
    def first(self) -> int:
        """The first annotated frame."""
        return min(self.masks)

    def given(self, index: int) -> dict[int, np.ndarray]:
        """Return {channel: (H, W) bool} of the objects annotated in frame `index`.

        Channel 0 is a background scribble.
        """
        mask = self.masks.get(index)
        if mask is None:
            return {}
        present = np.unique(mask)
        labels = dict(enumerate(self.ids, 1))
        if self.background_label is not None:
            labels[0] = self.background_label
        return {channel: mask == number for channel, number in labels.items() if number in present}


def check_annotations(
    annotations: Mapping[int, np.ndarray], length: int | None, background_label: int | None = None
) -> Annotations:
    """Return the annotations in one form; UserError says which frame's mask is unusable and why.

    length: number of frames, None if unknown. background_label: the label of a background scribble.
    """
    masks: dict[int, np.ndarray] = {}
    for index, mask in sorted(annotations.items()):
        mask = np.asarray(mask)
        too_late = length is not None and index >= length
        if not isinstance(index, int | np.integer) or index < 0 or too_late:
            known = "" if length is None else f" of 0..{length - 1}"
            raise UserError(f"annotations: {index!r} is not a frame index{known}.")
        if mask.dtype != np.uint8 or mask.ndim != 2:
            raise UserError(
                f"annotations: frame {index} has {mask.dtype} of shape {mask.shape}; "
                "an index mask is (H, W) uint8."
            )
        masks[int(index)] = np.where(mask == VOID, 0, mask).astype(np.uint8)
    sizes = {(mask.shape[0], mask.shape[1]) for mask in masks.values()}
    if len(sizes) > 1:
        raise UserError(
            f"annotations: the masks have different sizes ({', '.join(map(str, sorted(sizes)))})."
        )
    no_object = {0} if background_label is None else {0, background_label}
    masks = {
        index: mask for index, mask in masks.items() if not np.isin(mask, list(no_object)).all()
    }
    ids = sorted({int(number) for mask in masks.values() for number in np.unique(mask)} - no_object)
    if not ids:
        raise UserError(
            "annotations: no mask names an object (ids 1..254; 255 is void). "
            "At least one frame must."
        )
    if background_label is not None and ids[-1] > background_label:
        raise UserError(
            f"annotations: label {ids[-1]} is not an object of a scribble map. Objects have "
            f"1..{background_label - 1}, a scribble of the background {background_label}."
        )
    return Annotations(masks, tuple(ids), sizes.pop(), background_label)


def first_masks(
    dataset: VideoDataset,
    sequence: Sequence,
    given: MaskCollection | None = None,
    background_label: int | None = None,
) -> dict[int, np.ndarray]:
    """Return {frame index: (H, W) uint8 index mask} with each object in its first frame only.

    The dataset's own masks say in which frame an object first appears. Its pixels come from `given`
    (noisy masks or scribbles of this dataset) where that is given. A network that takes scribbles
    has a `background_label`, which replaces 0. UserError if no mask names an object, or if an
    object's number is too large for scribbles.
    """
    prompts: dict[int, np.ndarray] = {}
    missing = set(sequence.objects)
    if background_label is not None and max(missing, default=0) >= background_label:
        raise UserError(
            f"{dataset.root}: sequence {sequence.name!r} has an object {max(missing)}, "
            f"but scribbles know 1 to {background_label - 1} only."
        )
    masked = set(sequence.masks)
    for index, frame in enumerate(sequence.frames):
        if not missing:
            break
        if frame not in masked:
            continue
        mask = dataset.read_mask(sequence.name, frame)
        new = missing & {int(number) for number in np.unique(mask)} - {0, VOID}
        if not new:
            continue
        shown = mask if given is None else _read_given(given, sequence.name, frame, mask.shape)
        prompts[index] = np.where(np.isin(shown, sorted(new)), shown, 0).astype(np.uint8)
        if background_label is not None:
            prompts[index][shown == 0] = background_label
        missing -= new
    if not any(((mask != 0) & (mask != background_label)).any() for mask in prompts.values()):
        raise UserError(
            f"{dataset.root}: no mask of sequence {sequence.name!r} names an object, "
            "so there is nothing to segment."
        )
    return prompts


def _read_given(
    given: MaskCollection, sequence: str, frame: str, size: tuple[int, ...]
) -> np.ndarray:
    mask = given.read(sequence, frame)
    if mask.shape != size:
        raise UserError(
            f"{given.path}: {sequence}/{frame}.png is {mask.shape}, "
            f"but the dataset's mask is {size} (height, width)."
        )
    return mask


def copied_masks(sequence: Sequence, prompts: dict[int, np.ndarray]) -> list[np.ndarray]:
    """Return (H, W) uint8 per frame of the baseline that copies every object's first mask."""
    current = np.zeros(sequence.size, np.uint8)
    result = []
    for index in range(len(sequence.frames)):
        if index in prompts:
            current = np.where(prompts[index] > 0, prompts[index], current)
        result.append(current)
    return result
