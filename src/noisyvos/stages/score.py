"""Stage `score`: predicted against true masks, as tables, JSON and the DAVIS tool's CSV files."""

import fnmatch
import math
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from noisyvos.errors import UserError
from noisyvos.io.atomic import check_apart, output_directory, write_json, write_text
from noisyvos.io.forms import Summary, read_form
from noisyvos.io.text import read_names
from noisyvos.media.material import AREAS, EXAMPLES, write_material
from noisyvos.metrics import Scores, score

SHOWN_GAPS = 5  # sequences with gaps in their ids that are named
_OWN_FILES = (
    "scores.json",
    "frames.csv",
    "objects.csv",
    "sequences.csv",
    "global_results-*.csv",
    "per-sequence_results-*.csv",
    AREAS,
    EXAMPLES,
    ".*",
)


@dataclass(frozen=True)
class Tracking:
    """The run in MLflow that gets the scores: training cell, preset, summary.json; off if empty."""

    cell: str = ""
    preset: str = "none"
    summary: Path | None = None


@dataclass(frozen=True)
class Task:
    """What to score and how; `options` are keyword arguments of `noisyvos.metrics.score`."""

    results: Path
    truth: Path
    out: Path
    protocol: str = "davis"
    subset: str = "val"  # names the two CSV files of the DAVIS tool
    split: Path | None = None  # a text file with a sequence per line, in the order of the tables
    workers: int = 1
    for_report: bool = False  # write what tables and figures need of masks as well
    options: dict[str, Any] = field(default_factory=dict)


def run(task: Task, tracking: Tracking | None = None) -> Scores:
    """Score, write all files to `task.out` and print a short table; bad input writes nothing."""
    _check_outputs(task)
    [scores] = _score_all(task, [task])
    if tracking is not None and tracking.cell:
        _track(scores, task, tracking)
    return scores


def run_each(task: Task) -> list[Scores]:
    """Score every zip of the folder `task.results` into the folder of its name in `task.out`.

    Bad input of any zip writes nothing.
    """
    zips = sorted(task.results.glob("*.zip"))
    if not zips:
        raise UserError(f"{task.results}: this folder holds no zip of masks, as --each wants.")
    _check_outputs(task, each=True)
    parts = [replace(task, results=path, out=task.out / path.stem) for path in zips]
    return _score_all(task, parts)


def _score_all(task: Task, parts: list[Task]) -> list[Scores]:
    """Write the scores of all parts, whose folders are `task.out` or in it."""
    sequences = _read_split(task.split) if task.split is not None else None
    found = []
    with output_directory(
        task.out, "score", inputs=(task.results, task.truth), checked=True
    ) as folder:
        for part in parts:
            found.append(_score(part, sequences))
            _write(folder / part.out.relative_to(task.out), found[-1], part)
    for part, scores in zip(parts, found, strict=True):
        _report(scores, part)
    return found


def _score(task: Task, sequences: list[str] | None) -> Scores:
    show = _Progress()
    try:
        return score(
            task.results,
            task.truth,
            task.protocol,
            sequences=sequences,
            workers=task.workers,
            progress=show.advance,
            **task.options,
        )
    finally:
        show.close()


def _write(folder: Path, scores: Scores, task: Task) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in scores.csv_files(task.subset).items():
        write_text(folder / name, text)
    write_json(folder / "scores.json", _facts(scores, task))
    if task.for_report:
        write_material(folder, task.results, task.truth)


def _report(scores: Scores, task: Task) -> None:
    """Print a short table and what a reader should know about it."""
    _print_table(scores)
    print(
        f"{len(scores.items)} objects of {len(scores.scored_sequences)} sequences, "
        f"protocol {scores.protocol}, in {task.out}"
    )
    if scores.skipped_sequences:
        print(f"left out, without predictions: {', '.join(scores.skipped_sequences)}")
    _warn_of_gaps(scores)
    _warn_of_late_objects(scores)
    if _same_files(task.results, task.truth):
        _warn(f"{task.results} is the true masks themselves, so the score is 1 or nearly so.")


def _warn_of_gaps(scores: Scores) -> None:
    """Name the sequences whose ids have gaps: the ids between count as objects, as DAVIS does."""
    found = scores.made_up
    for name, facts in list(found.items())[:SHOWN_GAPS]:
        ids, made_up = facts["ids"], facts["made_up"]
        _warn(
            f"sequence {name!r} has the ids {', '.join(map(str, ids))}; "
            f"{made_up} objects of its {made_up + len(ids)} are made up."
        )
    if found:
        rest = len(found) - SHOWN_GAPS
        more = f"{rest} more sequences have gaps in their ids. " if rest > 0 else ""
        total = sum(facts["made_up"] for facts in found.values())
        _warn(
            f"{more}The DAVIS definition counts every id up to the largest, so "
            f"{total} of {len(scores.items)} objects do not exist and score 1 where nothing is "
            "predicted. For a score of the true objects, number them 1, 2, ... in truth and "
            "predictions."
        )


