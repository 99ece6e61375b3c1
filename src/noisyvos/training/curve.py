"""The training curve: rows of mean loss terms, with noise diagnostics in some; its state travels in the checkpoint."""

import csv
import io
from dataclasses import dataclass, field
from typing import Any

from noisyvos.training import diagnostics


@dataclass
class Curve:
    """Rows so far, and the sums that the next row is made of."""

    rows: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    counts: dict[str, float] = field(default_factory=dict)

    def add(self, terms: dict[str, float]) -> None:
        """Take the terms of one iteration."""
        self.steps += 1
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def diagnose(self, counts: dict[str, float]) -> None:
        """Take the pixel counts of one diagnosed batch."""
        for name, value in counts.items():
            self.counts[name] = self.counts.get(name, 0.0) + value

    def close_row(self, iteration: int, rate: float, *, with_diagnostics: bool) -> dict[str, float]:
        """End a row after `iteration` iterations and return it: means since the last row, and diagnostics if they are due."""
        row = {"iteration": iteration, "learning_rate": rate} | {name: value / self.steps for name, value in self.sums.items()}
        if with_diagnostics:
            row |= diagnostics.shares(self.counts)
            self.counts = {}
        self.rows.append(row)
        self.sums, self.steps = {}, 0
        return row

    def last_diagnostics(self) -> dict[str, float]:
        """Return the newest value of every diagnostic."""
        found: dict[str, float] = {}
        for row in self.rows:
            found |= {name: row[name] for name in diagnostics.COLUMNS if name in row}
        return found

    def csv(self) -> str:
        """Return the rows as CSV; a value that a row does not have is empty."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        columns = [name for name in names if name not in diagnostics.COLUMNS] + [name for name in diagnostics.COLUMNS if name in names]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.8g}" for name, value in row.items()} for row in self.rows)
        return text.getvalue()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"rows": self.rows, "sums": self.sums, "steps": self.steps, "counts": self.counts}
