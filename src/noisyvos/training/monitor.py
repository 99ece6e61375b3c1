"""What a user sees of a running training: progress, speed, memory, a trace.

Nothing of it enters a result, so a change here re-trains nothing.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from noisyvos.watching.progress import ProgressFile

if TYPE_CHECKING:
    import torch

FIRST, LAST = 5, 10  # traced iterations of the process, counted from 0; those before warm up


class Progress:
    """Counts iterations and the time spent waiting for data.

    It shows a bar on a terminal and elsewhere a line for every tenth of the training. Every few
    seconds it also writes how far it is to `file`, for `noisyvos status`.
    """

    def __init__(
        self, name: str, start: int, total: int, *, shown: bool = True, file: Path | None = None
    ) -> None:
        self.name, self.start, self.total, self.done = name, start, total, start
        self.began = time.monotonic()
        self.waited = 0.0
        self.shown = shown  # one of several processes shows its progress
        self._file = ProgressFile(file if shown else None, name)
        self._bar = None
        if shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=start, desc=name, unit="it", dynamic_ncols=True)

    def advance(self, loss: float, norm: float) -> None:
        """Count one iteration, whose gradient had length `norm`."""
        self.done += 1
        self._file.write(self.done, self.total, self.speed(), loss)
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            self._bar.update()
        elif self.shown and self.done * 10 // self.total > (self.done - 1) * 10 // self.total:
            left = (self.total - self.done) / max(self.speed(), 1e-9)
            print(
                f"{self.name}: {self.done}/{self.total}, {self.speed():.2f} it/s, "
                f"loss {loss:.4f}, gradient {norm:.3g}, {left:.0f} s left",
                file=sys.stderr,
            )

    def speed(self) -> float:
        """Return iterations per second since the start of this process."""
        return (self.done - self.start) / max(time.monotonic() - self.began, 1e-9)

    def waiting_share(self) -> float:
        """Return the share of the time spent waiting for batches."""
        return self.waited / max(time.monotonic() - self.began, 1e-9)

    def close(self) -> None:
        """End the bar and remove the file."""
        self._file.remove()
        if self._bar is not None:
            self._bar.close()

    def report(self, device: "torch.device") -> dict[str, float]:
        """Print speed and memory of the finished training and return them by metric name."""
        speed, waiting, peak = self.speed(), self.waiting_share(), memory_peak(device)
        print(
            f"{self.name}: {speed:.2f} it/s, {waiting:.1%} of it waiting for data, "
            f"peak memory {peak:.0f} MiB",
            file=sys.stderr,
        )
        return {
            "speed/iterations_per_second": speed,
            "speed/data_wait_share": waiting,
            "speed/peak_memory_mib": peak,
        }


def memory_peak(device: "torch.device") -> float:
    """Return the highest memory use so far in MiB: of the GPU, or on a CPU of the process."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


class Trace:
    """Records iterations 5 to 10 and writes them for chrome://tracing; without a file, nothing."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.seen = 0
        self._profiler: torch.profiler.profile | None = None

    def before(self) -> None:
        """Start the recording when it is due; call it before every iteration."""
        if self.file is not None and self.seen == FIRST:
            import torch

            self._profiler = torch.profiler.profile(profile_memory=True)
            self._profiler.start()
        self.seen += 1

    def after(self, *, last: bool) -> None:
        """Write the file after the last iteration to record, or the training's last one.

        Call it after every iteration.
        """
        if self.file is None or self._profiler is None or not (last or self.seen > LAST):
            return
        self._profiler.stop()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._profiler.export_chrome_trace(str(self.file))
        self._profiler = None
