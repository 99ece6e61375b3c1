"""What the scores of a preset show, in three sentences that are computed by fixed rules."""

from collections.abc import Iterator

import pandas as pd

from noisyvos.analysis.families import FEW_SEEDS, ScoreTables, Setting
from noisyvos.analysis.results import rows_of
from noisyvos.analysis.statistics.intervals import Interval, cluster_interval
from noisyvos.analysis.statistics.paired import POINTS, compare, paired_differences


def findings(scores: ScoreTables, table: pd.DataFrame) -> list[str]:
    """Return what label noise does, which methods differ, and what training gives at all.

    table: that of `difference_table`. A sentence whose cells the grid lacks is left out. The last
    one ends with what the numbers rest on.
    """
    found = [*_noise(scores), *_methods(table), *_pretrained(scores)]
    if found:
        found[-1] = found[-1].removesuffix(".") + f"; {_basis(scores)}."
    return found


def _noise(scores: ScoreTables) -> Iterator[str]:
    """Yield how much J&F the reference method loses under the most and the least harmful noise."""
    if not scores.families:
        return
    family = scores.families[0]
    reference = family.reference
    setting = family.conditions[0][0]
    clean = scores.get(setting, scores.clean, reference)
    if clean is None:
        return
    changes = _changes(scores, setting, reference, clean)
    level = f"{clean.to_numpy().mean():.1f} J&F"
    if not changes:
        yield f"{reference} reaches {level} on {scores.evaluation}; no noisy labels are scored yet."
        return
    ordered = sorted(changes.items(), key=lambda item: item[1].mean)
    (worst, low), (best, high) = ordered[0], ordered[-1]
    text = f"Label noise changes J&F of {reference}, {level} with clean labels, by {low.text()} "
    text += f"points under {worst}"
    if len(ordered) > 1:
        text += f", the worst of {len(ordered)} noise settings, and by {high.text()} under {best}"
        text += ", the mildest"
    yield text + " (95 % intervals over videos and seeds)."


def _changes(
    scores: ScoreTables, setting: Setting, method: str, clean: pd.DataFrame
) -> dict[str, Interval]:
    """Return the change from clean labels by label noise, in points, with two-way intervals."""
    found = {}
    for noise in scores.noises:
        table = scores.get(setting, noise, method)
        pair = None if noise == scores.clean or table is None else paired_differences(table, clean)
        if pair is not None:
            found[noise] = compare(pair).both
    return found


def _methods(table: pd.DataFrame) -> Iterator[str]:
    """Yield how many methods differ from the reference, and the largest difference."""
    known = table[table["difference"].notna()] if len(table) else table
    if not len(known):
        return
    withheld = bool(known["p_holm"].isna().all())
    adjusted = "" if withheld else " after Holm's adjustment"
    counts = {word: int((known["verdict"] == word).sum()) for word in ("higher", "lower")}
    references = list(dict.fromkeys(known["reference"]))
    most = max(rows_of(known), key=lambda row: abs(row.difference))
    p = "" if most.p_holm != most.p_holm else f", p (Holm) {most.p_holm:.2g}"
    difference = Interval(most.difference, most.low, most.high).text()
    rest = len(known) - sum(counts.values())
    yield (
        f"Of {len(known)} paired comparisons with {_listed(references)}, {counts['higher']} show "
        f"higher and {counts['lower']} lower scores{adjusted}, {rest} neither; the largest "
        f"difference is {most.method} − {most.reference} under {most.noise}: {difference} "
        f"points{p}" + ("; p values are withheld because cells are missing." if withheld else ".")
    )


def _listed(names: list[str], shown: int = 3) -> str:
    if len(names) > shown:
        return f"{len(names)} reference methods"
    return " or ".join(names)


def _pretrained(scores: ScoreTables) -> Iterator[str]:
    """Yield how many (method, label noise) end above and below the network before main training."""
    results, evaluation = scores.results, scores.evaluation
    start = {
        label: rows
        for label, rows in results.baselines(evaluation).items()
        if label.startswith("pretrained only")
    }
    if not start:
        return
    started = pd.concat(start.values())
    above, below, total = 0, 0, 0
    for (model, _, _), cells in results.trained(evaluation, own_labels=True).groupby(
        ["model", "line", "noise"], sort=False
    ):
        of_model = started[started["model"] == model]
        if len(of_model):
            interval = _over_videos(cells, of_model)
            total += 1
            above += interval.low > 0
            below += interval.high < 0
    if total:
        yield (
            f"Against the pretrained network without main training, {above} of {total} pairs of "
            f"method and label noise score higher, {below} lower, and {total - above - below} are "
            "not separable (95 % intervals over videos, networks as trained)."
        )


def _over_videos(first: pd.DataFrame, second: pd.DataFrame) -> Interval:
    """Return the mean difference of two groups of rows, in points, with an interval over videos."""
    means = [
        rows.groupby(["sequence", "object"], sort=True)["JF"].mean() for rows in (first, second)
    ]
    apart = POINTS * (means[0] - means[1]).dropna()
    sums = apart.groupby(level="sequence").agg(["sum", "count"])
    return cluster_interval(sums["sum"].to_numpy(float), sums["count"].to_numpy(float))


def _basis(scores: ScoreTables) -> str:
    """Return what the numbers come from: seeds, videos, whether synthetic, and missing cells."""
    results = scores.results
    rows = results.trained(scores.evaluation)
    counts = rows.groupby(["line", "noise"], sort=False)["seed"].nunique()
    fewest, most = int(counts.min()), int(counts.max())
    seeds = f"{fewest} to {most} seeds" if fewest < most else f"{most} seed" + "s" * (most > 1)
    kind = "synthetic " if results.preset.get("synthetic") else ""
    text = f"all of this rests on {seeds} and {rows['sequence'].nunique()} {kind}videos"
    if fewest < FEW_SEEDS:
        text += " (too few seeds for their spread to be known well)"
    missing, cells = len(results.missing), len(results.score_cells) + len(results.disturbed_cells)
    if missing:
        text += f", and {missing} of {cells} cells are missing"
    return text
