"""Dataset kind `mix`: several converted video datasets as one, with their weights in training.

XMem repeats DAVIS five times beside YouTube-VOS (Cheng and Schwing 2022). STM draws DAVIS with
probability 0.08 (Oh et al. 2019).
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from pydantic import Field, PositiveInt, model_validator

from noisyvos.datasets.base import DATASETS, MIX_PARTS, Conversion
from noisyvos.datasets.layout import Sequence, VideoDataset
from noisyvos.datasets.sequences import convert_sequences
from noisyvos.errors import UserError
from noisyvos.io.files import link
from noisyvos.registry import Settings


class Part(Settings):
    """One dataset of a mix."""

    dataset: str = Field(description="A video dataset of datasets.yaml, not a mix.")
    repeat: PositiveInt = Field(1, description="How often each of its videos comes in an epoch.")
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

    parts: tuple[Part, ...] = Field(min_length=1, max_length=MIX_PARTS)

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
    """Link the videos of all parts as <dataset>/<video> and return what was made.

    `job.raw` holds the converted datasets. UserError names a part that is not converted, holds
    images or is a mix itself.
    """
    tasks = []
    for part in settings.parts:
        root = Path(os.path.realpath(job.raw / part.dataset))
        data = VideoDataset(root)
        if data.meta["name"] != part.dataset:
            raise UserError(
                f"{root}: this is dataset {data.meta['name']!r}, not {part.dataset!r}. "
                f"Convert {part.dataset!r} again."
            )
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
