"""Still images with masks in the layout of all stages: what the kinds of still images share.

The masks become outlines that `synth` fills to the very same pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisyvos.datasets.base import Conversion, DatasetSettings
from noisyvos.datasets.coco_format import instance_fields, write_image_dataset
from noisyvos.datasets.stills import Pair
from noisyvos.errors import UserError
from noisyvos.io.files import place
from noisyvos.io.images import checked_size, copy_reduced, reduced_size
from noisyvos.io.masks import VOID, resize_mask
from noisyvos.parallel import ordered_map

CATEGORIES = [{"id": 1, "name": "object"}]


@dataclass(frozen=True)
class Still:
    """One image with its mask, and what becomes of it."""

    pair: Pair
    name: str  # below images/, without suffix
    out: Path
    size: int | None
    repeat: int = 1


@dataclass(frozen=True)
class _Converted:
    file_name: str
    size: tuple[int, int]
    repeat: int
    instances: tuple[dict[str, Any], ...]  # fields of the annotations, by value of the mask


def convert_stills(
    job: Conversion, settings: DatasetSettings, groups: Mapping[str, Sequence[Still]], hint: str
) -> str:
    """Write images/ and instances.json of the groups in order and return what was made.

    `groups` are counted in meta.json under `folders`. UserError or FileNotFoundError names a file
    that cannot be used; `hint` ends the message on two images of one name.
    """
    stills = [still for group in groups.values() for still in group]
    names: dict[str, Path] = {}
    for still in stills:
        other = names.setdefault(still.name, still.pair.image)
        if other is not still.pair.image:
            raise UserError(
                f"{still.pair.image} and {other} share the name {still.name!r}. "
                f"Rename one of them, {hint}."
            )
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    empty = 0
    for number, done in enumerate(ordered_map(_convert, stills, job.workers, job.name), 1):
        size = {"height": done.size[0], "width": done.size[1]}
        repeat = {"repeat": done.repeat} if done.repeat > 1 else {}
        images.append({"id": number, "file_name": done.file_name, **size, **repeat})
        for fields in done.instances:
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
            annotations.append(ids | {"iscrowd": 0} | fields)
        empty += not done.instances
    facts = write_image_dataset(
        job,
        settings,
        images,
        annotations,
        CATEGORIES,
        folders={name: len(group) for name, group in groups.items()},
    )
    return f"{facts['images']} images, {facts['instances']} instances" + (
        f", {empty} images without an object" if empty else ""
    )


def _convert(still: Still) -> _Converted:
    image, pair = still.pair.image, still.pair
    full = checked_size(image)
    mask = pair.read_mask()
    if mask.shape != full:
        where = f"{image}: its mask" if pair.mask is None else f"{pair.mask}: this mask"
        raise UserError(
            f"{where} is {mask.shape[1]}x{mask.shape[0]}, "
            f"but its image is {full[1]}x{full[0]} (width x height)."
        )
    size = reduced_size(*full, still.size)
    file_name = f"{still.name}{image.suffix if size == full else '.jpg'}"
    if size == full:
        place(image, still.out / "images" / file_name, as_file=still.size is not None)
    else:
        copy_reduced(image, still.out / "images" / file_name, size)
        mask = resize_mask(mask, size)
    values = [value for value in np.unique(mask).tolist() if value not in (0, VOID)]
    return _Converted(
        file_name, size, still.repeat, tuple(instance_fields(mask == value) for value in values)
    )
