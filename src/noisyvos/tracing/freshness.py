"""Results that are older than what they were made of, told when somebody reads them.

Presets share `data/`. A run of one preset may replace labels or frames there and end, or be killed,
before the results of other presets are made again. DVC leaves no mark of what it began at all. So
the reader compares: a job is out of date if an input was made after its outputs and has another
content than its record says, if an input is half made or was removed since, or if a job that it
depends on is out of date.
"""

import os
from functools import cached_property
from pathlib import Path, PurePosixPath
from stat import S_ISDIR

from noisyvos.io.hashing import input_hash
from noisyvos.pipeline.dvc_yaml import Job, Pipeline
from noisyvos.pipeline.outdated import marked
from noisyvos.tracing.records import (
    STAMP,
    read_record,
    recorded_inputs,
    same_content,
    state_file,
)


class Freshness:
    """Compares the jobs of a pipeline with what they read. Each file is looked at once."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._root = str(pipeline.root)
        self._times: dict[str, int] = {}
        self._reasons: dict[str, str] = {}
        self._hashes: dict[str, str] = {}
        self._same: dict[tuple[str, str], bool | None] = {}

    def outdated(self) -> dict[str, str]:
        """Return, by name, the jobs whose outputs exist and are out of date, with the reason."""
        return {job.name: reason for job in self.pipeline if (reason := self.of(job))}

    def of(self, job: Job) -> str:
        """Return why the outputs of a job are out of date; empty if they are not, or not there."""
        if job.name not in self._reasons:
            self._reasons[job.name] = self._compare(job)
        return self._reasons[job.name]

    def is_changed(self, job: Job, path: str) -> bool:
        """Return whether an input has another content than when a job ran.

        The summary of a training tells first, then the record of Snakemake or else of DVC. Where
        they have no hash of it, an input that was made after the outputs counts as changed.
        """
        root = self.pipeline.root
        summary = recorded_inputs(root, job)
        if summary:
            return self.content(path) not in summary.values()
        record = read_record(root, job)
        recorded = record.hashes if record is not None else {}
        for place in (path, *map(str, PurePosixPath(path).parents)):  # DVC records whole folders
            if place in recorded:
                same = self._is_same(place, recorded[place])
                if same is not None:
                    return not same
        return self._time(path) > min(map(self._time, job.outs))

    def content(self, path: str) -> str:
        """Return the hash of a file or folder as it is now; empty if it is missing."""
        if path not in self._hashes:
            place = self.pipeline.root / path
            self._hashes[path] = input_hash(place) if place.exists() else ""
        return self._hashes[path]

    def _compare(self, job: Job) -> str:
        made = min(map(self._time, job.outs))
        if not made:
            return ""
        for path in self.pipeline.inputs(job):
            maker = self._maker.get(path)
            if maker is None:
                continue
            earlier = self.of(maker)
            if earlier:
                return earlier
            if path in self._marked:
                return f"{path} is half made"
            written = self._time(path)
            if not written and self._time(str(PurePosixPath(path).parent)) > made:
                return f"{path} {self._gone(path)}"
            if written > made and self.is_changed(job, path):
                return f"{path} was made again since"
        return ""

    def _gone(self, path: str) -> str:
        """Say why an input is not there. DVC keeps no record of what it has made or pulled here."""
        made_here = state_file(Path(self._root) / ".snakemake" / "metadata", path).is_file()
        return "was removed since" if made_here else "was removed since, or was never made here"

    @cached_property
    def _maker(self) -> dict[str, Job]:
        return {out: job for job in self.pipeline for out in job.outs}

    @cached_property
    def _marked(self) -> set[str]:
        return marked(Path(self._root))

    def _is_same(self, place: str, recorded: str) -> bool | None:
        if (place, recorded) not in self._same:
            self._same[place, recorded] = same_content(self.pipeline.root / place, recorded)
        return self._same[place, recorded]

    def _time(self, path: str) -> int:
        """Return when a file or folder was made, in nanoseconds; 0 if it is not there."""
        if path not in self._times:
            try:
                found = os.stat(os.path.join(self._root, path))
            except OSError:
                self._times[path] = 0
            else:
                stamp = self._time(os.path.join(path, STAMP)) if S_ISDIR(found.st_mode) else 0
                self._times[path] = max(found.st_mtime_ns, stamp)
        return self._times[path]