def _warn_of_late_objects(scores: Scores) -> None:
    """Name the sequences with objects after the first mask, which the protocol leaves out."""
    for name, ids in list(scores.late.items())[:SHOWN_GAPS]:
        _warn(
            f"the true masks of sequence {name!r} have the ids {', '.join(map(str, ids))} in later "
            "frames only."
        )
    if scores.late:
        rest = len(scores.late) - SHOWN_GAPS
        _warn(
            (f"{rest} more sequences have such ids. " if rest > 0 else "")
            + f"Protocol {scores.protocol} scores the objects of the first mask; the later ones "
            "count as background. Protocol youtube_vos scores them from the frame after their "
            "first mask on."
        )


def _warn(text: str) -> None:
    """Print a warning to stderr."""
    print(f"noisyvos: warning: {text}", file=sys.stderr)


def _same_files(first: Path, second: Path) -> bool:
    """Whether two existing paths lead to one file or folder."""
    return first.resolve() == second.resolve()


def _check_outputs(task: Task, *, each: bool = False) -> None:
    """Refuse a folder with anything but earlier scores: it is replaced as a whole.

    each: it holds folders of scores.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", task.subset):
        raise UserError(
            f"{task.subset!r} cannot be the name of a set: it becomes part of file names. "
            "Use letters, digits, '-', '_' and '.'."
        )
    if task.out.exists() and not task.out.is_dir():
        raise UserError(
            f"{task.out} is a file; scores are written to a folder. Give another --out."
        )
    foreign = (
        [path.name for path in task.out.iterdir() if not _is_own(path, each)]
        if task.out.is_dir()
        else []
    )
    if foreign:
        raise UserError(
            f"{task.out} holds {min(foreign)!r}, which is not a score and would be lost. "
            "Give an empty folder as --out."
        )
    check_apart(task.out, (task.results, task.truth))


def _is_own(path: Path, each: bool) -> bool:
    if path.is_dir():
        return each and all(_is_own(inside, False) for inside in path.iterdir())
    patterns = (".*",) if each else _OWN_FILES
    return path.is_file() and any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)


def _read_split(path: Path) -> list[str]:
    """Return the sequences of a split file; the forms are those of `read_names`."""
    try:
        return read_names(path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: this split file does not exist. Correct --split."
        ) from None


def _facts(scores: Scores, task: Task) -> dict[str, Any]:
    """Return the contents of scores.json; an undefined number (NaN) is null."""
    return {
        "protocol": scores.protocol,
        "set": task.subset,
        "options": {"decay": scores.decay}
        | {name: value for name, value in sorted(task.options.items()) if name != "decay"},
        "means": {
            name: None if math.isnan(value) else value for name, value in scores.means.items()
        },
        "sequences": len(scores.scored_sequences),
        "skipped_sequences": list(scores.skipped_sequences),
        "objects": len(scores.items),
        "object_frames": sum(len(item.frames) for item in scores.items),
    } | {
        name: value
        for name, value in {
            "made_up_objects": scores.made_up,
            "late_objects": {name: list(ids) for name, ids in scores.late.items()},
        }.items()
        if value
    }


def _print_table(scores: Scores) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in scores.means:
        table.add_column(name, justify="right")
    table.add_row(*(f"{value:.3f}" for value in scores.means.values()))
    Console().print(table)


class _Progress:
    """A progress bar that appears only on a terminal and only for work of more than a second."""

    def __init__(self) -> None:
        self._bar: Any = None

    def advance(self, sequence: str) -> None:
        """Count a finished sequence."""
        if self._bar is None and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(desc="score", unit=" sequences", delay=1, leave=False)
        if self._bar is not None:
            self._bar.set_postfix_str(sequence, refresh=False)
            self._bar.update()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


def _track(scores: Scores, task: Task, where: Tracking) -> None:
    """Write the scores to MLflow; a failure there prints one line of warning."""
    try:
        from noisyvos.pipeline.cells import tracked_block
        from noisyvos.tracking import mlflow as tracking

        # by evaluation set, since one run may be scored on several
        truth = task.truth.parent.name if task.truth.name == "masks" else task.truth.name
        columns = {"J": "J-Mean", "F": "F-Mean", "JF": "J&F-Mean"}
        values = {f"{truth}/{name}": scores.means[column] for name, column in columns.items()}
        block = tracked_block(Path("params/cells.yaml"), where.preset, where.cell)
        with tracking.run(
            cell=where.cell,
            preset=where.preset,
            block=block,
            stage="score",
            tags=_tags(where.summary),
        ) as track:
            track.metrics(values, step=None)
            track.artifact(task.out / "objects.csv", truth)
    except Exception as error:  # any failure: tracking must not stop a stage
        _warn(f"these scores are not tracked ({type(error).__name__}: {error})")


def _tags(summary: Path | None) -> dict[str, Any]:
    """Return the achieved noise of a training summary as tags; empty without a summary."""
    if summary is None or not summary.is_file():
        return {}
    noise = read_form(summary, Summary).get("noise") or {}
    return {
        f"noise.{name}": value
        for name, value in noise.items()
        if isinstance(value, str | int | float)
    }
