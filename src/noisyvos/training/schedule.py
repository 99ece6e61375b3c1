"""Training schedules: how long, how fast, and on what kind of clips.

All numbers of an iteration follow from its index.
"""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from noisyvos.datasets.augmentations.base import AUGMENTATIONS
from noisyvos.errors import unknown_name
from noisyvos.limits import (
    LONGEST_SIDE,
    MOST_BATCH,
    MOST_CLIP_FRAMES,
    MOST_ITERATIONS,
    MOST_OBJECTS,
    MOST_WORKERS,
)
from noisyvos.registry import Settings
from noisyvos.training.optimizers import OPTIMIZERS, ParameterGroup

# Settings that change no result.
_HARMLESS = {
    "checkpoint_every",
    "checkpoints_kept",
    "keep_weights_every",
    "published",
    "workers",
}


Side = Annotated[int, Field(ge=1, le=LONGEST_SIDE)]


class Growth(Settings):
    """A largest jump that grows by one every so many iterations, as in STM and RHMNet."""

    start: PositiveInt = Field(1, description="First largest jump.")
    every: PositiveInt = Field(description="Iterations between increases by one.")
    most: PositiveInt = Field(description="Last largest jump.")


class Schedule(Settings):
    """One entry of train.yaml. Lengths are in iterations, `crop` and `min_area` in pixels."""

    # a setting that names a registered kind: its code is a dependency of the cell
    builds: ClassVar[dict[str, str]] = {"augmentation": "noisyvos.datasets.augmentations.kinds"}

    iterations: int = Field(
        ge=1, le=MOST_ITERATIONS, description="Length of the training in iterations."
    )
    finetune: int = Field(
        0,
        ge=0,
        le=MOST_ITERATIONS,
        description="Further iterations at the last `max_jump`, without rotation and shear.",
    )
    batch: int = Field(4, ge=1, le=MOST_BATCH, description="Clips in a batch, over all processes.")
    parts: PositiveInt = Field(
        1,
        description=(
            "Number of pieces in which a batch passes through the network. Their "
            "gradients are added."
        ),
    )

    learning_rate: PositiveFloat = Field(description="Learning rate after the warm-up.")
    optimizer: Annotated[str, Field(json_schema_extra={"enum": [*OPTIMIZERS]})] = Field(
        "adamw", description="Optimiser."
    )
    momentum: float = Field(0, ge=0, lt=1, description="Nesterov momentum of `sgd`.")
    muon_rate: PositiveFloat = Field(
        1.0,
        description=(
            "With `muon`, the learning rate of convolutions over that of all other parameters."
        ),
    )
    weight_decay: float = Field(0.01, ge=0, description="Weight decay.")
    warmup: int = Field(
        0, ge=0, description="Iterations over which the learning rate rises linearly."
    )
    decay: Literal["constant", "cosine", "steps", "poly", "poly_cfbi"] = Field(
        "constant",
        description=(
            "Course of the learning rate. `poly_cfbi` starts from 0 and would reach 0 "
            "one iteration after the end, as in CFBI and AOC-Net."
        ),
    )
    drops: tuple[PositiveInt, ...] = Field(
        (),
        description=(
            "With `steps`, the iterations at which the rate is multiplied by `drop_factor`."
        ),
    )
    drop_factor: float = Field(0.1, gt=0, lt=1, description="Factor of each drop.")
    hold: PositiveInt = Field(
        1,
        description=(
            "With `cosine`, `poly` and `poly_cfbi`, the rate changes only every so many iterations."
        ),
    )
    floor: float = Field(
        0, ge=0, description="Least learning rate, before the factors of parameter groups."
    )
    gradient_clip: PositiveFloat | None = Field(
        None, description="Largest gradient norm. Null does not clip."
    )
    amp: bool | Literal["fp16", "bf16"] = Field(
        True,
        description=(
            "Half precision on a GPU. `true` and `fp16` use loss scaling, `bf16` does "
            "not. On a CPU all trainings use float32."
        ),
    )
    teacher_amp: Literal["fp16", "bf16"] | None = Field(
        None,
        description=(
            "Half precision of a method's frozen teacher, null: that of `amp`. On a CPU only "
            "`bf16` changes anything, if the CPU computes in it. It changes results."
        ),
    )
    groups: tuple[ParameterGroup, ...] = Field(
        (), description="Parameter groups. The first one that matches a name applies."
    )

    clip_length: int = Field(3, ge=2, le=MOST_CLIP_FRAMES, description="Frames in a clip.")
    sampler: Literal["near", "forward", "any", "still"] = Field(
        "near",
        description=(
            "`near` draws frames within `max_jump` of a chosen one (XMem), `forward` "
            "at most that far ahead (STM), `any` in random order, `still` repeats one "
            "frame."
        ),
    )
    max_jump: PositiveInt | Growth | tuple[tuple[float, PositiveInt], ...] = Field(
        2,
        description=(
            "Largest gap between annotated frames: a number, steps as `[[share of "
            "iterations, jump], ...]`, or a growth."
        ),
    )
    reverse: float = Field(0.5, ge=0, le=1, description="Probability of showing a clip backwards.")
    objects: int = Field(
        2,
        ge=1,
        le=MOST_OBJECTS,
        description="Object slots. An image with more objects keeps a random choice.",
    )
    min_area: PositiveInt = Field(
        1, description="Least area of an object in the first mask, in pixels."
    )
    object_rule: Literal["area", "lasting"] = Field(
        "area",
        description=(
            "Which objects of the first mask count: those of `min_area`, or XMem's "
            "rule for BL30K (`lasting`)."
        ),
    )
    augmentation: str = Field(
        "light", description="An augmentation by name. See the table of augmentations."
    )
    crop: Side | tuple[Side, Side] | None = Field(
        None,
        description=(
            "Crop in pixels: one side or [height, width]. Null takes whole frames, "
            "which must all have one size."
        ),
    )

    network: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="Settings of the network for this training alone."
    )

    diagnostics: PositiveInt = Field(20, description="How often noise diagnostics are measured.")
    diagnosed_batches: int = Field(
        4, ge=1, le=1000, description="Batches that each diagnosis looks at."
    )
    log_every: PositiveInt | None = Field(
        None, description="Iterations between rows of the curve. Null writes fifty rows in all."
    )
    # None of the settings below changes a result.
    checkpoint_every: PositiveInt = Field(
        50, description="Iterations between checkpoints. Never changes a result."
    )
    checkpoints_kept: PositiveInt = Field(
        2, description="Number of checkpoints kept. Never changes a result."
    )
    keep_weights_every: PositiveInt | None = Field(
        None,
        description=(
            "Iterations between weights that are kept beside the final ones. Never "
            "changes a result."
        ),
    )
    workers: int = Field(
        0, ge=0, le=MOST_WORKERS, description="Processes that read ahead. Never changes a result."
    )
    published: bool = Field(
        False,
        description=(
            "The authors start this training from trained weights. A preset that "
            "would start it from random weights is refused. Never changes a result."
        ),
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Schedule":
        AUGMENTATIONS.get(self.augmentation)  # refuses an unknown name
        if self.optimizer not in OPTIMIZERS:
            raise unknown_name("optimizer", self.optimizer, OPTIMIZERS)
        if self.drops and self.decay != "steps":
            raise ValueError("`drops` need `decay: steps`")
        if self.momentum and self.optimizer != "sgd":
            raise ValueError("`momentum` needs `optimizer: sgd`; that of the others is fixed")
        if self.muon_rate != 1 and self.optimizer != "muon":
            raise ValueError("`muon_rate` needs `optimizer: muon`")
        if self.floor > self.learning_rate:
            raise ValueError("`floor` is above `learning_rate`")
        if self.batch % self.parts:
            raise ValueError("`batch` must be a multiple of `parts`")
        if self.warmup > self.total:
            raise ValueError("`warmup` is longer than the training")
        if isinstance(self.max_jump, tuple):
            shares = [share for share, _ in self.max_jump]
            if not shares or shares[0] != 0 or shares != sorted(shares):
                raise ValueError("`max_jump` steps must start at share 0 and be in order")
        return self

    @property
    def total(self) -> int:
        """Iterations in all."""
        return self.iterations + self.finetune

    @property
    def window(self) -> tuple[int, int] | None:
        """The crop as (height, width)."""
        return (self.crop, self.crop) if isinstance(self.crop, int) else self.crop

    @property
    def row_every(self) -> int:
        """Iterations between two rows of the curve."""
        return self.log_every or max(1, self.total // 50)

    def result_settings(self) -> dict[str, object]:
        """Return the settings that results depend on, as plain values."""
        defaults = {
            "network": {},
            "parts": 1,
            "drop_factor": 0.1,
            "groups": (),
            "hold": 1,
            "object_rule": "area",
            "momentum": 0,
            "muon_rate": 1.0,
            "floor": 0,
            "teacher_amp": None,
        }
        unset = {name for name, value in defaults.items() if getattr(self, name) == value}
        return self.model_dump(mode="json", exclude=_HARMLESS | unset)


def learning_rate(schedule: Schedule, iteration: int) -> float:
    """Return the learning rate of `iteration` (from 0).

    `poly_cfbi` is the published form of CFBI and AOC-Net: the warm-up starts from 0 instead of a
    first step, and the decay would reach 0 one iteration after the end.
    """
    return max(schedule.floor, _rate(schedule, iteration))


def _rate(schedule: Schedule, iteration: int) -> float:
    rate, published = schedule.learning_rate, schedule.decay == "poly_cfbi"
    if iteration < schedule.warmup:
        return rate * (iteration if published else iteration + 1) / schedule.warmup
    length = max(1, schedule.total - schedule.warmup + published)
    done = (iteration - schedule.warmup) // schedule.hold * schedule.hold / length
    match schedule.decay:
        case "cosine":
            return rate * 0.5 * (1 + math.cos(math.pi * done))
        case "poly" | "poly_cfbi":
            return rate * (1 - done) ** 0.9
        case "steps":
            return rate * schedule.drop_factor ** sum(iteration >= drop for drop in schedule.drops)
    return rate


def max_jump(schedule: Schedule, iteration: int) -> int:
    """Return the largest frame gap at `iteration`."""
    if isinstance(schedule.max_jump, int):
        return schedule.max_jump
    if isinstance(schedule.max_jump, Growth):
        return min(
            schedule.max_jump.most, schedule.max_jump.start + iteration // schedule.max_jump.every
        )
    return [jump for share, jump in schedule.max_jump if iteration >= share * schedule.iterations][
        -1
    ]


def is_diagnosed(schedule: Schedule, iteration: int) -> bool:
    """Return whether noise diagnostics look at the batch of `iteration`.

    They look at the last few batches of each of `diagnostics` equal periods.
    """
    period = max(1, schedule.total // schedule.diagnostics)
    return period - (iteration % period) <= min(schedule.diagnosed_batches, period)
