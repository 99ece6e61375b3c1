"""What the transfers of one command share: the progress bar and the order to stop."""

import threading
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm


class Stopped(Exception):
    """The work ended because the command ends."""


@dataclass
class Watch:
    """One bar in bytes for all files, with rate and time left, and one switch that ends all transfers."""

    bar: Any = field(default_factory=lambda: tqdm(disable=True))
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self) -> None:
        """Raise Stopped if another transfer failed or the user ended the command."""
        if self.stop.is_set():
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Wait, or raise Stopped as soon as the command ends."""
        self.stop.wait(seconds)
        self.check()


@dataclass
class Meter:
    """One file on the shared bar."""

    watch: Watch
    _counted: int | None = (
        None  # bytes of this file that the bar shows; None before the file is known
    )

    def place(self, start: int, length: int | None) -> None:
        """Say that bytes from `start` on come now; what was there before counts for the total but not for the rate."""
        with self.watch.lock:
            bar = self.watch.bar
            if self._counted is None:
                bar.total = (getattr(bar, "total", 0) or 0) + (length or 0)
                bar.initial = getattr(bar, "initial", 0) + start
            bar.update(start - (self._counted or 0))
            self._counted = start

    def advance(self, count: int) -> None:
        """Count `count` bytes that arrived."""
        with self.watch.lock:
            self.watch.bar.update(count)
            self._counted = (self._counted or 0) + count
