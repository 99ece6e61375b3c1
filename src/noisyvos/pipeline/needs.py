"""What a job asks of a machine: CPU threads, memory, time and GPUs.

All of it follows from the stage, the network and the schedule of the cell. Nothing follows from the
machine that reads the Snakefile, so a login node without a GPU plans the same jobs as a node with
eight.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from noisyvos.pipeline.dvc_yaml import ONCE, Pipeline

MODELS, SCHEDULES = "params/models.yaml", "params/train.yaml"
_SMALL_KINDS = "_tiny"  # how the names of the small networks' kinds end

# a small network trains and infers on a CPU in this (MB, minutes); measured peaks are below 1.5 GB
SMALL = {"mem_mb": 4000, "runtime": 480}


@dataclass(frozen=True)
class Needs:
    """What the jobs of one stage ask for. `resources` are those of its largest network.

    Each is a number, or a function of the wildcards in a stage that runs networks. A small network
    asks for no more than `SMALL`. A training asks, for each of its processes, for a CPU and
    one more for each process that prefetches (`workers` of its schedule), `most_threads` at most.
    """

    pipeline: Pipeline
    stage: str
    most_threads: int
    largest: Mapping[str, int]

    @property
    def threads(self) -> int | Callable[..., int]:
        """The threads of each job."""
        if not any("schedule" in cell for cell in self._cells.values()):
            return self.most_threads
        return _of_wildcards(self._training_threads)

    @property
    def resources(self) -> dict[str, int | Callable[..., int]]:
        """The resources of each job by name."""
        if "gpu" not in self.largest:  # no network runs
            return dict(self.largest)
        return {name: self._resource(name, value) for name, value in self.largest.items()}

    @cached_property
    def _cells(self) -> dict[str, dict[str, Any]]:
        return self.pipeline.cells_of(self.stage)

    def _resource(self, name: str, value: int) -> int | Callable[..., int]:
        if name not in SMALL:
            return value
        least = min(value, SMALL[name])
        return _of_wildcards(lambda key: least if self._small(key) else value)

    def _small(self, key: str) -> bool:
        model = self._cells[key]["model"]
        entry = self.pipeline.parameters(MODELS).get(model) or {}
        return str(entry.get("kind", model)).endswith(_SMALL_KINDS)

    def _training_threads(self, key: str) -> int:
        schedule = self.pipeline.parameters(SCHEDULES).get(self._cells[key]["schedule"]) or {}
        processes = max(1, self.largest.get("gpu", 1))
        return processes * min(self.most_threads, 1 + int(schedule.get("workers", 0)))


def _of_wildcards(function: Callable[[str], int]) -> Callable[..., int]:
    """Return a function of Snakemake's wildcards. Its signature is kept: Snakemake asks often."""

    def of(wildcards: Any) -> int:
        return function(getattr(wildcards, "key", ONCE))

    of.__signature__ = inspect.signature(of)  # type: ignore[attr-defined]
    return of
