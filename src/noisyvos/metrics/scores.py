"""The result of scoring: values by frame, object and sequence, as tables and as CSV text."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from noisyvos.errors import UserError

if TYPE_CHECKING:
    import pandas

NAMES = ("J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
_BINS = 4


@dataclass(frozen=True, eq=False)
class ObjectScore:
    """J and F, (n,) float64 each, of one object over its n scored frames.

    DAVIS counts every id from 1 to the largest of the first mask. `made_up`: no true mask has it.
    """

    sequence: str
    object: int
    frames: tuple[str, ...]
    region: np.ndarray
    boundary: np.ndarray
    made_up: bool = False


@dataclass(eq=False)
class Scores:
    """J, F and J&F of a mask collection.

    `means` are over all objects. The tables `frames`, `objects` and `sequences` are pandas data
    frames, made on first use; the row methods give the same values without pandas.
    """

    protocol: str
    decay: str
    items: tuple[ObjectScore, ...]
    scored_sequences: tuple[str, ...]
    skipped_sequences: tuple[str, ...] = ()
    late: dict[str, tuple[int, ...]] = field(default_factory=dict)  # later ids, not scored
    means: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self._statistics = [
            over_time(item.region, self.decay) + over_time(item.boundary, self.decay)
            for item in self.items
        ]
        self.means = totals(self._statistics)

    @property
    def made_up(self) -> dict[str, dict[str, Any]]:
        """Sequences with gaps in their ids: {name: {"ids": true ones, "made_up": number}}."""
        found = {}
        for name in dict.fromkeys(item.sequence for item in self.items if item.made_up):
            own = [item for item in self.items if item.sequence == name]
            ids = [item.object for item in own if not item.made_up]
            found[name] = {"ids": ids, "made_up": len(own) - len(ids)}
        return found

    def frame_rows(self) -> Iterator[tuple[str, int, str, float, float]]:
        """Yield (sequence, object, frame, J, F)."""
        for item in self.items:
            for frame, region, boundary in zip(
                item.frames, item.region.tolist(), item.boundary.tolist(), strict=True
            ):
                yield item.sequence, item.object, frame, region, boundary

    def object_rows(self) -> Iterator[tuple[str, int, tuple[float, ...]]]:
        """Yield (sequence, object, the six numbers NAMES)."""
        for item, values in zip(self.items, self._statistics, strict=True):
            yield item.sequence, item.object, values

    def sequence_rows(self) -> Iterator[tuple[str, float, float, float]]:
        """Yield (sequence, J&F-Mean, J-Mean, F-Mean), means over the sequence's objects."""
        for name in self.scored_sequences:
            own = [values for sequence, _, values in self.object_rows() if sequence == name]
            if own:
                region, boundary = (
                    float(np.mean([values[column] for values in own])) for column in (0, 3)
                )
                yield name, (region + boundary) / 2, region, boundary

    @cached_property
    def frames(self) -> "pandas.DataFrame":
        """A row per scored object and frame: sequence, object, frame, J, F."""
        return _table(self.frame_rows(), FRAME_COLUMNS)

    @cached_property
    def objects(self) -> "pandas.DataFrame":
        """A row per object: sequence, object, mean, recall and decay of J and of F."""
        return _table(((*head, *values) for *head, values in self.object_rows()), OBJECT_COLUMNS)

    @cached_property
    def sequences(self) -> "pandas.DataFrame":
        """A row per sequence: sequence, J&F-Mean, J-Mean, F-Mean."""
        return _table(self.sequence_rows(), SEQUENCE_COLUMNS)

    def csv_files(self, subset: str = "val") -> dict[str, str]:
        """Return the text of every CSV file by name.

        Three tables have full precision; two are written as the DAVIS tool writes them.
        """
        return {
            "frames.csv": _csv(FRAME_COLUMNS, self.frame_rows()),
            "objects.csv": _csv(
                OBJECT_COLUMNS, ((*head, *values) for *head, values in self.object_rows())
            ),
            "sequences.csv": _csv(SEQUENCE_COLUMNS, self.sequence_rows()),
            f"global_results-{subset}.csv": _csv(
                GLOBAL_COLUMNS, [[self.means[name] for name in GLOBAL_COLUMNS]], decimals=3
            ),
            f"per-sequence_results-{subset}.csv": _csv(
                ("Sequence", "J-Mean", "F-Mean"),
                (
                    (f"{sequence}_{number}", values[0], values[3])
                    for sequence, number, values in self.object_rows()
                ),
                decimals=3,
            ),
        }


