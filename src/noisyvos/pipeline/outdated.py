"""What earlier runs left is marked as out of date when a job begins that it depends on.

Snakemake removes the outputs of a job before the job runs. If it is killed then, the tables and the
report of earlier runs are still there, and nothing says that they are older than their cells. So
everything that depends on a job gets Snakemake's mark of incomplete files as the job begins: a kill
at any later moment leaves the mark. The next run makes marked files again (`rerun-incomplete` in
the profiles). `noisyvos status`, `trace` and `why` show it, and the page of the report says so.

Presets share `data/`. The results of another preset get no mark, because they may be right: data
may be made again with equal content. Only its page says that a run began, and `status`, `trace` and
`why` compare the content (noisyvos.tracing.freshness).
"""

import html
import os
import re
import sys
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from noisyvos.errors import UserError
from noisyvos.io.atomic import write_text
from noisyvos.pipeline.dvc_yaml import Job, Pipeline, load

_SHARED = "data/"  # what all presets read and write
_BANNER = re.compile(r'<p class="synthetic" id="outdated".*?</p>\n', re.DOTALL)


def watch(pipeline: Pipeline, workflow: Any, say: Callable[[str], None]) -> None:
    """Mark, from now on, what is made of a job when the job begins. workflow: Snakemake's.

    No error is raised: other releases of Snakemake may have other insides.
    """
    if {"--touch", "-t"} & set(sys.argv):
        return  # `noisyvos adopt` runs nothing
    try:
        marks = Marks(
            pipeline,
            lambda out: workflow.persistence._mark_incomplete(out, None),
            lambda: with_reports(pipeline),
        )
        dag = workflow.dag
        begin = dag.register_running

        def register_running(jobs: Any) -> Any:
            try:
                marks.before(name_of(job) for job in single(jobs))
            except Exception as error:
                say(f"Results of earlier runs could not be marked as out of date: {error}")
            return begin(jobs)

        dag.register_running = register_running
    except Exception as error:
        say(f"Results of earlier runs cannot be marked as out of date: {error}")


def with_reports(pipeline: Pipeline) -> Iterator[Pipeline]:
    """Yield the pipelines of the other presets that have a report, if their grids can be built."""
    root, own = pipeline.root, pipeline.cells["preset"]["name"]
    for page in sorted(root.glob("results/*/report.html")):
        name = page.parent.name
        if name != own and (root / "params" / "presets" / f"{name}.yaml").is_file():
            with suppress(UserError):
                yield load(root, name)


class Marks:
    """Marks outputs of jobs that depend on jobs which begin; each is marked once in a run.

    others: returns the pipelines of other presets. Where such a job writes what they share, the
    pages of their reports say so. by: the preset of the run, if that of `pipeline` is another one.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        mark: Callable[[str], None],
        others: Callable[[], Iterable[Pipeline]] = list,
        *,
        by: str = "",
    ) -> None:
        self.pipeline = pipeline
        self._by = by
        self._mark = mark
        self._find_others = others
        self._seen: set[str] = set()

    def before(self, names: Iterable[str]) -> None:
        """Mark what exists of all that depends on the named jobs, which are about to begin."""
        begun = list(names)
        self._mark_readers([*begun])
        shared = [name for name in begun if self._outs.get(name, ("",))[0].startswith(_SHARED)]
        for other in self._others if shared else ():
            other._mark_readers(
                [name for name in shared if other._outs.get(name) == self._outs[name]]
            )

    def _mark_readers(self, waiting: list[str]) -> None:
        while waiting:
            name = waiting.pop()
            for job in self._readers.get(name, ()):
                if job.name not in self._seen:
                    self._seen.add(job.name)
                    waiting.append(job.name)
                    self._mark_job(job, because=name)

    def _mark_job(self, job: Job, because: str) -> None:
        for out in job.outs:
            place = self.pipeline.root / out
            if place.exists():
                if not self._by:
                    self._mark(out)
                if out.endswith(".html"):
                    warn_on_page(place, because, self._by)

    @cached_property
    def _others(self) -> list["Marks"]:
        by = self.pipeline.cells["preset"]["name"]
        return [Marks(other, self._mark, by=by) for other in self._find_others()]

    @cached_property
    def _outs(self) -> dict[str, tuple[str, ...]]:
        return {job.name: job.outs for job in self.pipeline}

    @cached_property
    def _readers(self) -> dict[str, list[Job]]:
        """The jobs that read the outputs of each job."""
        return readers(self.pipeline)


def readers(pipeline: Pipeline) -> dict[str, list[Job]]:
    """Return, for the name of each job, the jobs that read its outputs."""
    maker = {out: job.name for job in pipeline for out in job.outs}
    found: dict[str, list[Job]] = {}
    for job in pipeline:
        for name in {maker[path] for path in pipeline.inputs(job) if path in maker}:
            found.setdefault(name, []).append(job)
    return found


def warn_on_page(page: Path, because: str, by: str = "") -> None:
    """Say at the head of a report's page that it is out of date; once, and atomically.

    because: the job that began. by: the preset of the run, if it is another one than the page's.
    """
    text = page.read_text(encoding="utf-8")
    head, tag, rest = text.partition("<header>\n")
    if not tag or _BANNER.match(rest):
        return
    since = time.strftime("%Y-%m-%d %H:%M")
    said = (
        f"Perhaps out of date: at {since} a run of preset {by} began to make data again that this "
        f"page was made of (first of them: {because}). `noisyvos status --preset "
        f"{page.parent.name}` shows whether the data changed. `snakemake --config "
        f"preset={page.parent.name}` then makes the page again."
        if by
        else f"Out of date: at {since} a run began to make results again that this page was made "
        f"of. The page is older than these results (first of them: {because}). `noisyvos status` "
        "shows whether the run goes on. `snakemake` makes the page again."
    )
    banner = f'<p class="synthetic" id="outdated" role="alert">{html.escape(said)}</p>\n'
    write_text(page, f"{head}{tag}{banner}{rest}")


def marked(root: Path) -> set[str]:
    """Return the outputs that Snakemake began or that are out of date, by their marks."""
    folder = root / ".snakemake" / "incomplete"
    found = set()
    for place, _, names in os.walk(folder):
        parts = Path(place).relative_to(folder).parts
        for name in names:
            text = "".join([part.removeprefix("@") for part in parts] + [name])
            with suppress(ValueError):
                found.add(urlsafe_b64decode(text).decode())
    return found


def left_undone(pipeline: Pipeline, stages: Iterable[str]) -> list[str]:
    """Return the jobs of some stages that a run began, or whose results are out of date."""
    marks = marked(pipeline.root)
    if not marks:
        return []
    jobs = (job for stage in stages for job in pipeline.jobs.get(stage, {}).values())
    return sorted(job.name for job in jobs if not marks.isdisjoint(job.outs))


def name_of(job: Any) -> str:
    """Return the name of a job of Snakemake as `noisyvos status` shows it."""
    key = getattr(job.wildcards, "key", "")
    return f"{job.rule.name}@{key}" if key else str(job.rule.name)


def single(jobs: Iterable[Any]) -> Iterator[Any]:
    """Yield jobs of Snakemake, and those of groups one by one."""
    for job in jobs:
        yield from job.jobs if job.is_group() else (job,)
