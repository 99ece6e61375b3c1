"""The interface between networks and everything that drives them.

Training, inference and methods see only this: a network turns a batch of clips into logits
(`forward_clip`) and segments a video frame by frame (`session`). Frames are RGB in [0, 1]
everywhere; normalisation, channel order and padding are internal to a network.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from noisyvos.errors import unknown_name
from noisyvos.models.fast import Replacements, Twins, prepare
from noisyvos.registry import Item, Registry, Settings

MODELS = Registry("model", "noisyvos.models")
_TWINS = Twins()
AnySettings = TypeVar("AnySettings", bound=Settings)


def choose_settings(kind: type[AnySettings], values: Mapping[str, Any], where: str) -> AnySettings:
    """Return `values` as settings of `kind`.

    UserError lists the known names if one is unknown, or says which value is impossible.
    """
    for name in values:
        if name not in kind.model_fields:
            raise unknown_name(f"setting of {where}", name, kind.model_fields)
    settings = Item(where, kind, kind, "").validate(dict(values), where)
    assert isinstance(settings, kind)
    return settings


@dataclass(frozen=True)
class Origin:
    """Where the pixels and slots of a batch come from, for state in source-image coordinates."""

    # (B, T, 2, 3) float32: maps points (x, y, 1) of a frame to its source image; pixel centres at
    # halves
    to_source: Tensor
    sizes: tuple[tuple[int, int], ...]  # per sample (height, width) of the source images
    # per sample the object ids of slots 1..n; empty if the clip trains as background
    objects: tuple[tuple[int, ...], ...]

    def to(self, device: torch.device | str) -> "Origin":
        """Return the origin with its tensor on `device`."""
        return replace(self, to_source=self.to_source.to(device, non_blocking=True))

    def rows(self, rows: slice) -> "Origin":
        """Return the origin of some samples."""
        return Origin(self.to_source[rows], self.sizes[rows], self.objects[rows])


@dataclass(frozen=True)
class Clip:
    """A training batch of B clips of T frames."""

    # (B, T, 3, H, W) float32 RGB in [0, 1]; until `to`, they may be uint8
    frames: Tensor
    # (B, T, H, W) int64: 0 background, 1..K objects, 255 ignored; frame 0 is the prompt. Until
    # `to`, they may be uint8, as may `clean`.
    masks: Tensor
    num_objects: Tensor  # (B,) int64: how many of the K slots are used, at least 1
    slots: int  # K, equal for all samples
    # per sample (dataset, sequence, frame 0, ..., frame T-1): for state and logs
    keys: tuple[tuple[str, ...], ...] = ()
    # (B, T, H, W) int64 clean labels; only diagnostics and oracle methods may read them
    clean: Tensor | None = None
    origin: Origin | None = None  # the recorded augmentation
    # (index of the first sample, B) in the batch that these samples are part of; None: a whole
    # batch
    part_of: tuple[int, int] | None = None
    progress: float = 0.0  # share of the training before this batch, in [0, 1)

    def to(self, device: torch.device | str) -> "Clip":
        """Return the clip with every tensor on `device`, in the types that networks take.

        Bytes become numbers there, so that a GPU gets a quarter of the frames' bytes.
        """
        frames = self.frames.to(device, non_blocking=True)
        if frames.dtype == torch.uint8:
            # Division by a tensor is exact on a GPU too, where that by a number is not.
            frames = frames.float().div_(torch.full((), 255.0, device=frames.device))
        return replace(
            self,
            frames=frames,
            masks=self.masks.to(device, non_blocking=True).long(),
            num_objects=self.num_objects.to(device, non_blocking=True),
            clean=None if self.clean is None else self.clean.to(device, non_blocking=True).long(),
            origin=None if self.origin is None else self.origin.to(device),
        )

    def pin_memory(self) -> "Clip":
        """Return the clip in page-locked memory, from which a GPU copies on its own."""
        return replace(
            self,
            frames=self.frames.pin_memory(),
            masks=self.masks.pin_memory(),
            num_objects=self.num_objects.pin_memory(),
            clean=None if self.clean is None else self.clean.pin_memory(),
        )

    def resized(self, scale: float) -> "Clip":
        """Return the clip at another scale, frames bilinear and labels nearest.

        Clean labels and origin are left out.
        """
        samples, times, colours, height, width = self.frames.shape
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        frames = nn.functional.interpolate(
            self.frames.flatten(0, 1), size, mode="bilinear", align_corners=False
        )
        masks = nn.functional.interpolate(self.masks.float(), size, mode="nearest").to(self.masks)
        frames = frames.view(samples, times, colours, *size)
        return replace(self, frames=frames, masks=masks, clean=None, origin=None)

    def rows(self, first: int, count: int) -> "Clip":
        """Return `count` samples from `first` on, as a batch."""
        rows = slice(first, first + count)
        return replace(
            self,
            frames=self.frames[rows],
            masks=self.masks[rows],
            num_objects=self.num_objects[rows],
            keys=self.keys[rows],
            clean=None if self.clean is None else self.clean[rows],
            origin=None if self.origin is None else self.origin.rows(rows),
            part_of=self.place(first),
        )

    def place(self, first: int = 0) -> tuple[int, int]:
        """Return the index of sample `first` in the whole batch, and the size of that batch."""
        start, whole = self.part_of or (0, len(self.frames))
        return start + first, whole

    def first_mask(self) -> Tensor:
        """Return the prompt as one binary plane a slot, (B, K, H, W) float32."""
        ids = torch.arange(1, self.slots + 1, device=self.masks.device).view(1, -1, 1, 1)
        return (self.masks[:, :1] == ids).float()


@dataclass(frozen=True)
class ClipOutput:
    """What a network predicts for a batch of clips."""

    # for t = 1..T-1 (B, K+1, H, W) float32 aggregated logits, channel 0 background
    logits: tuple[Tensor, ...]
    # scalar losses that the network adds, weights included
    auxiliary: dict[str, Tensor] = field(default_factory=dict)
    # likewise for t = 0, of networks that predict the prompted frame too (scribbles)
    first: Tensor | None = None


def resized_output(output: ClipOutput, size: tuple[int, int]) -> ClipOutput:
    """Return the logits at another size (height, width), bilinear, without auxiliary losses."""
    logits = (
        nn.functional.interpolate(each, size, mode="bilinear", align_corners=False)
        for each in output.logits
    )
    return ClipOutput(tuple(logits))


class Session(ABC):
    """One video that is being segmented; the session holds the memory, the network holds none."""

    # True: the session resizes frames to `working_size` itself, and takes masks and returns results
    # at full size
    resizes: ClassVar[bool] = False
    working_size: tuple[int, int] | None = None  # (height, width); None: that of the frames

    @abstractmethod
    def step(
        self, frame: Tensor, *, given: dict[int, Tensor] | None = None, last: bool = False
    ) -> Tensor:
        """Take the next frame and return probabilities (C+1, H, W) float32, background first.

        frame: (3, H, W) RGB in [0, 1] on the network's device. `given` maps channel (1..C) to a
        bool mask (H, W) for the objects annotated in this frame (channel 0 is a background
        scribble, for networks that take scribbles); the first call must give at least one. Channels
        not given so far are 0. `last` marks the final frame.
        """

    def rows(self, numbers: Sequence[int], device: torch.device) -> Tensor:
        """Return the index tensor of `numbers`; it is kept on the device.

        A list as an index would be copied to a GPU each time, and the host would wait for it.
        """
        kept: dict[tuple[int, ...], Tensor] = self.__dict__.setdefault("_rows", {})
        key = tuple(numbers)
        if key not in kept:
            kept[key] = torch.tensor(key, dtype=torch.long, device=device)
        return kept[key]

    @abstractmethod
    def memory_usage(self) -> dict[str, Any]:
        """Return what the memory holds now; the documentation lists the keys per model."""


class VideoModel(nn.Module, ABC):
    """A network for semi-supervised video object segmentation."""

    memory_settings: ClassVar[type[Settings]]  # what `session` takes, with defaults
    # the label of a background scribble; None for networks that take masks
    background_label: ClassVar[int | None] = None
    fast_blocks: ClassVar[Replacements] = {}  # the network's own blocks that have a faster twin
    # methods whose work depends on the shapes of their tensors only; see `fast.recording`
    recorded_parts: ClassVar[tuple[str, ...]] = ()
    is_twin: bool = False  # whether `for_inference` made this network
    # layout of the frames that the encoders see
    memory_format: torch.memory_format = torch.contiguous_format

    @property
    def takes_scribbles(self) -> bool:
        """Whether annotations are scribbles, which only hint; annotated frames are predicted."""
        return self.background_label is not None

    def for_inference(self, half: torch.dtype | None = None) -> Self:
        """Return a faster twin with the present weights, in eval mode; it cannot be trained.

        half: the type of half precision that autocast computes in; the twin's convolutions and
        products then have their weights in it. The twin is kept until a weight changes. A twin
        returns itself.
        """
        if self.is_twin:
            return self

        def make() -> VideoModel:
            twin = prepare(self, self.fast_blocks, half)
            twin.memory_format, twin.is_twin = torch.channels_last, True
            return twin

        return _TWINS.get(self, half, make)

    @classmethod
    def settings_from_official(cls, state: dict[str, Tensor]) -> dict[str, Any]:
        """Return the settings that a published state dict was made with.

        UserError if the state dict belongs to another network.
        """
        return {}

    @classmethod
    def convert_official(cls, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a published state dict under this module's names, by default unchanged."""
        return state

    @abstractmethod
    def forward_clip(self, clip: Clip, *, generator: torch.Generator) -> ClipOutput:
        """Run the training pass on a batch of clips.

        Every random choice comes from `generator` (a CPU generator). Choices for single samples are
        drawn for the whole batch that `clip.part_of` names, so that a sample gets the same choices
        in whatever part of the batch it is computed.
        """

    @abstractmethod
    def session(self, *, channels: int, memory: Any, length: int | None) -> Session:
        """Start a video with `channels` objects in all.

        `memory` holds settings of the class `memory_settings`. `length` is the number of frames
        from the first annotated one on, None if unknown.
        """
