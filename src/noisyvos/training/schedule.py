"""Training schedules: how long, how fast, and on what kind of clips.

All numbers of an iteration follow from its index.
"""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from noisyvos.datasets.augmentations.base import AUGMENTATIONS
from noisyvos.errors import unknown_name
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


class Growth(Settings):
    """A largest jump that grows by one every so many iterations, as in STM and RHMNet."""

    start: PositiveInt = 1
    every: PositiveInt  # iterations
    most: PositiveInt


class Schedule(Settings):
    """One entry of train.yaml. Lengths are in iterations, `crop` and `min_area` in pixels."""

    # a setting that names a registered kind: its code is a dependency of the cell
    builds: ClassVar[dict[str, str]] = {"augmentation": "noisyvos.datasets.augmentations.kinds"}

    iterations: PositiveInt
    # Further iterations at the last jump, without rotation and shear.
    finetune: int = Field(0, ge=0)
    batch: PositiveInt = 4
    # A batch passes through the network in so many parts, whose gradients are added.
    parts: PositiveInt = 1

    learning_rate: PositiveFloat
    optimizer: Annotated[str, Field(json_schema_extra={"enum": [*OPTIMIZERS]})] = "adamw"
    momentum: float = Field(0, ge=0, lt=1)  # Nesterov's, of `sgd`
    # With `muon`: the convolutions' learning rate over that of the other parameters.
    muon_rate: PositiveFloat = 1.0
    weight_decay: float = Field(0.01, ge=0)
    warmup: int = Field(0, ge=0)  # the learning rate rises linearly over these
    # poly_cfbi: see `learning_rate`.
    decay: Literal["constant", "cosine", "steps", "poly", "poly_cfbi"] = "constant"
    # With decay `steps`: the learning rate is multiplied by `drop_factor` at each of these.
    drops: tuple[PositiveInt, ...] = ()
    drop_factor: float = Field(0.1, gt=0, lt=1)
    # With decay `cosine`, `poly` or `poly_cfbi`: the rate changes after every so many iterations.
    hold: PositiveInt = 1
    floor: float = Field(0, ge=0)  # the learning rate never falls below it, nor does it start lower
    gradient_clip: PositiveFloat | None = None
    # Half precision, on a GPU only; true: fp16 with loss scaling.
    amp: bool | Literal["fp16", "bf16"] = True
    # Parameters with other rates; of several groups that match a name the first counts.
    groups: tuple[ParameterGroup, ...] = ()

    clip_length: int = Field(3, ge=2)
    # near: within `max_jump` of a chosen frame (XMem); forward: at most that far ahead each time
    # (STM); any: any frames; still: one frame over and over.
    sampler: Literal["near", "forward", "any", "still"] = "near"
    # In annotated frames: a number, a curriculum, or steps (share of `iterations`, jump).
    max_jump: PositiveInt | Growth | tuple[tuple[float, PositiveInt], ...] = 2
    reverse: float = Field(0.5, ge=0, le=1)  # probability of showing a clip backwards
    objects: PositiveInt = 2  # slots K
    min_area: PositiveInt = 1  # of an object in the first mask
    # Which objects of the first mask count: `min_area`, or XMem's rule for BL30K.
    object_rule: Literal["area", "lasting"] = "area"
    augmentation: str = "light"
    # None: whole frames, all of one size.
    crop: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None

    # Settings of the network for this training alone.
    network: dict[str, bool | int | float | str] = Field(default_factory=dict)

    diagnostics: PositiveInt = 20  # how often over the training noise diagnostics are measured
    diagnosed_batches: PositiveInt = 4  # batches each of them looks at
    # Iterations between rows of the curve; None: fifty rows in all.
    log_every: PositiveInt | None = None
    # None of the settings below changes a result.
    checkpoint_every: PositiveInt = 50
    checkpoints_kept: PositiveInt = 2  # the last ones
    # Iterations between weight snapshots beside the final weights; None: only the final ones.
    keep_weights_every: PositiveInt | None = None
    workers: int = Field(0, ge=0)  # processes that prefetch batches
    published: bool = False  # of authors who start from trained weights: never from random ones

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
