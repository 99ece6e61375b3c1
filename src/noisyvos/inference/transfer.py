"""Frames to the device and results back, so that copies overlap with work on a GPU.

On a GPU, frames go up as uint8 from page-locked memory in a stream of their own. Results come down
the same way, and the host waits for them only when it needs them. On a CPU nothing is copied.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Fetched:
    """Tensors on their way to the host, and the seconds of the work that made them."""

    wait: Callable[[], tuple[list[np.ndarray], float]]


class Direct:
    """A device whose memory is the host's."""

    delay = 0  # results that are under way while the next frame is worked on

    def upload(self, frame: Tensor) -> Tensor:
        """Return a host's tensor on the device."""
        return frame

    def begin(self) -> float:
        """Return when the work on a frame begins."""
        return time.perf_counter()

    def fetch(self, found: Sequence[Tensor], begun: float) -> Fetched:
        """Start to bring tensors to the host."""
        arrays = [each.numpy() for each in found]
        seconds = time.perf_counter() - begun
        return Fetched(lambda: (arrays, seconds))


class Streams:
    """A GPU: copies have streams of their own, up and down."""

    delay = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.up, self.down = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def upload(self, frame: Tensor) -> Tensor:
        """Return a host's tensor on the device; the current stream waits for it, not the host."""
        if frame.device.type != "cpu":
            return frame.to(self.device)
        with torch.cuda.stream(self.up):
            there = frame.pin_memory().to(self.device, non_blocking=True)
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self.up)
        there.record_stream(current)
        return there

    def begin(self) -> torch.cuda.Event:
        """Mark where the work on a frame begins."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def fetch(self, found: Sequence[Tensor], begun: torch.cuda.Event) -> Fetched:
        """Start to bring tensors to the host."""
        done = self.begin()
        here = []
        self.down.wait_event(done)
        with torch.cuda.stream(self.down):
            for each in found:
                target = torch.empty(each.shape, dtype=each.dtype, pin_memory=True)
                here.append(target.copy_(each, non_blocking=True))
                each.record_stream(self.down)
            arrived = torch.cuda.Event()
            arrived.record(self.down)

        def wait() -> tuple[list[np.ndarray], float]:
            arrived.synchronize()
            # Copies, because page-locked memory is scarce and a caller may keep every result.
            arrays = [each.numpy().copy() for each in here]
            return arrays, begun.elapsed_time(done) / 1000

        return Fetched(wait)


def link(device: torch.device) -> Direct | Streams:
    """Return how tensors get to a device and back."""
    return Streams(device) if device.type == "cuda" else Direct()
