"""Scoring predicted masks against true ones frame by frame, in one or several processes."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from noisyvos.errors import UserError, unknown_name
from noisyvos.io.masks import MaskCollection
from noisyvos.metrics.measures import compare
from noisyvos.metrics.protocols import Protocol, Rules, ScoredVideo, get_protocol, videos_to_score
from noisyvos.metrics.reading import read_prediction, read_truth
from noisyvos.metrics.scores import ObjectScore, Scores, by_category

DECAYS = ("intended", "official")


def score(
    results: str | Path,
    truth: str | Path,
    protocol: str = "davis",
    *,
    sequences: Iterable[str] | None = None,
    workers: int = 1,
    decay: str = "intended",
    ignore_extra_ids: bool = False,
    skip_missing: bool = False,
    binary: bool = False,
    rgb: bool = False,
    categories: Mapping[tuple[str, int], str] | None = None,
    seen: Iterable[str] = (),
    progress: Callable[[str], None] | None = None,
) -> Scores:
    """Return J and F of every object and frame, and what follows from them.

    results, truth: folders or zips of `<sequence>/<frame>.png`.
    protocol: davis, visor, youtube_vos, long_videos or all_frames.
    sequences: those to score, in this order; all of `truth` by default. Others are ignored.
    workers: number of processes, which changes no value.
    progress: called with the name of each finished sequence.
    decay: see `over_time`. The switches are those of `Rules`.
    categories, seen: the category of each object and the categories of training; with them,
    `means` also has the five numbers of YouTube-VOS.

    Raises UserError (a ValueError) or FileNotFoundError, naming sequence and frame, for missing
    predictions, other sizes, unknown ids, files that are not index masks, and sequences that are
    too short. Missing files are found before any mask is decoded. Each process holds a few masks
    in memory, never a whole video.
    """
    chosen = get_protocol(protocol)
    if decay not in DECAYS:
        raise unknown_name("kind of decay", decay, DECAYS)
    if workers < 1:
        raise UserError(f"At least one worker is needed to score, not {workers}.")
    if isinstance(sequences, str):
        raise UserError("`sequences` is a list of names, not one string.")
    rules = Rules(ignore_extra_ids, skip_missing, binary, rgb)
    job = _Job(Path(results), Path(truth), chosen, rules)
    with MaskCollection(results) as predicted, MaskCollection(truth) as true:
        videos, skipped = videos_to_score(predicted, true, chosen, rules, sequences)
        # longest first keeps all workers busy to the end
        tasks = sorted(videos, key=lambda video: (-len(video.scored), video.name))
        runner = (
            _in_pool(job, tasks, workers)
            if workers > 1 and len(tasks) > 1
            else (_score_video(predicted, true, job, task) for task in tasks)
        )
        found = {}
        for task, value in zip(tasks, runner, strict=True):
            found[task.name] = value
            if progress is not None:
                progress(task.name)
    objects = tuple(item for video in videos for item in found[video.name][0])
    if not objects:
        raise UserError(f"{truth}: no object has a frame to score under protocol {protocol!r}.")
    result = Scores(
        chosen.name,
        decay,
        objects,
        tuple(video.name for video in videos),
        tuple(skipped),
        {name: late for name, (_, late) in found.items() if late},
    )
    if categories is not None:
        values = {(name, number): (row[0], row[3]) for name, number, row in result.object_rows()}
        result.means.update(by_category(values, categories, seen))
    return result


@dataclass(frozen=True)
class _Job:
    """What a worker needs to open the collections itself."""

    results: Path
    truth: Path
    protocol: Protocol
    rules: Rules


_Scored = tuple[list[ObjectScore], tuple[int, ...]]


def _score_video(
    results: MaskCollection, truth: MaskCollection, job: _Job, video: ScoredVideo
) -> _Scored:
    """Return the values of every object of one video, and the later ids that are left out."""
    first = read_truth(truth, video, video.frames[0], job.rules)
    if job.protocol.late_objects:
        return _score_late_objects(results, truth, job, video), ()
    if not first.any():
        raise UserError(
            f"{truth.path}: {video.truth_folder}/{video.frames[0]}.png is empty, but the first "
            f"true mask of a sequence defines its objects. Leave sequence {video.name!r} out, or "
            "use binary mode (--binary) if its masks hold only 0 and 255."
        )
    ids = tuple(range(1, int(first.max()) + 1))
    absent = set(ids) - _ids(first)  # gaps in the numbers; none in the published sets
    late: set[int] = set()
    values = np.empty((2, len(ids), len(video.scored)))
    for index, frame in enumerate(video.scored):
        mask = first if frame == video.frames[0] else read_truth(truth, video, frame, job.rules)
        _check_size(truth, video, frame, mask, first)
        if absent:
            absent -= _ids(mask)
        if mask.max() > ids[-1]:
            late |= _ids(mask) - set(ids)
        prediction = read_prediction(results, video, frame, job.rules, ids, first.shape)
        values[:, :, index] = compare(prediction, mask, ids)
    scores = [
        ObjectScore(video.name, number, video.scored, region, boundary, number in absent)
        for number, region, boundary in zip(ids, *values, strict=True)
    ]
    return scores, tuple(int(number) for number in sorted(late))


def _score_late_objects(
    results: MaskCollection, truth: MaskCollection, job: _Job, video: ScoredVideo
) -> list[ObjectScore]:
    """Return the values of every object of a video whose objects may appear late.

    An object is scored from the frame after its first true mask on.
    """
    first = read_truth(truth, video, video.frames[0], job.rules)
    every = sorted(
        _ids(first).union(
            *(_ids(read_truth(truth, video, frame, job.rules)) for frame in video.scored)
        )
    )
    if not every:
        raise UserError(
            f"{truth.path}: no true mask of sequence {video.name!r} ({video.frames[0]}.png and "
            "later) holds an object."
        )
    known = sorted(_ids(first))
    values: dict[int, tuple[list, list, list]] = {number: ([], [], []) for number in every}
    for frame in video.scored:
        mask = read_truth(truth, video, frame, job.rules)
        _check_size(truth, video, frame, mask, first)
        prediction = read_prediction(results, video, frame, job.rules, tuple(every), first.shape)
        for number, *pair in zip(known, *compare(prediction, mask, known), strict=True):
            for column, value in zip(values[number], (frame, *pair), strict=True):
                column.append(value)
        known = sorted(_ids(mask).union(known))
    return [
        ObjectScore(video.name, n, tuple(f), np.array(j), np.array(b))
        for n, (f, j, b) in values.items()
        if f
    ]


def _ids(mask: np.ndarray) -> set[int]:
    return set(np.flatnonzero(np.bincount(mask.ravel(), minlength=1)[1:]) + 1)


def _check_size(
    truth: MaskCollection, video: ScoredVideo, frame: str, mask: np.ndarray, first: np.ndarray
) -> None:
    if mask.shape != first.shape:
        raise UserError(
            f"{truth.path}: {video.truth_folder}/{frame}.png is {mask.shape[0]}x{mask.shape[1]}, "
            f"but the first mask of the sequence is {first.shape[0]}x{first.shape[1]} "
            "(height x width)."
        )


_opened: tuple[MaskCollection, MaskCollection, _Job]


def _open(job: _Job) -> None:
    global _opened  # one pair of open collections for the life of a worker process
    _opened = MaskCollection(job.results), MaskCollection(job.truth), job


def _in_worker(video: ScoredVideo) -> _Scored:
    return _score_video(*_opened, video)


def _in_pool(job: _Job, tasks: list[ScoredVideo], workers: int) -> Iterable[_Scored]:
    """Yield the values of the tasks in order; the first failing task raises, as in one process."""
    # spawned, since a fork of a process with threads (a notebook, a training) may hang
    with ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn"), _open, (job,)) as pool:
        futures = [pool.submit(_in_worker, task) for task in tasks]
        try:
            for future in futures:
                yield future.result()
        except BrokenProcessPool:
            raise UserError(
                "A worker process ended early: it may have run out of memory, or the calling "
                'script lacks `if __name__ == "__main__":`. Score with one worker.'
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
