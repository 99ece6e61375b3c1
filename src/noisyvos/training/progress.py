"""Progress of a training: a bar on a terminal, a line for every tenth elsewhere, and the speed at the end."""

import sys
import time

from noisyvos.training.curve import Mean


class Progress:
    """Counts iterations and the time spent waiting for data, keeps gradient norms; nothing of it goes into an output."""

    def __init__(self, name: str, start: int, total: int, *, shown: bool = True) -> None:
        self.name, self.start, self.total, self.done = name, start, total, start
        self.began = time.monotonic()
        self.waited = 0.0
        self.norms = Mean()
        self.shown = shown  # of several processes, one shows its progress
        self._bar = None
        if shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=start, desc=name, unit="it", dynamic_ncols=True)

    def advance(self, loss: float, norm: float) -> None:
        """Count one iteration, whose gradient had length `norm`."""
        self.done += 1
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            self._bar.update()
        elif self.shown and self.done * 10 // self.total > (self.done - 1) * 10 // self.total:
            left = (self.total - self.done) / max(self.speed(), 1e-9)
            values = (
                f"{self.speed():.2f} it/s, loss {loss:.4f}, gradient {norm:.3g}, {left:.0f} s left"
            )
            print(f"{self.name}: {self.done}/{self.total}, {values}", file=sys.stderr)

    def speed(self) -> float:
        """Return iterations a second since the start of this process."""
        return (self.done - self.start) / max(time.monotonic() - self.began, 1e-9)

    def waiting_share(self) -> float:
        """Return the share of the time spent waiting for batches."""
        return self.waited / max(time.monotonic() - self.began, 1e-9)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
