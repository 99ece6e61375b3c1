"""Work spread over processes. The results come in the order of the items, whatever the number."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def _start_worker(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:

        def end_with_parent() -> None:  # a killed parent must not leave writing processes
            parent.join()
            os._exit(1)

        threading.Thread(target=end_with_parent, daemon=True).start()
    _single_threaded(initializer, arguments)


def _single_threaded(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    import cv2

    cv2.setNumThreads(1)  # the processes are the parallelism
    if initializer is not None:
        initializer(*arguments)


def ordered_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    label: str,
    initializer: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Yield `function(item)` for every item, in order, computed by `workers` processes.

    A terminal shows a progress bar named `label`.

    `initializer(*arguments)` runs once in every process (in this one, if `workers` is 1). An error
    of an item is raised here and ends the work.
    """
    with tqdm(total=len(items), desc=label, disable=None, leave=False) as bar:
        if workers == 1 or len(items) <= 1:
            _single_threaded(initializer, arguments)
            for item in items:
                yield function(item)
                bar.update()
            return
        pool = ProcessPoolExecutor(
            min(workers, len(items)), initializer=_start_worker, initargs=(initializer, arguments)
        )
        chunk = max(1, min(32, len(items) // (8 * workers)))
        try:
            for result in pool.map(function, items, chunksize=chunk):
                yield result
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)
