"""Dataset kind `mix`: several converted datasets as one, with their weights in training.

The parts are all of videos, or all of still images.

XMem repeats DAVIS five times beside YouTube-VOS (Cheng and Schwing 2022). STM draws DAVIS with
probability 0.08 (Oh et al. 2019).
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PositiveInt, model_validator

from noisyvos.datasets.base import DATASETS, MIX_PARTS, Conversion
from noisyvos.datasets.coco_format import write_image_dataset
from noisyvos.datasets.layout import Sequence, VideoDataset, read_meta
from noisyvos.datasets.sequences import convert_sequences
from noisyvos.datasets.still_layout import CATEGORIES
from noisyvos.errors import UserError
from noisyvos.io.files import link
from noisyvos.io.forms import read_instances_file
from noisyvos.registry import Settings


class Part(Settings):
    """One dataset of a mix."""

    dataset: str = Field(description="A dataset of datasets.yaml, not a mix.")
    repeat: PositiveInt = Field(
        1, description="How often each of its videos or images comes in an epoch."
    )
    jump_divisor: PositiveInt = Field(
        1,
        description="A schedule's `max_jump` is divided by this: 5 for masks on every fifth frame.",
    )
    share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Probability that a sample is of this part, in place of `repeat`.",
    )


class MixSettings(Settings):
    """The parts, each with either a number of repetitions or a share of the samples."""

    makes: ClassVar[str] = "mix"

    parts: tuple[Part, ...] = Field(
        min_length=1, max_length=MIX_PARTS, description="One to four converted video datasets."
    )

    @model_validator(mode="after")
    def _consistent(self) -> "MixSettings":
        names = [part.dataset for part in self.parts]
        shares = [part.share for part in self.parts if part.share is not None]
        if len(set(names)) < len(names):
            raise ValueError("every dataset may be named once")
        if shares and (len(shares) < len(self.parts) or abs(sum(shares) - 1) > 1e-6):
            raise ValueError("give every part a `share`, adding up to 1, or none")
        if shares and any(part.repeat > 1 for part in self.parts):
            raise ValueError("`share` and `repeat` exclude each other")
        return self


@DATASETS.register("mix", MixSettings)
def convert_mix(job: Conversion, settings: MixSettings) -> str:
    """Link all videos as <dataset>/<video>, or all images, and return what was made.

    `job.raw` holds the converted datasets. UserError names a part that is not converted, is of
    another form than the first, or is a mix itself.
    """
    roots = [Path(os.path.realpath(job.raw / part.dataset)) for part in settings.parts]
    first = roots[0] / "meta.json"
    if first.is_file() and read_meta(roots[0], kind=None)["kind"] == "images":
        return _mix_images(job, settings, roots)
    tasks = []
    for part, root in zip(settings.parts, roots, strict=True):
        data = VideoDataset(root)
        _check_name(root, data.meta, part)
        for sequence in data.sequences.values():
            if sequence.origin is not None:
                raise UserError(
                    f"{root}: a mix cannot be part of a mix; "
                    f"name the parts of {part.dataset!r} instead."
                )
            tasks.append(_Link(sequence, part, root, job.out))
    shares = {part.dataset: part.share for part in settings.parts if part.share is not None}
    return convert_sequences(
        job, settings, tasks, _linked, **({"shares": shares} if shares else {})
    )


def _check_name(root: Path, meta: dict[str, Any], part: Part) -> None:
    if meta["name"] != part.dataset:
        raise UserError(
            f"{root}: this is dataset {meta['name']!r}, not {part.dataset!r}. "
            f"Convert {part.dataset!r} again."
        )


def _mix_images(job: Conversion, settings: MixSettings, roots: list[Path]) -> str:
    """Link the images of all parts as <dataset>/<name> and join their instances, in order."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    counts = {}
    for part, root in zip(settings.parts, roots, strict=True):
        if part.share is not None or part.jump_divisor > 1:
            raise UserError(
                f"datasets.yaml: {job.name}: {part.dataset!r} holds still images, which have "
                "neither `share` nor `jump_divisor`. Give `repeat`."
            )
        meta = read_meta(root, kind="images")
        _check_name(root, meta, part)
        if "parts" in meta.get("settings", {}):
            raise UserError(
                f"{root}: a mix cannot be part of a mix; "
                f"name the parts of {part.dataset!r} instead."
            )
        content = read_instances_file(root, f"Convert {part.dataset!r} again.")
        numbers = {}
        for image in content["images"]:
            file_name = f"{part.dataset}/{image['file_name']}"
            link(root / "images" / image["file_name"], job.out / "images" / file_name)
            numbers[image["id"]] = len(images) + 1
            repeat = image.get("repeat", 1) * part.repeat
            entry = image | {"id": len(images) + 1, "file_name": file_name}
            images.append(entry | ({"repeat": repeat} if repeat > 1 else {}))
        for entry in content["annotations"]:
            ids = {"id": len(annotations) + 1, "image_id": numbers[entry["image_id"]]}
            annotations.append(entry | ids | {"category_id": 1})
        counts[part.dataset] = len(content["images"])
    facts = write_image_dataset(job, settings, images, annotations, CATEGORIES, folders=counts)
    return f"{facts['images']} images, {facts['instances']} instances of {len(roots)} datasets"


@dataclass(frozen=True)
class _Link:
    sequence: Sequence
    part: Part
    root: Path
    out: Path


def _linked(task: _Link) -> Sequence:
    old, new = task.sequence, f"{task.part.dataset}/{task.sequence.name}"
    for frame in old.frames:
        link(
            task.root / "frames" / old.name / f"{frame}{old.suffix}",
            task.out / "frames" / new / f"{frame}{old.suffix}",
        )
    for frame in old.masks:
        link(
            task.root / "masks" / old.name / f"{frame}.png",
            task.out / "masks" / new / f"{frame}.png",
        )
    origin = (task.part.dataset, old.name)
    return replace(
        old, name=new, origin=origin, repeat=task.part.repeat, jump_divisor=task.part.jump_divisor
    )
