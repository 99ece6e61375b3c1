"""Prefetched frames, and several videos at once: neither changes a result."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(items: Iterable[Item], number: int = 2) -> Iterator[Item]:
    """Yield `items` in their order; a thread makes up to `number` of them in advance.

    An error of the source is raised where its item would have come. The thread ends with the
    iteration, also when the caller stops early.
    """
    ready: queue.Queue[tuple[list[Item], Exception | None]] = queue.Queue(number)
    stop = threading.Event()

    def fill() -> None:
        error = None
        try:
            for item in items:
                ready.put(([item], None))
                if stop.is_set():
                    return
        except Exception as raised:
            error = raised
        ready.put(([], error))

    thread = threading.Thread(target=fill, name="decode", daemon=True)
    thread.start()
    try:
        while True:
            found, error = ready.get()
            if error is not None:
                raise error
            if not found:
                return
            yield found[0]
    finally:
        stop.set()
        while not ready.empty():  # wakes a thread that waits for a free place
            ready.get_nowait()
        thread.join()


def in_order(
    function: Callable[[Item, threading.Event], Result],
    items: Iterable[Item],
    at_once: int,
    prepare_thread: Callable[[], None] = lambda: None,
) -> Iterator[Result]:
    """Yield `function(item, stop)` for every item, in order, with `at_once` threads.

    At most `at_once` results that are ready early wait. When an item fails, its error is raised
    here and `stop` is set; the function should then return early. `prepare_thread()` runs first in
    every thread.
    """
    stop = threading.Event()
    if at_once == 1:
        for item in items:
            yield function(item, stop)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(at_once, "video", prepare_thread) as pool:
        try:
            for item in items:
                if len(waiting) == at_once:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(function, item, stop))
            while waiting:
                yield waiting.popleft().result()
        finally:
            stop.set()
            for future in waiting:
                future.cancel()
