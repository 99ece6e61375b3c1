"""RHMNet's inference, frame by frame (released evaluation code).

There are three kinds of memory: the user's scribbles, which always stay; predicted regions, which
the first layer reads; predicted masks, which the second layer reads. Annotated frames are predicted
like all others, because scribbles only hint.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.errors import UserError
from noisyvos.models.aggregation import Pads, crop, padding
from noisyvos.models.base import Session
from noisyvos.models.rhmnet.convolutions import FrameFeatures
from noisyvos.models.rhmnet.memory import Entries
from noisyvos.models.rhmnet.settings import MOST_OBJECTS, RHMNetMemory
from noisyvos.models.rhmnet.transformer import Tokens, Transformer


@dataclass(frozen=True)
class Regions:
    """The first layer's output for B frames with K objects each."""

    readout: Tensor  # (B * K, L, C)
    logits: Tensor  # (B, K, H / 4, W / 4)
    probabilities: Tensor  # (B, K + 1, H / 4, W / 4) after aggregation, background first
    memory: Tensor  # (B * K, L, C) tokens marked with the regions


@dataclass(frozen=True)
class Targets:
    """The second layer's output for B frames with K objects each."""

    readout: Tensor  # (B * K, L, C)
    placed: (
        Tensor  # (B * K, L, C) tokens before the memory read; a memory of the mask starts from them
    )
    logits: Tensor  # (B, K + 1, H, W) after aggregation, background first
    probabilities: Tensor  # (B, K + 1, H, W): softmax over all twelve channels


class RHMNetParts(Protocol):
    """What a session uses of the network; see `noisyvos.models.rhmnet.network.RHMNet`."""

    stride: int

    @property
    def transformer(self) -> Transformer: ...

    def normalise(self, frames: Tensor) -> Tensor: ...

    def look(self, frames: Tensor) -> FrameFeatures: ...

    def initial_memory(
        self, features: FrameFeatures, scribbles: Tensor
    ) -> tuple[Tensor, Tensor]: ...

    def find_regions(
        self, features: FrameFeatures, memory: list[Tokens], used: Tensor
    ) -> Regions: ...

    def find_targets(
        self, features: FrameFeatures, regions: Regions, memory: list[Tokens], used: Tensor
    ) -> Targets: ...

    def mask_memory(self, targets: Targets, *, row: int, threshold: float) -> Tensor: ...


class RHMNetSession(Session):
    """The memory of one video.

    Every object that will ever appear has a row in it from the start.
    """

    def __init__(
        self,
        network: RHMNetParts,
        *,
        channels: int,
        memory: RHMNetMemory,
        device: torch.device,
    ) -> None:
        if channels > MOST_OBJECTS:
            raise UserError(
                f"This network takes at most {MOST_OBJECTS} objects, but {channels} are annotated. "
                "Leave some out."
            )
        self.network = network
        self.settings = memory
        self.given = torch.zeros(1, channels, device=device)  # 1 from an object's scribble on
        self.known: set[int] = set()  # the same, as rows
        self.initial: tuple[Tokens, Tokens] | None = None
        self.regions = Entries(memory.scribble_every, memory.capacity, memory.keep_last_scribble)
        self.masks = Entries(memory.mask_every, memory.capacity, memory.keep_last_mask)
        self.time = 0

    @torch.inference_mode()
    def step(
        self, frame: Tensor, *, given: dict[int, Tensor] | None = None, last: bool = False
    ) -> Tensor:
        """Take the next frame.

        See `Session.step`. Scribbles of objects that were given before are ignored.
        """
        height, width = frame.shape[-2:]
        pads = padding(height, width, self.network.stride)
        features = self.network.look(F.pad(self.network.normalise(frame)[None], pads))
        self._introduce(features, given or {}, pads)
        if self.initial is None:
            raise ValueError("the first frame of a session must give at least one object")
        found = self._track(features, *self.initial)
        used = torch.cat([self.given.new_ones(1), self.given[0]])
        return crop(found[0], pads, height, width) * used[:, None, None]

    def memory_usage(self) -> dict[str, Any]:
        """Return the number of appended regions and masks.

        Also whether the region of a frame in between is held.
        """
        return {
            "scribbles": len(self.regions.entries),
            "masks": len(self.masks.entries),
            "last_scribble": int(self.regions.last is not None),
        }

    def _introduce(self, features: FrameFeatures, given: Mapping[int, Tensor], pads: Pads) -> None:
        """Add the scribbles of new objects.

        The other rows of the initial memory stay as they are.
        """
        new = [channel - 1 for channel in given if channel > 0 and channel - 1 not in self.known]
        if not new:
            return
        one = next(iter(given.values()))
        scribbles = torch.zeros(1, self.given.shape[1] + 1, *one.shape, device=one.device)
        for channel, pixels in given.items():
            if channel > 0 or self.settings.background_scribble:
                scribbles[0, channel] = pixels.float()
        first, second = self.network.transformer.layers
        start, finish = self.network.initial_memory(features, F.pad(scribbles, pads))
        memory = first.remember(start), second.remember(finish)
        if self.initial is not None:
            rows = torch.tensor(new, device=one.device)
            old = self.initial
            memory = old[0].with_rows(rows, memory[0]), old[1].with_rows(rows, memory[1])
        self.initial = memory
        self.given[0, new] = 1
        self.known |= set(new)

    def _track(self, features: FrameFeatures, start: Tokens, finish: Tokens) -> Tensor:
        """Return the probabilities (1, K + 1, H, W) of a frame and memorise it.

        `start` and `finish` are the initial memories of both layers. While no mask is in memory,
        the frame's own regions are not read.
        """
        first, second = self.network.transformer.layers
        regions = self.network.find_regions(features, [start, *self.regions.all()], self.given)
        masks = self.masks.all()
        own = [second.remember(regions.memory)] if masks else []
        targets = self.network.find_targets(features, regions, [finish, *masks, *own], self.given)
        self.regions.add(self.time, first.remember(regions.memory))
        mask = self.network.mask_memory(targets, row=self.settings.mask_memory_row, threshold=0.0)
        self.masks.add(self.time, second.remember(mask))
        self.time += 1
        return targets.probabilities
