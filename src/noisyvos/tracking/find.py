"""The tracked run of a cell, looked up in MLflow."""

import os
from pathlib import Path
from typing import Any

_STORE = "sqlite:///mlflow.db"


def find_run(preset: str, block: str, cell: str) -> dict[str, Any] | None:
    """Return id, experiment, status, commit and server of a cell's current run; None for none.

    No answer, no MLflow or no database count as none: a trace must not depend on tracking.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "") or _STORE
    if uri == _STORE and not Path("mlflow.db").is_file():
        return None
    try:
        from noisyvos.tracking import mlflow as tracking
        from noisyvos.tracking.server import probe

        probe(uri)
        client = tracking.connect()
        experiment = client.get_experiment_by_name(f"grid/{block or preset}")
        if experiment is None:
            return None
        runs = tracking.Store(client, preset).find(experiment.experiment_id, "cell", cell)
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
