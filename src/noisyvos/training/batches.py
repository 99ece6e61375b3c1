"""Batches as a pure function of (seed, data, iteration).

So neither resuming nor prefetching changes what is trained on.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from noisyvos.datasets.augmentations.base import Pictures, as_planes, augment, resizes_frames
from noisyvos.datasets.sampling import choose_objects, lasting_objects, relabel, usable_objects
from noisyvos.errors import UserError
from noisyvos.models.base import Clip, Origin
from noisyvos.seeding import numpy_generator
from noisyvos.training.clip_readers import ClipReader, Drawing, Sample
from noisyvos.training.distributed import ALONE, Group
from noisyvos.training.schedule import Schedule, is_diagnosed, max_jump

# Draws for a clip whose first mask has an object (XMem's rule); then it trains as background.
TRIALS = 5


def check_sizes(reader: ClipReader, schedule: Schedule) -> None:
    """Refuse a schedule whose clips could not be stacked or cropped."""
    sizes, window = reader.sizes(), schedule.window
    if window is None and len(sizes) > 1:
        raise UserError(
            f"{reader.name}: frames come in {len(sizes)} sizes, so the schedule needs a `crop`."
        )
    if window is None or resizes_frames(schedule.augmentation):
        return
    for height, width in sorted(sizes):
        if window[0] > height or window[1] > width:
            raise UserError(
                f"{reader.name}: a crop of {window} does not fit frames of {(height, width)}: "
                "lower `crop` in train.yaml."
            )


def _sample(
    reader: ClipReader, schedule: Schedule, seed: int, iteration: int, index: int, clean: bool
) -> tuple[Pictures, list[int], Sample]:
    """Return an augmented clip with objects 1..n, the ids they had, and the clip as it was read."""
    unit = reader.unit(iteration * schedule.batch + index, seed)
    for trial in range(TRIALS):
        generator = numpy_generator("clip", seed, reader.name, iteration, index, trial)
        raw = reader.clip(
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
    reader: ClipReader,
    schedule: Schedule,
    seed: int,
    iteration: int,
    *,
    clean: bool = False,
    group: Group = ALONE,
) -> Clip:
    """Return this process's samples of the batch of `iteration`, as networks take them.

    With `clean`, or if diagnostics are due, it carries clean labels if the reader has them.
    """
    return byte_batch(reader, schedule, seed, iteration, clean, group).to("cpu")


def byte_batch(
    reader: ClipReader, schedule: Schedule, seed: int, iteration: int, clean: bool, group: Group
) -> Clip:
    """Return the batch with frames and masks as bytes, as they were read; see `Clip.to`."""
    rows = group.rows(schedule.batch)
    clean = clean or is_diagnosed(schedule, iteration)
    samples = [_sample(reader, schedule, seed, iteration, index, clean) for index in rows]
    labels = [
        np.stack(each) for each in zip(*(pictures.masks for pictures, _, _ in samples), strict=True)
    ]  # (B, T, H, W) each
    return Clip(
        frames=torch.from_numpy(as_planes([pictures.frames for pictures, _, _ in samples])),
        masks=torch.from_numpy(labels[0]),
        num_objects=torch.tensor([max(1, len(objects)) for _, objects, _ in samples]),
        slots=schedule.objects,
        keys=tuple(raw.key for _, _, raw in samples),
        clean=torch.from_numpy(labels[1]) if len(labels) > 1 else None,
        origin=_origin(samples),
        part_of=(rows.start, schedule.batch),
        progress=iteration / schedule.total,
    )


class _Batches(torch.utils.data.Dataset):
    """The batches of a training by iteration, for processes that prefetch them."""

    def __init__(
        self, reader: ClipReader, schedule: Schedule, seed: int, clean: bool, group: Group
    ) -> None:
        self._reader, self._schedule, self._seed = reader, schedule, seed
        self._clean, self._group = clean, group

    def __len__(self) -> int:
        return self._schedule.total

    def __getitem__(self, iteration: int) -> Clip:
        return byte_batch(
            self._reader, self._schedule, self._seed, iteration, self._clean, self._group
        )


def feed(
    reader: ClipReader,
    schedule: Schedule,
    seed: int,
    start: int,
    workers: int,
    clean: bool = False,
    group: Group = ALONE,
) -> Iterator[Clip]:
    """Yield this process's samples of the batches from iteration `start` on, in bytes.

    They are made here, or prefetched by `workers` processes; where there is a GPU, into
    page-locked memory. `Clip.to` turns them into what networks take.
    """
    batches, todo = _Batches(reader, schedule, seed, clean, group), range(start, schedule.total)
    if not workers:
        yield from (batches[iteration] for iteration in todo)
        return
    yield from torch.utils.data.DataLoader(
        batches,
        sampler=todo,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4,
        pin_memory=torch.cuda.is_available(),
    )
