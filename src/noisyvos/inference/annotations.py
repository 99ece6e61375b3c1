"""Checking what a user hands to `segment_video`, before anything is computed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from noisyvos.errors import UserError
from noisyvos.io.masks import VOID


@dataclass(frozen=True)
class Annotations:
    """Masks by frame index, all of one size; frames whose mask names no object, a background scribble alone too, are left out."""

    masks: dict[int, np.ndarray]  # (H, W) uint8, void turned into 0
    ids: tuple[int, ...]  # every object id of the video, ascending: id of channel 1, 2, ...
    size: tuple[int, int]
    background_label: int | None = None  # of scribbles

    @property
    def first(self) -> int:
        """The first annotated frame."""
        return min(self.masks)

    def given(self, index: int) -> dict[int, np.ndarray]:
        """Return {channel: (H, W) bool} of the objects annotated in frame `index`; channel 0 is a background scribble."""
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

    background_label: the label of a background scribble, which is no object.
    """
    masks: dict[int, np.ndarray] = {}
    for index, mask in sorted(annotations.items()):
        mask = np.asarray(mask)
        if (
            not isinstance(index, int | np.integer)
            or index < 0
            or (length is not None and index >= length)
        ):
            known = "" if length is None else f" of 0..{length - 1}"
            raise UserError(f"annotations: {index!r} is no frame index{known}.")
        if mask.dtype != np.uint8 or mask.ndim != 2:
            raise UserError(
                f"annotations: frame {index} has {mask.dtype} of shape {mask.shape}; an index mask is (H, W) uint8."
            )
        masks[int(index)] = np.where(mask == VOID, 0, mask).astype(np.uint8)
    sizes = {mask.shape for mask in masks.values()}
    if len(sizes) > 1:
        raise UserError(
            f"annotations: the masks have different sizes ({', '.join(map(str, sorted(sizes)))})."
        )
    masks = {
        index: mask
        for index, mask in masks.items()
        if not np.isin(mask, (0, background_label)).all()
    }
    ids = sorted(
        {int(number) for mask in masks.values() for number in np.unique(mask)}
        - {0, background_label}
    )
    if not ids:
        raise UserError(
            "annotations: no mask names an object (ids 1..254). At least one frame must."
        )
    if background_label is not None and ids[-1] > background_label:
        raise UserError(
            f"annotations: label {ids[-1]} is no object of a scribble map, which has 1..{background_label - 1} for objects and "
            f"{background_label} for a scribble of the background."
        )
    return Annotations(masks, tuple(ids), sizes.pop(), background_label)
