"""What is made of one object's values over time: mean, recall and decay, and the totals over all objects."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from noisyvos.errors import UserError

NAMES = ("J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
_BINS = 4


def over_time(values: np.ndarray, decay: str = "intended") -> tuple[float, float, float]:
    """Return mean, recall (share of values above 0.5) and decay (first quarter's mean - last quarter's) of (n,) values.

    Quarters share the frames at their borders. `decay="official"` wraps frame numbers at 256 as the DAVIS tool does,
    so that from 257 scored frames on decay is NaN or belongs to other frames.
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
    """Return the global numbers: plain means over objects of (J-Mean, J-Recall, J-Decay, F-Mean, F-Recall, F-Decay)."""
    columns = np.mean(np.array(list(objects), float), axis=0)
    means = dict(zip(NAMES, map(float, columns), strict=True))
    return {"J&F-Mean": (means["J-Mean"] + means["F-Mean"]) / 2, **means}


def by_category(
    values: Mapping[tuple[str, int], tuple[float, float]],
    categories: Mapping[tuple[str, int], str],
    seen: Iterable[str],
) -> dict[str, float]:
    """Return the five numbers of YouTube-VOS: J and F of seen and of unseen categories, and G, their plain mean.

    `values` holds (J-Mean, F-Mean) and `categories` the category of every object (sequence, id); `seen` are the
    categories that training has. A side without any object is NaN, and so is G then. UserError for an object without
    a category. Xu et al., "YouTube-VOS: A large-scale video object segmentation benchmark", 2018, section 4.
    """
    seen = set(seen)
    groups: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for (sequence, number), pair in values.items():
        if (sequence, number) not in categories:
            raise UserError(
                f"Object {number} of sequence {sequence!r} has no category. Give one for every object that is scored."
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
