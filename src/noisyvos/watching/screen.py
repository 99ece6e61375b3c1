"""The state of a preset as it appears on a terminal."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from noisyvos.pipeline.dvc_yaml import Pipeline
from noisyvos.watching.status import STATES, JobState, Status, collect
from noisyvos.watching.words import clock, size_of

_MOST_JOBS = {"running": 20, "queued": 3, "failed": 20, "interrupted": 10}
_STYLES = {
    "failed": "red",
    "interrupted": "yellow",
    "outdated": "yellow",
    "running": "cyan",
    "done": "green",
}


def show(pipeline: Pipeline, console: Console, *, watch: float = 0.0) -> Status:
    """Print the state of a pipeline; with `watch`, again every so many seconds until Ctrl-C."""
    status = collect(pipeline)
    if not watch:
        console.print(picture(status))
        return status
    if not console.is_terminal:
        while True:
            console.print(headline(status))
            time.sleep(watch)
            status = collect(pipeline, disk=False)
    from rich.live import Live

    with Live(picture(status), console=console, auto_refresh=False, screen=False) as live:
        while True:
            time.sleep(watch)
            status = collect(pipeline)
            live.update(picture(status), refresh=True)


def picture(status: Status) -> RenderableType:
    """Return all that is shown of a state."""
    parts: list[RenderableType] = [headline(status)]
    if status.run is not None:
        parts.append(_run(status))
    if status.stale:
        parts.append(Text(status.stale, style="bold yellow"))
    parts.append(_stages(status))
    for state, most in _MOST_JOBS.items():
        parts += _jobs(state, [job for job in status.jobs if job.state == state], most)
    parts += _machine(status)
    return Group(*parts)


def headline(status: Status) -> Text:
    """Return the counts of all cells on one line."""
    words = Text.assemble((f"preset {status.preset}", "bold"), f" · {status.total()} jobs: ")
    counts = [(state, status.total(state)) for state in STATES]
    shown = [(state, count) for state, count in counts if count or state == "done"]
    for at, (state, count) in enumerate(shown):
        words.append(f"{', ' if at else ''}{count} {state}", _STYLES.get(state, ""))
    if status.seconds_left is not None:
        words.append(f" · about {clock(status.seconds_left)} left")
    return words


def _run(status: Status) -> Text:
    run = status.run
    assert run is not None
    since = datetime.fromtimestamp(run.started).isoformat(" ", "seconds")
    state = "runs" if run.alive else "ended" if run.ended else "was killed or lost its machine"
    return Text(
        f"Snakemake on {run.host} (process {run.process}) {state}: started {since}, "
        f"{run.done} of {run.total} jobs of this run done, commit {run.commit[:12] or 'unknown'}",
        style="yellow" if not run.alive and not run.ended else "dim",
    )


def _stages(status: Status) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("stage")
    used = [state for state in STATES if status.total(state)]
    for state in used:
        table.add_column(state, justify="right", style=_STYLES.get(state, ""))
    for stage, counts in status.counts.items():
        table.add_row(stage, *(str(counts.get(state, "") or "") for state in used))
    return table


def _jobs(state: str, jobs: list[JobState], most: int) -> list[Text]:
    lines = []
    for job in jobs[:most]:
        since = f" · {clock(job.seconds)}" if job.seconds else ""
        said = f" · {job.said}" if job.said else ""
        lines.append(
            Text.assemble((f"{state:<11} ", _STYLES.get(state, "")), f"{job.name}{since}{said}")
        )
        if state in ("failed", "interrupted"):
            lines.append(Text(f"{'':<12}log: {job.log}", style="dim"))
    if len(jobs) > most:
        lines.append(Text(f"{'':<12}and {len(jobs) - most} more {state}", style="dim"))
    return lines


def _machine(status: Status) -> list[Text]:
    lines = []
    for lease in status.leases:
        who = f"held by {lease['by'] or 'a job'}" if lease["held"] else "free"
        lines.append(Text(f"GPU {lease['gpu']}: {who}"))
    disk: dict[str, Any] = status.disk
    if disk:
        folders = ", ".join(
            f"{name} {'' if each['complete'] else 'more than '}{size_of(each['bytes'])}"
            for name, each in disk["folders"].items()
        )
        lines.append(
            Text(f"disk: {size_of(disk['free'])} of {size_of(disk['total'])} free; {folders}")
        )
    return lines


def run(*, preset: str, watch: float, as_json: bool, root: Path = Path()) -> int:
    """Print the state of a preset; return the number of failed jobs."""
    import json

    from noisyvos.pipeline.dvc_yaml import load

    pipeline = load(root, preset)
    if as_json:
        status = collect(pipeline)
        print(json.dumps(status.as_dict(), indent=1))
        return status.total("failed")
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=160)
    return show(pipeline, console, watch=watch).total("failed")
