"""The tracked run of a cell, looked up in MLflow."""

from pathlib import Path
from typing import Any

from noisyvos.tracking import store as stores


def find_run(preset: str, block: str, cell: str) -> dict[str, Any] | None:
    """Return id, experiment, status, commit and server of a cell's current run; None for none.

    No answer, no MLflow or no database count as none: a trace must not depend on tracking.
    """
    uri = stores.uri()
    if uri == stores.DEFAULT and not Path("mlflow.db").is_file():
        return None
    try:
        from noisyvos.tracking.server import probe

        probe(uri)
        client = stores.connect()
        experiment = client.get_experiment_by_name(f"grid/{block or preset}")
        if experiment is None:
            return None
        runs = stores.Store(client, preset).find(experiment.experiment_id, "cell", cell)
    except Exception:  # whatever is wrong with the server or its database
        return None
    if not runs:
        return None
    run = runs[0]
    return {
        "run": run.info.run_id,
        "experiment": experiment.name,
        "status": run.info.status,
        "commit": run.data.tags.get("git_sha", ""),
        "server": uri,
    }
