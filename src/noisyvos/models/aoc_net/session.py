"""AOC-Net walking through a video frame by frame (released evaluation code)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models.aoc_net.decoder import Kept
from noisyvos.models.aoc_net.matching import Frame
from noisyvos.models.aoc_net.settings import AOCNetMemory
from noisyvos.models.base import Session

if TYPE_CHECKING:
    from noisyvos.models.aoc_net.network import AOCNet, Pool

UNRELIABLE = -1  # the label of pixels that no object takes; published: 125
LEAST = 1e-6


def entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy (H, W) in nats of probabilities (N, H, W), not divided by that of N equal ones."""
    return -(probabilities * (probabilities + LEAST).log()).sum(0)


class AOCNetSession(Session):
    """The references of one video, the frame before, and two kept feature maps."""

    def __init__(self, model: "AOCNet", *, channels: int, memory: AOCNetMemory) -> None:
        self.model = model
        self.channels = channels
        self.memory = memory
        self.known: set[int] = set()  # channels given so far
        self.references: list[Frame] = []
        self.pool: Pool | None = None  # the references joined, until they or the objects change
        self.previous: Frame | None = None
        self.kept: Kept | None = None
        self.time = 0

    @torch.inference_mode()
    def step(
        self, frame: Tensor, *, given: dict[int, Tensor] | None = None, last: bool = False
    ) -> Tensor:
        """Take the next frame; see `Session.step`."""
        from noisyvos.models.aoc_net.network import fitting

        given = given or {}
        if not self.known and not given:
            raise ValueError("the first frame of a session must give at least one object")
        size = tuple(fitting(side) for side in frame.shape[-2:])
        image = frame[None]
        if size != tuple(frame.shape[-2:]):
            image = F.interpolate(image, size, mode="bicubic", align_corners=False)
        look = self.model.embed(image)[0]
        result = frame.new_zeros(self.channels + 1, *frame.shape[-2:])
        if self.known:
            found = self._predict(look, tuple(frame.shape[-2:]))
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

    def _predict(self, look: Any, size: tuple[int, int]) -> Tensor:
        """Return probabilities (N, H, W) up to the highest channel known; channels in between that were never given are 0."""
        objects = max(self.known) + 1
        if self.pool is None or len(self.pool.proxies) != objects:
            how = {
                "clustering": self.memory.clustering,
                "start": self.memory.kmeans_start,
                "number": self.time,
            }
            self.pool = self.model.pool(self.references, objects, **how)
        logits, self.kept = self.model.predict(look, self.pool, self.previous, self.kept)
        full = F.interpolate(logits[None].float(), size, mode="bilinear", align_corners=True)[0]
        probabilities = torch.softmax(full, 0)
        probabilities[[number for number in range(1, objects) if number not in self.known]] = 0
        return probabilities

    def _refer(self, reference: Frame) -> None:
        self.references.append(reference)
        most = self.memory.max_references
        if most is not None and len(self.references) > most:
            del self.references[1 if most > 1 else 0]
        self.pool = None
