"""Weights on the way: published trainings keep one set every so many iterations, to choose between or to look back."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from noisyvos import models

if TYPE_CHECKING:
    from noisyvos.training.step import Learner


class Iterates:
    """Writes `weights-00025000.safetensors` beside the final weights; without a file or an interval it does nothing."""

    def __init__(self, file: Path | None, every: int | None, start: int) -> None:
        self._file, self._every = file, every
        if file is not None and every is not None:
            for path in file.parent.glob(f"{file.stem}-{'[0-9]' * 8}{file.suffix}"):
                if int(path.stem[-8:]) > start:  # of an earlier training, or to be made again
                    path.unlink(missing_ok=True)

    def after(self, done: int, learner: "Learner") -> None:
        """Keep the first network's weights where `done` iterations are a multiple of the interval; a full disk is only told of."""
        if self._file is None or self._every is None or done % self._every:
            return
        path = self._file.with_name(f"{self._file.stem}-{done:08d}{self._file.suffix}")
        try:
            models.save_weights(learner.networks[0], path)
        except OSError as error:
            print(
                f"noisyvos: warning: {path} was not written ({error}); training goes on.",
                file=sys.stderr,
            )
