"""Frames decoded by a thread while the network works on earlier ones."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Frame = TypeVar("Frame")


class Ahead(Generic[Frame]):
    """The same frames in the same order, of which up to `number` are made before they are asked for.

    An error of the source is raised where its frame would have come. The thread ends with the iteration, also where that is
    given up early.
    """

    def __init__(self, frames: Iterable[Frame], number: int = 2) -> None:
        self.frames, self.number = frames, number

    def __iter__(self) -> Iterator[Frame]:
        ready: queue.Queue[tuple[str, object]] = queue.Queue(self.number)
        given_up = threading.Event()
        thread = threading.Thread(
            target=self._fill, args=(ready, given_up), name="decode", daemon=True
        )
        thread.start()
        try:
            while True:
                kind, what = ready.get()
                if kind == "error":
                    raise what
                if kind == "end":
                    return
                yield what
        finally:
            given_up.set()
            while not ready.empty():  # wakes a thread that waits for a place
                ready.get_nowait()
            thread.join()

    def _fill(self, ready: queue.Queue, given_up: threading.Event) -> None:
        try:
            for frame in self.frames:
                ready.put(("frame", frame))
                if given_up.is_set():
                    return
            ready.put(("end", None))
        except Exception as error:
            ready.put(("error", error))


class AheadOfKnown(Ahead[Frame]):
    """The same for a source whose length is known, which memories make use of."""

    def __len__(self) -> int:
        return len(self.frames)


def ahead(frames: Iterable[Frame]) -> Ahead[Frame]:
    """Return `frames` decoded ahead, with a length if they have one."""
    return (AheadOfKnown if hasattr(frames, "__len__") else Ahead)(frames)
