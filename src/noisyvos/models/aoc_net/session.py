"""AOC-Net's inference, frame by frame (released evaluation code)."""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models.aoc_net.decoder import CarriedMaps
from noisyvos.models.aoc_net.references import Clustering, LabelledFrame, Look, Pool, Start
from noisyvos.models.aoc_net.settings import AOCNetMemory
from noisyvos.models.base import Session

STEP = 16  # sides are a multiple of this, plus 1
UNRELIABLE = -1  # the label of pixels without an object; published: 125
LEAST = 1e-6


class AOCNetParts(Protocol):
    """What a session uses of the network; see `noisyvos.models.aoc_net.network.AOCNet`."""

    def embed(self, frames: Tensor) -> list[Look]: ...

    def pool(
        self,
        frames: list[LabelledFrame],
        objects: int,
        *,
        clustering: Clustering,
        start: Start,
        number: int,
    ) -> Pool: ...

    def predict(
        self, look: Look, pool: Pool, previous: LabelledFrame, kept: CarriedMaps | None
    ) -> tuple[Tensor, CarriedMaps]: ...


def fitting(side: int) -> int:
    """Return the published size nearest to a side: a multiple of 16, plus 1.

    Ties go to the even multiple.
    """
    return max(1, round((side - 1) / STEP)) * STEP + 1


def entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy (H, W) in nats of probabilities (N, H, W)."""
    return -(probabilities * (probabilities + LEAST).log()).sum(0)


class AOCNetSession(Session):
    """The references of one video, the previous frame, and two carried feature maps."""

    resizes = True  # once, bicubic, to sides of 16k + 1; masks stay at full size, as published

    def __init__(self, network: AOCNetParts, *, channels: int, memory: AOCNetMemory) -> None:
        self.network = network
        self.channels = channels
        self.memory = memory
        self.known: set[int] = set()  # channels given so far
        self.references: list[LabelledFrame] = []
        self.pool: Pool | None = None  # the references joined, until they or the objects change
        self.previous: LabelledFrame | None = None
        self.kept: CarriedMaps | None = None
        self.time = 0

    @torch.inference_mode()
    def step(
        self, frame: Tensor, *, given: dict[int, Tensor] | None = None, last: bool = False
    ) -> Tensor:
        """Take the next frame; see `Session.step`."""
        given = given or {}
        if not self.known and not given:
            raise ValueError("the first frame of a session must give at least one object")
        height, width = frame.shape[-2:]
        working = self.working_size or (height, width)
        size = (fitting(working[0]), fitting(working[1]))
        image = frame[None]
        if size != (height, width):
            image = F.interpolate(image, size, mode="bicubic", align_corners=False)
        look = self.network.embed(image)[0]
        result = frame.new_zeros(self.channels + 1, height, width)
        if self.previous is not None:
            found = self._predict(look, self.previous, (height, width))
            result[: len(found)] = found
        else:
            for channel, mask in given.items():
                result[channel] = mask
            result[0] = 1 - result[1:].amax(0)
        labels = result.argmax(0)
        unsure = entropy(result)
        for channel, mask in given.items():
            labels[mask] = channel
            unsure[mask] = 0
        reliable = torch.where(unsure > self.memory.uncertainty_threshold, UNRELIABLE, labels)
        every = self.memory.mem_every
        self.known |= set(given)
        if given or (every is not None and self.time % every == 0):
            self._refer(look.with_mask(reliable))
        self.previous = look.with_mask(labels)
        self.time += 1
        return result

    def memory_usage(self) -> dict[str, Any]:
        """Return the number of reference frames."""
        return {"references": len(self.references)}

    def _predict(self, look: Look, previous: LabelledFrame, size: tuple[int, int]) -> Tensor:
        """Return probabilities (N, H, W) up to the highest known channel.

        Channels in between that were never given are 0.
        """
        objects = max(self.known) + 1
        if self.pool is None or len(self.pool.proxies) != objects:
            self.pool = self.network.pool(
                self.references,
                objects,
                clustering=self.memory.clustering,
                start=self.memory.kmeans_start,
                number=self.time,
            )
        logits, self.kept = self.network.predict(look, self.pool, previous, self.kept)
        full = F.interpolate(logits[None].float(), size, mode="bilinear", align_corners=True)[0]
        probabilities = torch.softmax(full, 0)
        absent = [number for number in range(1, objects) if number not in self.known]
        if absent:
            probabilities[self.rows(absent, probabilities.device)] = 0
        return probabilities

    def _refer(self, reference: LabelledFrame) -> None:
        self.references.append(reference)
        most = self.memory.max_references
        if most is not None and len(self.references) > most:
            del self.references[1 if most > 1 else 0]
        self.pool = None
