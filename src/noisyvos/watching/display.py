"""What Snakemake shows during a run: a bar on a terminal, elsewhere a line now and then.

The bar has the cells done, running and failed, and the time left. All details stay in Snakemake's
log file. Dry runs, `--verbose` and `--printshellcmds` show Snakemake's usual text. The plug-in
`snakemake_logger_plugin_noisyvos` makes this class known to Snakemake.
"""

import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from noisyvos.watching import run_log
from noisyvos.watching.progress import read_progress
from noisyvos.watching.words import clock, failure_lines, last_words

LINE_SECONDS = 60.0  # without a terminal: a line at least this often while something happens
_MOST_RUNNING = 6  # running jobs shown below the bar
_LOG_LINES = 15  # of a failed job
_SHOWN = ("Nothing to be done", "Complete log", "Unlocking", "Report created", "Lints for")

_preset = ""


def announce(preset: str) -> None:
    """Tell the display, from the Snakefile, which preset this process runs."""
    global _preset
    _preset = preset


class Display(logging.Handler):
    """The log handler. Snakemake calls `emit` from one thread and `close` at the end."""

    common_settings: Any

    def __post_init__(self) -> None:
        settings = self.common_settings
        quiet = {str(getattr(each, "name", each)).lower() for each in settings.quiet or ()}
        self._stream = sys.stdout if settings.stdout else sys.stderr
        self._hidden = "all" in quiet or "progress" in quiet
        self._silent = "all" in quiet
        self._plain: logging.Handler | None = None
        if settings.dryrun or settings.verbose or settings.printshellcmds or settings.debug_dag:
            self._plain = _usual_handler(settings, self._stream)
        self._run = run_log.Run()
        self._writer: run_log.Writer | None = None
        self._bar: _Bar | None = None
        self._stop = threading.Event()
        self._told = 0.0
        self._tenth = 0

    @property
    def writes_to_stream(self) -> bool:
        """Whether it takes the place of Snakemake's own text."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """Whether it is a log file for Snakemake."""
        return False

    @property
    def has_filter(self) -> bool:
        """Whether it chooses records itself."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Whether it words records itself."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """Whether it needs the graph of rules."""
        return False

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record of Snakemake."""
        try:
            self._follow(record)
            if self._plain is not None:
                if self._plain.filter(record):
                    self._plain.emit(record)
            else:
                self._show(record)
        except Exception:  # the display must not end a run
            self.handleError(record)

    def close(self) -> None:
        """End the bar and the log of this run."""
        self._stop.set()
        if self._bar is not None:
            self._bar.close()
        if self._writer is not None:
            self._take("end")
            self._writer.close()
            self._writer = None
            if not self._hidden and self._plain is None:
                self._say(f"{self._summary()} in {clock(time.time() - self._run.started)}")
        super().close()

    def _follow(self, record: logging.LogRecord) -> None:
        """Keep count of the run and write its log."""
        event, facts = getattr(record, "event", None), record.__dict__
        if self.common_settings.dryrun or "--touch" in sys.argv:
            return
        if event == LogEvent.RUN_INFO:
            counts = {name: count for name, count in facts["stats"].items() if name != "total"}
            counts.pop("all", None)  # Snakemake's target, which runs nothing
            if counts and self._writer is None:
                self._begin()
            if self._writer is not None:
                self._take("plan", total=sum(counts.values()), stages=counts)
        elif self._writer is None or facts.get("rule_name") == "all":
            return
        elif event == LogEvent.JOB_INFO:
            key = (facts.get("wildcards") or {}).get("key")
            name = f"{facts['rule_name']}@{key}" if key else facts["rule_name"]
            log = next(iter(facts.get("log") or []), "")
            self._take("job", id=facts["jobid"], name=name, log=str(log))
        elif event == LogEvent.JOB_FINISHED:
            self._take("done", id=facts["job_id"])
        elif event == LogEvent.JOB_ERROR:
            more = [str(log) for log in (facts.get("log") or [])[1:]]
            self._take("failed", id=facts["jobid"], scheduler_log=next(iter(more), ""))

    def _begin(self) -> None:
        self._writer = run_log.Writer(Path())
        self._take("start", **run_log.start_facts(_preset))
        terminal = self._stream.isatty() and not self.common_settings.nocolor
        if terminal and not self._hidden and self._plain is None:
            self._bar = _Bar(self._stream)
        threading.Thread(target=self._beat, daemon=True).start()

    def _take(self, event: str, **facts: Any) -> None:
        if self._writer is not None:
            self._run.take(self._writer.write(event, **facts))

    def _beat(self) -> None:
        """Show from time to time that this run is alive."""
        while not self._stop.wait(run_log.BEAT_SECONDS):
            if self._writer is not None:
                self._writer.beat()

    def _show(self, record: logging.LogRecord) -> None:
        """Show one record to the user, or nothing of it."""
        event, text = getattr(record, "event", None), record.getMessage()
        if event == LogEvent.RUN_INFO and not self._hidden:
            stages = ", ".join(f"{count} {name}" for name, count in self._run.stages.items())
            self._say(f"{self._run.total} jobs: {stages}")
        elif event == LogEvent.JOB_ERROR:
            self._failure(record.__dict__)
        elif event in (LogEvent.JOB_INFO, LogEvent.JOB_FINISHED):
            self._progress()
        elif record.levelno >= logging.WARNING and event != LogEvent.GROUP_ERROR:
            if not self._silent:
                self._say(text)
        elif event is None and text.startswith(_SHOWN) and not self._hidden:
            self._say(text)

    def _failure(self, facts: dict[str, Any]) -> None:
        if self._silent:
            return
        started = self._run.jobs.get(str(facts.get("jobid")))
        name = started.name if started is not None else facts["rule_name"]
        logs = [Path(log) for log in facts.get("log") or []]
        said = [f"FAILED {name}; its log: {', '.join(map(str, logs)) or 'none'}"]
        if self.common_settings.show_failed_logs:
            said += [f"    {line}" for line in failure_lines(logs, _LOG_LINES)]
        self._say("\n".join(said))
        self._progress()

    def _progress(self) -> None:
        if self._bar is not None:
            self._bar.update(self._run)
            return
        if self._hidden or not self._run.total:
            return
        tenth, now = 10 * self._run.done // self._run.total, time.monotonic()
        if tenth > self._tenth or now - self._told > LINE_SECONDS:
            self._tenth, self._told = tenth, now
            self._say(self._summary())

    def _summary(self) -> str:
        return summary_of(self._run)

    def _say(self, text: str) -> None:
        if not text.strip():
            return
        if self._bar is not None:
            self._bar.say(text)
        else:
            print(text, file=self._stream, flush=True)


def summary_of(run: run_log.Run) -> str:
    """Return the counts of a run and the time left, on one line."""
    parts = [f"{run.done} of {run.total} jobs done"]
    if run.running:
        parts.append(f"{len(run.running)} running")
    if run.failed:
        parts.append(f"{len(run.failed)} failed")
    left = run.seconds_left()
    if left is not None and not run.ended and run.done < run.total:
        parts.append(f"about {clock(left)} left")
    return ", ".join(parts)


class _Bar:
    """The bar and the running jobs, at the bottom of a terminal; `say` prints above them."""

    def __init__(self, stream: Any) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=stream, highlight=False, markup=False)
        self._run = run_log.Run()
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def update(self, run: run_log.Run) -> None:
        self._run = run

    def say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def close(self) -> None:
        self._live.stop()

    def _render(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        run = self._run
        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, run.total), completed=run.done, width=30)
        line.add_row(bar, Text(summary_of(run), style="red" if run.failed else ""))
        rows: list[Any] = [line]
        running = sorted(run.running, key=lambda job: job.started)
        for job in running[:_MOST_RUNNING]:
            spent = clock(time.time() - job.started)
            said = read_progress(Path(), run.preset, job.name)
            words = said.text if said else last_words(Path(job.log)) if job.log else ""
            rows.append(Text(f"  {job.name} · {spent} · {words}", "dim", overflow="ellipsis"))
            rows[-1].no_wrap = True
        if len(running) > _MOST_RUNNING:
            rows.append(Text(f"  and {len(running) - _MOST_RUNNING} more", style="dim"))
        return Group(*rows)


def _usual_handler(settings: Any, stream: Any) -> logging.Handler:
    """Return Snakemake's own handler of a terminal."""
    from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter

    handler = ColorizingTextHandler(nocolor=settings.nocolor, stream=stream)
    handler.setFormatter(DefaultFormatter(settings.quiet, settings.show_failed_logs))
    handler.addFilter(
        DefaultFilter(
            settings.quiet,
            settings.debug_dag,
            settings.verbose,
            settings.dryrun,
            settings.printshellcmds,
        )
    )
    return handler
