"""The training curve: rows of mean loss terms, with noise diagnostics in some; its state travels in the checkpoint."""

import csv
import io
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Mean:
    """Means of named values; a value may be missing in some of the samples."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: dict[str, float]) -> None:
        """Take one sample."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """Return the means and start anew."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means


@dataclass
class Curve:
    """Rows so far, what the next row is made of, and the newest diagnostics."""

    rows: list[dict[str, float]] = field(default_factory=list)
    terms: Mean = field(default_factory=Mean)
    shares: Mean = field(default_factory=Mean)
    diagnostics: dict[str, float] = field(default_factory=dict)

    def close_row(self, iteration: int, rate: float, *, with_diagnostics: bool) -> dict[str, float]:
        """End a row after `iteration` iterations and return it: means since the last row, and diagnostics if they are due."""
        row = {"iteration": iteration, "learning_rate": rate} | self.terms.take()
        if with_diagnostics:
            found = self.shares.take()
            self.diagnostics |= found
            row |= found
        self.rows.append(row)
        return row

    def final(self) -> dict[str, float]:
        """Return the loss terms of the last row."""
        return {
            name: value
            for name, value in self.rows[-1].items()
            if name not in ("iteration", "learning_rate", *self.diagnostics)
        }

    def csv(self) -> str:
        """Return the rows as CSV, diagnostics last; a value that a row does not have is empty."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        columns = sorted(
            names, key=lambda name: name in self.diagnostics
        )  # stable: the order of first appearance otherwise
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.8g}" for name, value in row.items()} for row in self.rows)
        return text.getvalue()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Curve":
        """Return the curve that `state` described."""
        return cls(
            state["rows"], Mean(**state["terms"]), Mean(**state["shares"]), state["diagnostics"]
        )
