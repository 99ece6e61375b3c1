"""Command `track`: update MLflow from the results, for example of runs made on another machine."""

from pathlib import Path

from noisyvos.analysis.results import load_results
from noisyvos.tracking.publish import publish


def run(*, cells: Path, results: Path, predictions: Path, converted: Path) -> None:
    """Write the runs and sweeps of the preset in `cells` from its results."""
    loaded = load_results(cells, results, predictions, converted)
    publish(loaded)
    count = len(loaded.score_cells) - len(loaded.missing)
    print(
        f"{count} scored cells of preset {loaded.preset['name']} are in MLflow; "
        "view them with `mlflow ui`."
    )
