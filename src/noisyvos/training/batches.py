"""Batches as a pure function of (seed, data, iteration): resuming and reading ahead cannot change what is trained on."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from noisyvos.datasets.augmentations.base import Pictures, as_planes, augment, resizes_frames
from noisyvos.datasets.sampling import choose_objects, lasting_objects, relabel, usable_objects
from noisyvos.errors import UserError
from noisyvos.models.base import Clip, Origin
from noisyvos.seeding import numpy_generator
from noisyvos.training.group import ALONE, Group
from noisyvos.training.schedule import Schedule, is_diagnosed, max_jump
from noisyvos.training.sources import ClipSource, Drawing, Sample

TRIALS = 5  # draws for a clip whose first mask has an object (XMem's rule); after them the clip trains as background


def check_sizes(source: ClipSource, schedule: Schedule) -> None:
    """Refuse a schedule whose clips could not be stacked or cropped."""
    sizes, window = source.sizes(), schedule.window
    if window is None and len(sizes) > 1:
        raise UserError(
            f"{source.name}: frames come in {len(sizes)} sizes, so the schedule needs a `crop`."
        )
    if window is None or resizes_frames(schedule.augmentation):
        return
    for height, width in sorted(sizes):
        if window[0] > height or window[1] > width:
            raise UserError(
                f"{source.name}: a crop of {window} does not fit frames of {(height, width)}: lower `crop` in train.yaml."
            )


def _sample(
    source: ClipSource, schedule: Schedule, seed: int, iteration: int, index: int, clean: bool
) -> tuple[Pictures, list[int], Sample]:
    """Return one augmented clip with its objects numbered 1..n, the ids they had, and the clip as it was read."""
    unit = source.unit(iteration * schedule.batch + index, seed)
    for trial in range(TRIALS):
        generator = numpy_generator("clip", seed, source.name, iteration, index, trial)
        raw = source.clip(
            unit,
            length=schedule.clip_length,
            how=Drawing(max_jump(schedule, iteration), schedule.reverse, schedule.sampler),
            clean=clean,
            generator=generator,
        )
        sets = (raw.masks,) if raw.clean is None else (raw.masks, raw.clean)
        rotate = iteration < schedule.iterations
        seen = augment(
            schedule.augmentation,
            Pictures(raw.frames, sets),
            schedule.window,
            rotate=rotate,
            generator=generator,
        )
        lasting = schedule.object_rule == "lasting"
        usable = (
            lasting_objects(seen.masks[0])
            if lasting
            else usable_objects(seen.masks[0][0], schedule.min_area)
        )
        if usable:
            break
    objects = choose_objects(usable, schedule.objects, generator)
    return replace(seen, masks=tuple(relabel(mask, objects) for mask in seen.masks)), objects, raw


def _origin(samples: list[tuple[Pictures, list[int], Sample]]) -> Origin:
    """Return where the pixels and slots of a batch come from."""
    still = np.eye(2, 3)
    maps = [
        np.broadcast_to(
            still if pictures.to_source is None else pictures.to_source,
            (len(pictures.frames), 2, 3),
        )
        for pictures, _, _ in samples
    ]
    sizes = tuple((int(raw.masks.shape[1]), int(raw.masks.shape[2])) for _, _, raw in samples)
    return Origin(
        torch.from_numpy(np.stack(maps).astype(np.float32)),
        sizes,
        tuple(tuple(objects) for _, objects, _ in samples),
    )


def make_batch(
    source: ClipSource,
    schedule: Schedule,
    seed: int,
    iteration: int,
    *,
    clean: bool = False,
    group: Group = ALONE,
) -> Clip:
    """Return the batch of `iteration`, of several processes this one's samples.

    With `clean`, or where diagnostics are due, it carries clean labels if the source has them.
    """
    rows = group.rows(schedule.batch)
    clean = clean or is_diagnosed(schedule, iteration)
    samples = [_sample(source, schedule, seed, iteration, index, clean) for index in rows]
    labels = [
        np.stack(each) for each in zip(*(pictures.masks for pictures, _, _ in samples), strict=True)
    ]  # (B, T, H, W) each
    return Clip(
        frames=torch.from_numpy(as_planes([pictures.frames for pictures, _, _ in samples])),
        masks=torch.from_numpy(labels[0].astype(np.int64)),
        num_objects=torch.tensor([max(1, len(objects)) for _, objects, _ in samples]),
        slots=schedule.objects,
        keys=tuple(raw.key for _, _, raw in samples),
        clean=torch.from_numpy(labels[1].astype(np.int64)) if len(labels) > 1 else None,
        origin=_origin(samples),
        part_of=(rows.start, schedule.batch),
        progress=iteration / schedule.total,
    )


class _Batches(torch.utils.data.Dataset):
    """The batches of a training by iteration, for processes that read ahead."""

    def __init__(
        self, source: ClipSource, schedule: Schedule, seed: int, clean: bool, group: Group
    ) -> None:
        self._make = (source, schedule, seed)
        self._how = {"clean": clean, "group": group}

    def __len__(self) -> int:
        return self._make[1].total

    def __getitem__(self, iteration: int) -> Clip:
        return make_batch(*self._make, iteration, **self._how)


def feed(
    source: ClipSource,
    schedule: Schedule,
    seed: int,
    start: int,
    workers: int,
    *,
    clean: bool = False,
    group: Group = ALONE,
) -> Iterator[Clip]:
    """Yield the batches (this process's samples of them) from iteration `start` on, made here or by `workers` processes."""
    todo = range(start, schedule.total)
    if not workers:
        yield from (
            make_batch(source, schedule, seed, iteration, clean=clean, group=group)
            for iteration in todo
        )
        return
    yield from torch.utils.data.DataLoader(
        _Batches(source, schedule, seed, clean, group),
        sampler=todo,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4,
    )
