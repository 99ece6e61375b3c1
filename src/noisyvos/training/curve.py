"""The training curve: rows of mean loss terms, with noise diagnostics in some.

Its state travels in the checkpoint.
"""

import csv
import io
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from noisyvos.losses.pixels import frame
from noisyvos.methods.base import Method
from noisyvos.methods.diagnostics import diagnose
from noisyvos.models.base import Clip
from noisyvos.training.distributed import ALONE, Group
from noisyvos.training.step import StepResult


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
        """End a row after `iteration` iterations and return it.

        It holds the means since the last row, and the diagnostics if they are due.
        """
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
        # The sort is stable, so names keep the order of their first appearance otherwise.
        columns = sorted(names, key=lambda name: name in self.diagnostics)
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


@torch.no_grad()
def diagnoses(
    method: Method, result: StepResult, clip: Clip, iteration: int, group: Group
) -> list[dict[str, float]]:
    """Return the noise diagnostics of every frame of the batch, to the leading process.

    The whole batch counts, whichever processes computed it. The list is empty if clean labels are
    not known. For two networks both are diagnosed: the fates of wrong labels in the second one
    have names that end in `_second`.
    """
    if clip.clean is None:
        return []
    outputs = [
        [] if output is None else list(output.logits)
        for output in (result.output, result.teacher, result.peer)
    ]
    labels = [clip.masks, clip.clean, clip.num_objects]
    if group.size > 1:
        outputs = [[each.cpu() for each in logits] for logits in outputs]
        labels = [each.cpu() for each in labels]
    pieces = group.gather((outputs, labels))
    if not pieces:
        return []
    masks, clean, count = (
        torch.cat(each) for each in zip(*(labels for _, labels in pieces), strict=True)
    )
    seen, guessed, peer = (
        [torch.cat(logits) for logits in zip(*each, strict=True)]
        for each in zip(*(outputs for outputs, _ in pieces), strict=True)
    )
    method.from_all = ALONE.all_gather  # the whole batch is here
    # Methods with one network keep large losses; methods with two keep small ones.
    top_p = float(result.terms.get("top_p", 1.0)) if result.peer is None else 1.0
    found = []
    for index, logits in enumerate(seen):
        given, true = masks[:, index + 1], clean[:, index + 1]
        shares = diagnose(logits, given, true, count, guessed[index] if guessed else None, top_p)
        if peer:
            shares |= _of_two(method, logits, peer[index], given, true, count, iteration)
        found.append(shares)
    return found


def _of_two(
    method: Method,
    logits: Tensor,
    peer_logits: Tensor,
    given: Tensor,
    clean: Tensor,
    count: Tensor,
    iteration: int,
) -> dict[str, float]:
    """Return the diagnostics that only two networks have.

    `mislabelled_kept` is the share of wrong labels among the pixels that the first network learns
    from. The others are the fates of wrong labels in the second network.
    """
    keep = method.kept_pixels(
        frame(logits, given, count), frame(peer_logits, given, count), iteration
    ) & (clean != 255)
    wrong = keep & (given != clean)
    kept = {"mislabelled_kept": int(wrong.sum()) / int(keep.sum())} if keep.any() else {}
    second = diagnose(peer_logits, given, clean, count)
    fates = ("memorised", "corrected", "other")
    return kept | {
        f"{name}_second": value for name, value in second.items() if name.split("_")[0] in fates
    }
