"""Several videos at once in one process, with results in the order of one after the other."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item, threading.Event], Result],
    items: Iterable[Item],
    at_once: int,
    stream: Callable[[], None] = lambda: None,
) -> Iterator[Result]:
    """Yield `function(item, stop)` for every item, in order; `at_once` of them are computed at a time, a thread each.

    Results that are ready early wait, at most `at_once` of them. When an item fails, its error is raised here and `stop`
    is set, which the others should look at. `stream()` runs first in every thread.
    """
    stop = threading.Event()
    if at_once == 1:
        for item in items:
            yield function(item, stop)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(at_once, "video", stream) as pool:
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
