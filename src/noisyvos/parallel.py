"""Work spread over processes. The results come in the order of the items, whatever the number."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from tqdm import tqdm

from noisyvos.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
_collected: ContextVar[list[str] | None] = ContextVar("refusals of items", default=None)


@dataclass(frozen=True)
class _Refusal:
    """Why an item is refused."""

    why: str


@dataclass(frozen=True)
class _Caught:
    """A function that returns a refusal in place of raising it."""

    function: Callable[..., Any]

    def __call__(self, item: Any) -> Any:
        try:
            return self.function(item)
        except (UserError, FileNotFoundError) as error:
            return _Refusal(str(error))


@contextmanager
def all_refusals() -> Iterator[list[str]]:
    """Let `ordered_map` go on after a refused item. The list gets the first refusal of each item.

    At its end the map raises UserError if an item was refused, because its result is not whole.
    """
    found: list[str] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


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
    of an item is raised here and ends the work (but see `all_refusals`).
    """
    refusals = _collected.get()
    if refusals is None:
        yield from _mapped(function, items, workers, label, initializer, arguments)
        return
    for result in _mapped(_Caught(function), items, workers, label, initializer, arguments):
        if isinstance(result, _Refusal):
            refusals.append(result.why)
        else:
            yield result
    if refusals:
        raise UserError(f"{len(refusals)} of {len(items)} items are refused.")


def _mapped(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    workers: int,
    label: str,
    initializer: Callable[..., None] | None,
    arguments: tuple[Any, ...],
) -> Iterator[Any]:
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
