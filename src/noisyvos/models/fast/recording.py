"""CUDA graphs: parts of a network that are recorded once per shape and then replayed.

One launch starts all kernels of a part, so that a GPU never waits for Python. A part is a method
that maps tensors to tensors and whose work depends on their shapes only. Inputs are copied into the
recording's own tensors and results out of them, so a caller sees ordinary tensors.
"""

import copy
import threading
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

Network = TypeVar("Network", bound=torch.nn.Module)
Tensors = list[Tensor]
# Takes a function of tensors and its own input tensors; returns what does the work on them again
# and gives the tensors with the results, equal ones each time.
Recorder = Callable[[Callable[[], Tensors]], Callable[[], Tensors]]

MOST = 24  # recordings of a part; a video with more shapes is computed without them
WARM = 3  # runs before a recording, in which libraries choose their kernels
_one_at_a_time = threading.Lock()


def record(work: Callable[[], Tensors]) -> Callable[[], Tensors]:
    """Return `work` as a CUDA graph."""
    with _one_at_a_time:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM):
                work()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            found = work()

    def replay() -> Tensors:
        graph.replay()
        return found

    return replay


class Recorded:
    """A function whose work is recorded for each combination of shapes; each thread has its own."""

    def __init__(self, function: Callable[..., Any], recorder: Recorder = record) -> None:
        self.function, self.recorder = function, recorder
        self._own = threading.local()

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Return what the function returns."""
        tensors: Tensors = []
        form = _take_apart((arguments, options), tensors)
        key = (form, tuple((x.shape, x.stride(), x.dtype, x.device) for x in tensors))
        made: dict[Hashable, tuple[Tensors, Callable[[], Tensors], Any]]
        made = self._own.__dict__.setdefault("made", {})
        if key not in made:
            if len(made) == MOST:
                return self.function(*arguments, **options)
            made[key] = self._record((arguments, options), tensors)
        inputs, replay, result = made[key]
        for own, new in zip(inputs, tensors, strict=True):
            own.copy_(new)
        return _put_together(result, iter([each.clone() for each in replay()]))

    def _record(self, given: Any, tensors: Tensors) -> tuple[Tensors, Callable[[], Tensors], Any]:
        inputs = [each.clone() for each in tensors]
        results: list[Any] = []

        def work() -> Tensors:
            arguments, options = _put_together(given, iter(inputs))
            found: Tensors = []
            results[:] = [self.function(*arguments, **options)]
            _take_apart(results[0], found)
            return found

        return inputs, self.recorder(work), results[0]


def _take_apart(value: Any, tensors: Tensors) -> Hashable:
    """Append the tensors in a value to `tensors`; return all else, as a key."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return Tensor
    if isinstance(value, list | tuple):
        return (type(value), tuple(_take_apart(each, tensors) for each in value))
    if isinstance(value, dict):
        return tuple((name, _take_apart(each, tensors)) for name, each in value.items())
    if is_dataclass(value):
        return (type(value), *(_take_apart(getattr(value, f.name), tensors) for f in fields(value)))
    return value


def _put_together(value: Any, tensors: Any) -> Any:
    """Return a value of the same form with other tensors."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, list | tuple):
        return type(value)([_put_together(each, tensors) for each in value])
    if isinstance(value, dict):
        return {name: _put_together(each, tensors) for name, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        own = {f.name: _put_together(getattr(value, f.name), tensors) for f in fields(value)}
        return type(value)(**own)
    return value


def with_recorded_parts(network: Network, recorder: Recorder = record) -> Network:
    """Return a copy of a twin whose methods named in its `recorded_parts` are recorded.

    The copy is made once and shares the twin's weights.
    """
    kept: list[Network] = network.__dict__.setdefault("_recorded", [])
    if not kept:
        own = copy.copy(network)
        for name in getattr(network, "recorded_parts", ()):
            setattr(own, name, Recorded(getattr(network, name), recorder))
        kept.append(own)
    return kept[0]
