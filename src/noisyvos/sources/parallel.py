"""Run one function over many tasks in processes, results in the order of the tasks, with a progress bar."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import cv2
from tqdm import tqdm


def _one_thread() -> None:
    cv2.setNumThreads(1)  # processes share the work already


def each(function: Callable[[Any], Any], tasks: Sequence[Any], workers: int, title: str) -> list[Any]:
    """Return `function(task)` for every task; with `workers` > 1 in that many fresh processes. The first error ends it."""
    workers = min(workers, len(tasks))
    if workers <= 1:
        _one_thread()
        return [function(task) for task in tqdm(tasks, desc=title, unit="item")]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        chunk = max(1, min(8, len(tasks) // (4 * workers)))
        return list(tqdm(pool.map(function, tasks, chunksize=chunk), total=len(tasks), desc=title, unit="item"))