FRAME_COLUMNS = ("sequence", "object", "frame", "J", "F")
OBJECT_COLUMNS = ("sequence", "object", *NAMES)
SEQUENCE_COLUMNS = ("sequence", "J&F-Mean", "J-Mean", "F-Mean")
GLOBAL_COLUMNS = ("J&F-Mean", *NAMES)


def _table(rows: Iterable[tuple], columns: tuple[str, ...]) -> "pandas.DataFrame":
    import pandas

    return pandas.DataFrame(list(rows), columns=list(columns))


def _csv(columns: tuple[str, ...], rows: Iterable[Iterable], decimals: int | None = None) -> str:
    """Return CSV text with `\\n` line ends; NaN is an empty field.

    Floats have full precision, or `decimals` if given.
    """
    lines = [",".join(columns)]
    lines += [",".join(_cell(value, decimals) for value in row) for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: str | int | float, decimals: int | None) -> str:
    if not isinstance(value, float):
        text = str(value)
        return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n') else text
    if value != value:
        return ""
    return repr(value) if decimals is None else f"{value:.{decimals}f}"


def over_time(values: np.ndarray, decay: str = "intended") -> tuple[float, float, float]:
    """Return mean, recall and decay of (n,) values.

    Recall is the share of values above 0.5, decay the mean of the first quarter less that of the
    last. Quarters share the frames at their borders. `decay="official"` wraps frame numbers at 256
    as the DAVIS tool does: from 257 scored frames on, decay is NaN or uses other frames.
    """
    edges = [(k * (len(values) - 1) + 2) // _BINS for k in range(_BINS + 1)]
    first, last = (edges[0], edges[1] + 1), (edges[-2], edges[-1] + 1)
    if decay == "official":
        first, last = ((start % 256, (end - 1) % 256 + 1) for start, end in (first, last))
        first, last = ((start, end % 256) for start, end in (first, last))
    return (
        float(np.mean(values)),
        float(np.mean(values > 0.5)),
        _mean(values[slice(*first)]) - _mean(values[slice(*last)]),
    )


def totals(objects: Iterable[tuple[float, ...]]) -> dict[str, float]:
    """Return the global numbers: J&F-Mean, and plain means over objects of the six NAMES."""
    columns = np.mean(np.array(list(objects), float), axis=0)
    means = dict(zip(NAMES, map(float, columns), strict=True))
    return {"J&F-Mean": (means["J-Mean"] + means["F-Mean"]) / 2, **means}


def by_category(
    values: Mapping[tuple[str, int], tuple[float, float]],
    categories: Mapping[tuple[str, int], str],
    seen: Iterable[str],
) -> dict[str, float]:
    """Return the five numbers of YouTube-VOS: J and F of seen and unseen categories, and G.

    values: (J-Mean, F-Mean) of every object (sequence, id); categories: its category; seen: the
    categories of training. Groups without objects are NaN, and then G, the mean of the four, too.
    UserError for an object without a category. Xu et al., "YouTube-VOS: A large-scale video object
    segmentation benchmark", 2018, section 4.
    """
    seen = set(seen)
    groups: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for (sequence, number), pair in values.items():
        if (sequence, number) not in categories:
            raise UserError(
                f"Object {number} of sequence {sequence!r} has no category. "
                "Give one for every scored object."
            )
        groups[categories[sequence, number] in seen].append(pair)
    numbers = {
        f"{measure}-{group}": _mean(np.array([pair[index] for pair in groups[known]]))
        for known, group in ((True, "Seen"), (False, "Unseen"))
        for index, measure in enumerate("JF")
    }
    return {"G": sum(numbers.values()) / len(numbers), **numbers}


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan
