"""Stage `report`: one self-contained HTML page of a preset."""

from collections.abc import Mapping
from pathlib import Path

from noisyvos.analysis.families import ScoreTables
from noisyvos.analysis.questions.differences import difference_table
from noisyvos.analysis.results import load_results
from noisyvos.analysis.statistics.intervals import INTERVALS, recall
from noisyvos.report.contents import sections
from noisyvos.report.findings import findings
from noisyvos.report.page import write_page


def run(
    *,
    cells: Path,
    results: Path,
    predictions: Path,
    converted: Path,
    figures: Path,
    out: Path,
    logs: Path = Path("logs"),
    unfinished: Mapping[str, str] | None = None,
) -> None:
    """Write the page `out` from the scores and figures of the preset in `cells`.

    logs: where the reasons of missing cells come from. unfinished: as in `Results`.
    """
    loaded = load_results(cells, results, predictions, converted, unfinished)
    recall(figures.parent / "tables" / INTERVALS)
    preset = loaded.preset
    found: list[str] = []
    if loaded.evaluations:
        scores = ScoreTables(loaded, loaded.evaluations[0])
        found = findings(scores, difference_table(scores))
    write_page(
        out,
        title=f"noisyvos: {preset.get('title', preset['name'])}",
        subtitle=f"preset {preset['name']} · {len(loaded.train_cells)} training cells · "
        f"{len(loaded.missing)} missing",
        synthetic=bool(preset.get("synthetic")),
        found=found,
        sections=sections(loaded, figures, logs),
    )
    print(f"{out}: open it in a browser")
