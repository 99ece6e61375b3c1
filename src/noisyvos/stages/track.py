"""Command `track`: update MLflow from the results, for example of runs made on another machine."""

from pathlib import Path

from noisyvos.analysis.results import load_results
from noisyvos.errors import UserError
from noisyvos.tracking.mlflow import enabled
from noisyvos.tracking.publish import publish


def run(*, cells: Path, results: Path, predictions: Path, converted: Path) -> None:
    """Write the runs and sweeps of the preset in `cells` from its results.

    UserError if MLflow did not take all of them, or if tracking is switched off.
    """
    loaded = load_results(cells, results, predictions, converted)
    if not enabled():
        raise UserError("Tracking is switched off. Unset NOISYVOS_TRACKING and run this again.")
    if not publish(loaded):
        raise UserError(
            "MLflow does not have all scores; the warning above says why. "
            "Check MLFLOW_TRACKING_URI, or the file mlflow.db here, and run this again."
        )
    count = len(set(loaded.score_cells) - loaded.absent)
    print(
        f"{count} scored cells of preset {loaded.preset['name']} are in MLflow; "
        "view them with `mlflow ui`."
    )
