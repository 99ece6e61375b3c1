"""Stage `check`: read a whole dataset once and show what is in it beside the published counts."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from rich.console import Console
from rich.table import Table

from noisyvos.datasets.base import DATASETS, Conversion
from noisyvos.datasets.check import PROBLEMS, Findings, Problem, check_dataset
from noisyvos.errors import UserError
from noisyvos.parallel import all_refusals
from noisyvos.params.entries import read_entry, read_family
from noisyvos.raw.base import Counts

EXAMPLES = 3  # places shown of each kind of problem


@dataclass(frozen=True)
class Count:
    """A count that was found, the published one, and how they compare.

    A recalled number is shown but never makes a dataset unusable.
    """

    what: str
    found: int
    published: int | None = None
    verdict: Literal[
        "", "equal", "DIFFERENT", "equal (recalled)", "different (recalled)", "fewer (reduced)"
    ] = ""


def run(
    dataset: Path,
    *,
    expect: Path | None = Path("params/sources.yaml"),
    one_object: bool = False,
    raw_of: str | None = None,
    params: Path = Path("params"),
    workers: int = 1,
) -> bool:
    """Print a table on `dataset`; return whether it is usable.

    It is usable if nothing fatal was found and every confirmed count is met.

    `expect` is a sources.yaml with published counts, or None. `one_object` reads the masks of a raw
    folder as that setting of its dataset does. With `raw_of`, `dataset` is raw material of any
    form, which is read as that dataset of datasets.yaml. UserError if `dataset` is not a dataset.
    """
    if raw_of is not None:
        findings = check_raw(raw_of, dataset, params, workers)
    else:
        findings = check_dataset(dataset, workers, one_object)
    published = _published(findings, expect)
    comparisons = compare(findings, published.get(_split(findings)))
    for folder, images in findings.folders.items():
        part = compare(Findings(folder, {"images": images}), published.get(folder))
        comparisons += [
            replace(entry, what=f"images of {folder}")
            for entry in part
            if len(findings.folders) > 1
        ]
    usable = findings.usable and not any(entry.verdict == "DIFFERENT" for entry in comparisons)
    _show(dataset, findings, comparisons, usable)
    return usable


def check_raw(name: str, raw: Path, params: Path, workers: int = 1) -> Findings:
    """Return what is in raw material and wrong with it, as `convert` reads it for dataset `name`.

    The conversion goes to a temporary folder, which is removed. If it refuses anything, the
    problems are what it refuses: the first of each sequence or image. UserError or
    FileNotFoundError if there is no such dataset or folder.
    """
    kind, settings = read_entry(params, "datasets", name, DATASETS)
    if not raw.is_dir():
        raise FileNotFoundError(f"{raw}: no such folder.")
    with TemporaryDirectory(prefix="noisyvos-check-") as folder:
        out = Path(folder) / name
        out.mkdir()
        with all_refusals() as refused:
            try:
                kind.build(Conversion(name, raw.absolute(), out, workers), settings)
            except (UserError, FileNotFoundError) as error:
                problems = [Problem("refused by convert", each) for each in refused or [str(error)]]
                return Findings(name, {}, problems)
        return check_dataset(out, workers)


def compare(findings: Findings, published: Counts | None) -> list[Count]:
    """Return all counts found, each beside its published number if known."""
    result = []
    for what, found in findings.counts.items():
        wanted = getattr(published, what, None)
        if wanted is None:
            result.append(Count(what, found))
        elif what in published.recalled:  # type: ignore[union-attr]
            result.append(
                Count(
                    what,
                    found,
                    wanted,
                    "equal (recalled)" if found == wanted else "different (recalled)",
                )
            )
        elif what == "objects" and findings.reduced and found < wanted:
            result.append(Count(what, found, wanted, "fewer (reduced)"))
        else:
            result.append(Count(what, found, wanted, "equal" if found == wanted else "DIFFERENT"))
    return result


def _published(findings: Findings, expect: Path | None) -> dict[str, Counts]:
    """Return the published counts by split of the dataset's source."""
    if expect is None or findings.source is None or not expect.is_file():
        return {}
    entries = read_family(expect.parent, expect.stem).get(findings.source, {}).get("published", {})
    return {split: Counts(**counts) for split, counts in entries.items()}


def _split(findings: Findings) -> str:
    """Return the name of the split in `published`.

    DAVIS 2017 has no counts of the 2016 split that its package also holds.
    """
    year, _, split = (findings.split or "all").rpartition("/")
    return "2016/" + split if year == "2016" and findings.source != "davis16" else split


def _show(dataset: Path, findings: Findings, comparisons: list[Count], usable: bool) -> None:
    table = Table(title=f"{findings.name} ({dataset})", title_justify="left")
    for heading, side in (
        ("what", "left"),
        ("found", "right"),
        ("published", "right"),
        ("", "left"),
    ):
        table.add_column(heading, justify=side, overflow="fold")  # type: ignore[arg-type]
    for entry in comparisons:
        published = "" if entry.published is None else f"{entry.published:,}"
        style = "red" if entry.verdict == "DIFFERENT" else None
        table.add_row(
            entry.what.replace("annotated_frames", "masks"),
            f"{entry.found:,}",
            published,
            entry.verdict,
            style=style,
        )
    table.add_section()
    tally = Counter(problem.what for problem in findings.problems)
    for what, fatal in PROBLEMS.items():
        if tally[what]:
            table.add_row(
                what,
                f"{tally[what]:,}",
                "",
                "fatal" if fatal else "",
                style="red" if fatal else "yellow",
            )
    if not tally:
        table.add_row("problems", "0", "", "")
    console = Console()
    console.print(table)
    for what in tally:  # below the table, so that a path stays in one piece
        places = [problem.where for problem in findings.problems if problem.what == what]
        more = f"\n  and {len(places) - EXAMPLES} more" if len(places) > EXAMPLES else ""
        console.print(
            f"{what}:\n  " + "\n  ".join(places[:EXAMPLES]) + more,
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    console.print("usable" if usable else "NOT usable as it is", style="green" if usable else "red")
