"""A trace of a few iterations, for the question where the time goes."""

from pathlib import Path

import torch

FIRST, LAST = (
    5,
    10,
)  # iterations since the start of the process, counted from 0: the ones before warm up


class Trace:
    """Records iterations 5 to 10 and writes them for chrome://tracing; without a file it does nothing."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.seen = 0
        self._profiler: torch.profiler.profile | None = None

    def before(self) -> None:
        """Start where it is time to; call it before every iteration."""
        if self.file is not None and self.seen == FIRST:
            self._profiler = torch.profiler.profile(profile_memory=True)
            self._profiler.start()
        self.seen += 1

    def after(self, *, last: bool) -> None:
        """Write the file when the last of the iterations is done, or the training is; call it after every iteration."""
        if self._profiler is None or not (last or self.seen > LAST):
            return
        self._profiler.stop()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._profiler.export_chrome_trace(str(self.file))
        self._profiler = None
