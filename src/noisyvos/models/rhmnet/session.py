"""RHMNet walking through a video frame by frame (released evaluation code).

Three kinds of memory: the user's scribbles for good, predicted regions (read by the first layer) and predicted masks (read by
the second). Annotated frames are predicted like all others; scribbles are hints, not masks that hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.errors import UserError
from noisyvos.models.base import Session
from noisyvos.models.matching import padding
from noisyvos.models.rhmnet.attention import Tokens
from noisyvos.models.rhmnet.backbone import Features
from noisyvos.models.rhmnet.settings import MOST_OBJECTS, RHMNetMemory

if TYPE_CHECKING:
    from noisyvos.models.rhmnet.network import RHMNet


@dataclass
class Kept:
    """Entries of one kind: every k-th frame's, the first for good, and the last frame's in between where that is wanted."""

    every: int
    capacity: int
    keep_last: bool
    entries: list[Tokens] = field(default_factory=list)
    last: Tokens | None = None  # stays through frames that are appended, as published

    def all(self) -> list[Tokens]:
        """Return everything there is to read."""
        return self.entries if self.last is None else [*self.entries, self.last]

    def add(self, time: int, tokens: Tokens) -> None:
        """Take the entry of frame `time`."""
        if time % self.every == 0:
            self.entries.append(tokens)
        elif self.keep_last:
            self.last = tokens
        if len(self.entries) > self.capacity:
            self.entries.pop(1)


class RHMNetSession(Session):
    """The memory of one video; all objects that will ever appear have a row in it from the start."""

    def __init__(self, model: "RHMNet", *, channels: int, settings: RHMNetMemory) -> None:
        if channels > MOST_OBJECTS:
            raise UserError(
                f"This network takes at most {MOST_OBJECTS} objects, but {channels} are annotated. Leave some out."
            )
        self.model = model.for_inference()
        self.settings = settings
        self.given = torch.zeros(
            1, channels, device=next(model.parameters()).device
        )  # 1 from an object's scribble on
        self.initial: tuple[Tokens, Tokens] | None = None
        self.regions = Kept(settings.scribble_every, settings.capacity, settings.keep_last_scribble)
        self.masks = Kept(settings.mask_every, settings.capacity, settings.keep_last_mask)
        self.time = 0

    @torch.inference_mode()
    def step(
        self, frame: Tensor, *, given: dict[int, Tensor] | None = None, last: bool = False
    ) -> Tensor:
        """Take the next frame; see `Session.step`. Scribbles of objects that were given before are passed over."""
        height, width = frame.shape[-2:]
        pads = padding(height, width, self.model.stride)
        features = self.model.look(F.pad(self.model.normalise(frame)[None], pads))
        self._introduce(features, given or {}, pads)
        if self.initial is None:
            raise ValueError("the first frame of a session must give at least one object")
        found = self._track(features)
        left, _, top, _ = pads
        used = torch.cat([self.given.new_ones(1), self.given[0]])
        return found[0, :, top : top + height, left : left + width] * used[:, None, None]

    def memory_usage(self) -> dict[str, Any]:
        """Return the number of appended regions and masks, and whether the region of a frame in between is held."""
        return {
            "scribbles": len(self.regions.entries),
            "masks": len(self.masks.entries),
            "last_scribble": int(self.regions.last is not None),
        }

    def _introduce(
        self, features: Features, given: Mapping[int, Tensor], pads: tuple[int, int, int, int]
    ) -> None:
        """Take the scribbles of objects that are new; the others' rows of the initial memory stay as they are."""
        new = [channel - 1 for channel in given if channel > 0 and not self.given[0, channel - 1]]
        if not new:
            return
        first = next(iter(given.values()))
        scribbles = torch.zeros(1, self.given.shape[1] + 1, *first.shape, device=first.device)
        for channel, pixels in given.items():
            if channel > 0 or self.settings.background_scribble:
                scribbles[0, channel] = pixels.float()
        tokens = self.model.initial_memory(features, F.pad(scribbles, pads))
        memory = tuple(
            layer.remember(each)
            for layer, each in zip(self.model.transformer.decoders, tokens, strict=True)
        )
        if self.initial is not None:
            rows = torch.tensor(new, device=first.device)
            memory = tuple(
                old.with_rows(rows, each) for old, each in zip(self.initial, memory, strict=True)
            )
        self.initial = (memory[0], memory[1])
        self.given[0, new] = 1

    def _track(self, features: Features) -> Tensor:
        """Return the probabilities (1, K + 1, H, W) of a frame and remember it; without masks yet, its own regions are not read."""
        first, second = self.model.transformer.decoders
        regions = self.model.find_regions(
            features, [self.initial[0], *self.regions.all()], self.given
        )
        masks = self.masks.all()
        memory = [self.initial[1], *masks, *([second.remember(regions.memory)] if masks else [])]
        targets = self.model.find_targets(features, regions, memory, self.given)
        self.regions.add(self.time, first.remember(regions.memory))
        mask = self.model.mask_memory(targets, row=self.settings.mask_memory_row, threshold=0.0)
        self.masks.add(self.time, second.remember(mask))
        self.time += 1
        return targets.probabilities
