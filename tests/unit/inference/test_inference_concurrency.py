"""Prefetching and videos side by side change nothing but the time."""

import threading
import time

import pytest

from noisyvos.inference.concurrency import in_order, prefetch


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "decode"]


def test_same_frames_in_order() -> None:
    assert list(prefetch(range(50))) == list(range(50))
    assert list(prefetch([])) == []
    assert list(prefetch(iter([1, 2]))) == [1, 2]
    assert not decoders()


def test_few_frames_are_made_in_advance() -> None:
    made = []
    frames = prefetch(made.append(index) or index for index in range(100))
    assert next(frames) == 0
    deadline = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # in which a thread that does not wait would go on
    assert len(made) == 4, "the one handed out, two that wait, one in the thread's hand"
    frames.close()
    assert not decoders()
    assert len(made) == 4


def test_errors_come_at_their_frame() -> None:
    def frames():
        yield 0
        yield 1
        raise ValueError("frame 2 is broken")

    found = prefetch(frames())
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ValueError, match="frame 2 is broken"):
        next(found)
    assert not decoders()


@pytest.mark.parametrize("at_once", [1, 3])
def test_results_keep_their_order(at_once) -> None:
    together, running, most, lock = threading.Barrier(at_once), set(), [], threading.Lock()

    def work(item: int, stop: threading.Event) -> int:
        with lock:
            running.add(item)
            most.append(len(running))
        together.wait(10)  # breaks unless so many run at once
        time.sleep(0.02 * (3 - item % 3))
        with lock:
            running.remove(item)
        return item * item

    assert list(in_order(work, range(9), at_once)) == [item * item for item in range(9)]
    assert max(most) == at_once


def test_an_error_stops_the_others() -> None:
    stopped = []

    def work(item: int, stop: threading.Event) -> int:
        if item == 1:
            raise RuntimeError("video 1")
        if item == 2:
            stopped.append(stop.wait(10))
        return item

    results = in_order(work, range(9), 3)
    assert next(results) == 0
    with pytest.raises(RuntimeError, match="video 1"):
        next(results)
    assert stopped == [True]
