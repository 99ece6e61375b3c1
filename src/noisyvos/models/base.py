"""The one interface between networks and everything that drives them.

Training, inference and methods see only this: a network turns a clip into logits (`forward_clip`) and walks a video
frame by frame (`session`). Frames are RGB in [0, 1] everywhere; normalisation, channel order and padding are the
network's own affair.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from noisyvos.errors import unknown_name
from noisyvos.registry import Item, Registry, Settings

MODELS = Registry("model", "noisyvos.models")


def choose_settings(kind: type[Settings], values: dict[str, Any], where: str) -> Settings:
    """Return `values` as settings of `kind`; UserError lists the known names for an unknown one, or says what is impossible."""
    for name in values:
        if name not in kind.model_fields:
            raise unknown_name(f"setting of {where}", name, kind.model_fields)
    return Item(where, kind, kind, "").validate(values, where)


@dataclass(frozen=True)
class Origin:
    """Where the pixels and slots of a batch come from: what state in source-image coordinates is read and written with."""

    to_source: Tensor  # (B, T, 2, 3) float32: points (x, y, 1) of a frame to points of its source image, pixel centres at halves
    sizes: tuple[tuple[int, int], ...]  # per sample (height, width) of the source images
    objects: tuple[
        tuple[int, ...], ...
    ]  # per sample the object ids of slots 1..n; none where the clip trains as background

    def to(self, device: torch.device | str) -> "Origin":
        """Return the origin with its tensor on `device`."""
        return replace(self, to_source=self.to_source.to(device, non_blocking=True))

    def rows(self, rows: slice) -> "Origin":
        """Return the origin of some samples."""
        return Origin(self.to_source[rows], self.sizes[rows], self.objects[rows])


@dataclass(frozen=True)
class Clip:
    """A training batch of clips."""

    frames: Tensor  # (B, T, 3, H, W) float32 RGB in [0, 1]
    masks: (
        Tensor  # (B, T, H, W) int64: 0 background, 1..K objects, 255 ignored; frame 0 is the prompt
    )
    num_objects: Tensor  # (B,) int64: how many of the K slots are used, at least 1
    slots: int  # K, equal for all samples
    keys: tuple[
        tuple[str, ...], ...
    ] = ()  # per sample (dataset, sequence, frame 0, ..., frame T-1): for state and logs
    clean: Tensor | None = (
        None  # (B, T, H, W) int64 clean labels, for diagnostics and oracle methods: no other loss may read them
    )
    origin: Origin | None = (
        None  # the recorded augmentation, for methods with state in source-image coordinates
    )
    part_of: tuple[int, int] | None = (
        None  # (index of the first sample, B) in the batch these are samples of; None: a whole batch
    )
    progress: float = 0.0  # share of the training that lies before this batch, in [0, 1)

    def to(self, device: torch.device | str) -> "Clip":
        """Return the clip with every tensor on `device`."""
        clean = None if self.clean is None else self.clean.to(device, non_blocking=True)
        return Clip(
            self.frames.to(device, non_blocking=True),
            self.masks.to(device, non_blocking=True),
            self.num_objects.to(device, non_blocking=True),
            self.slots,
            self.keys,
            clean,
            None if self.origin is None else self.origin.to(device),
            self.part_of,
            self.progress,
        )

    def resized(self, scale: float) -> "Clip":
        """Return what a network needs of the clip at another scale: frames bilinear, labels nearest, no clean labels and no origin."""
        samples, times, colours, height, width = self.frames.shape
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        frames = nn.functional.interpolate(
            self.frames.flatten(0, 1), size, mode="bilinear", align_corners=False
        )
        masks = nn.functional.interpolate(self.masks.float(), size, mode="nearest").to(self.masks)
        same = {"part_of": self.part_of, "progress": self.progress}
        return Clip(
            frames.view(samples, times, colours, *size),
            masks,
            self.num_objects,
            self.slots,
            self.keys,
            **same,
        )

    def rows(self, first: int, count: int) -> "Clip":
        """Return `count` samples from `first` on, as a batch of their own."""
        rows = slice(first, first + count)
        clean = None if self.clean is None else self.clean[rows]
        origin = None if self.origin is None else self.origin.rows(rows)
        tensors = (self.frames[rows], self.masks[rows], self.num_objects[rows])
        return Clip(
            *tensors, self.slots, self.keys[rows], clean, origin, self.place(first), self.progress
        )

    def place(self, first: int = 0) -> tuple[int, int]:
        """Return where sample `first` lies in the whole batch, and how many samples that has."""
        start, whole = self.part_of or (0, len(self.frames))
        return start + first, whole

    def first_mask(self) -> Tensor:
        """Return the prompt as one binary plane a slot, (B, K, H, W) float32."""
        ids = torch.arange(1, self.slots + 1, device=self.masks.device).view(1, -1, 1, 1)
        return (self.masks[:, :1] == ids).float()


@dataclass(frozen=True)
class ClipOutput:
    """What a network says of a clip."""

    logits: tuple[
        Tensor, ...
    ]  # for t = 1..T-1 (B, K+1, H, W) float32 aggregated logits, channel 0 background
    auxiliary: dict[str, Tensor] = field(
        default_factory=dict
    )  # scalar losses of the network's own, weights included
    first: Tensor | None = (
        None  # likewise for t = 0, of networks that predict the prompted frame too (scribbles)
    )


def resized_output(output: ClipOutput, size: tuple[int, int]) -> ClipOutput:
    """Return the logits at another size (height, width), bilinear, without auxiliary losses."""
    logits = (
        nn.functional.interpolate(each, size, mode="bilinear", align_corners=False)
        for each in output.logits
    )
    return ClipOutput(tuple(logits))


class Session(ABC):
    """One video being segmented; it holds the memory, the network holds none."""

    @abstractmethod
    def step(
        self, frame: Tensor, *, given: dict[int, Tensor] | None = None, last: bool = False
    ) -> Tensor:
        """Take the next frame and return probabilities (C+1, H, W) float32, background first.

        frame: (3, H, W) RGB in [0, 1] on the network's device. `given` maps channel (1..C) to a bool mask (H, W) for the
        objects annotated in this frame (channel 0 is a background scribble, for networks that take scribbles); the first
        call must give at least one. Channels not given so far are 0. `last` marks the final frame.
        """

    @abstractmethod
    def memory_usage(self) -> dict[str, Any]:
        """Return what the memory holds now; the keys are listed per model in the documentation."""


class VideoModel(nn.Module, ABC):
    """A network for semi-supervised video object segmentation."""

    memory_settings: ClassVar[type[Settings]]  # what `session` takes, with defaults
    background_label: ClassVar[int | None] = (
        None  # networks that take scribbles: the label of a background scribble
    )

    @property
    def takes_scribbles(self) -> bool:
        """Whether annotations are scribbles: hints only, so that annotated frames are predicted too, not masks that hold."""
        return self.background_label is not None

    @classmethod
    def settings_from_official(cls, state: dict[str, Tensor]) -> dict[str, Any]:
        """Return the settings that a published state dict was made with; UserError if it belongs to another network."""
        return {}

    @classmethod
    def convert_official(cls, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a published state dict in this module's own names; they are equal unless a network says otherwise."""
        return state

    @abstractmethod
    def forward_clip(self, clip: Clip, *, generator: torch.Generator) -> ClipOutput:
        """Run the training pass on a batch of clips; every random choice comes from `generator` (a CPU generator).

        Choices for single samples are drawn for the whole batch that `clip.part_of` tells of, so that samples meet the same
        chance with whatever others they are computed.
        """

    @abstractmethod
    def session(self, *, channels: int, memory: Settings, length: int | None) -> Session:
        """Start a video with `channels` objects in all; `length` is the number of frames from the first annotated one, if known."""
