"""What one question has found: a long table of numbers, and readable tables with their captions."""

from dataclasses import dataclass

import pandas as pd

from noisyvos.analysis.families import ScoreTables
from noisyvos.analysis.results import Results
from noisyvos.registry import Registry


@dataclass(frozen=True)
class View:
    """One readable table, its caption, and sentences on how to read it."""

    caption: str
    table: pd.DataFrame
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The answer to one question on one evaluation set.

    title: heading in the report; numbers: every number, as a long table; views: what people read;
    place: position in the report, lowest first; empty: nothing here could be computed, so that the
    page leaves it out.
    """

    title: str
    numbers: pd.DataFrame
    views: tuple[View, ...]
    place: int
    empty: bool = False


# Each module of the package registers a function from ScoreTables to Comparison under the name of
# its tables. The function returns None where the grid lacks the cells of the question.
QUESTIONS = Registry("question", "noisyvos.analysis.questions")


def comparisons(results: Results, evaluation: str) -> dict[str, Comparison]:
    """Return the answers for one evaluation set by name, in the report's order.

    Questions that the preset has no cells for are left out.
    """
    tables = ScoreTables(results, evaluation)
    found = {question.name: question.build(tables) for question in QUESTIONS}
    answered = {name: comparison for name, comparison in found.items() if comparison is not None}
    return dict(sorted(answered.items(), key=lambda item: item[1].place))
