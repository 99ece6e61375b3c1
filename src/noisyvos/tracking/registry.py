"""The best networks of a preset in MLflow's model registry.

A registered model is a network of a preset, `<preset>-<model>`. Its versions are the best cell of
each method on the main evaluation set, under the alias of the method; the best of all has the
alias `best`. A version points at the file of weights and copies nothing.
"""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noisyvos.analysis.results import Results, rows_of
from noisyvos.io.hashing import file_hash
from noisyvos.tracking.store import Store
from noisyvos.tracking.store import uri as tracking_uri

BEST = "best"
_RESERVED = re.compile(r"^(latest|[vV]\d+)$")  # aliases that MLflow keeps for itself
_POINTER = "weights.json"


@dataclass(frozen=True)
class Network:
    """The network of a cell to register.

    model: name of the registered model; aliases: by which this version is found; weights: its
    file; tags: what tells where it is from.
    """

    model: str
    cell: str
    weights: Path
    aliases: tuple[str, ...]
    tags: dict[str, str] = field(default_factory=dict)
    evaluation: str = ""


def networks(results: Results) -> list[Network]:
    """Return the best network of each model and method on the first evaluation set.

    Cells whose weights are not on this machine take no part.
    """
    if not results.evaluations:
        return []
    evaluation = results.evaluations[0]
    trained = results.trained(evaluation)
    means = trained.groupby("key", sort=False)["JF"].mean()
    first = trained.drop_duplicates("key").assign(score=lambda rows: rows["key"].map(means))
    # of equal scores the first in the grid's order
    ranked = first.sort_values("score", ascending=False, kind="stable")
    found: list[Network] = []
    models: set[str] = set()
    seen: set[tuple[str, str]] = set()
    for row in rows_of(ranked):
        train_key = results.score_cells[row.key]["train_key"]
        weights = results.predictions.parent / "train" / train_key / "weights.safetensors"
        if (row.model, row.method) in seen or not weights.is_file():
            continue
        seen.add((row.model, row.method))
        aliases = [_alias(str(row.method))] + ([BEST] if row.model not in models else [])
        models.add(row.model)
        summary = results.summary(train_key)
        tags = {
            "preset": results.preset["name"],
            "cell": train_key,
            "dataset": row.dataset,
            "noise": row.noise,
            "q_achieved": f"{row.q_achieved:.4f}",
            "method": row.method,
            "model": row.model,
            "seed": row.seed,
            "evaluation": evaluation,
            "JF": f"{row.score:.4f}",
            "code": summary.get("code", "unknown"),
        }
        network = Network(
            f"{results.preset['name']}-{row.model}",
            train_key,
            weights,
            tuple(aliases),
            {name: str(value) for name, value in tags.items()},
            evaluation,
        )
        found.append(network)
    return found


def _alias(method: str) -> str:
    name = re.sub(r"[^\w-]", "-", method)
    return f"method-{name}" if _RESERVED.match(name) or name == BEST else name


def register(store: Store, best: list[Network], runs: Mapping[str, str]) -> None:
    """Register networks that are not registered yet, and move the aliases to the best ones.

    runs: the run of each cell.
    """
    from mlflow.exceptions import MlflowException

    client = store.client
    for model in dict.fromkeys(network.model for network in best):
        own = [network for network in best if network.model == model]
        note = (
            f"The best cell of each method of preset {store.preset} on `{own[0].evaluation}`. It "
            "was chosen by this score, so the score is too good as an estimate for other videos."
        )
        try:
            client.get_registered_model(model)
        except MlflowException:
            client.create_registered_model(model, {"preset": store.preset}, note)
        versions = {
            (version.tags.get("cell"), version.tags.get("weights_sha256")): version
            for version in client.search_model_versions(f"name='{model}'")
        }
        for network in own:
            tags = network.tags | {"weights_sha256": file_hash(network.weights)}
            run_id = runs.get(network.cell)
            version = versions.get((network.cell, tags["weights_sha256"]))
            if version is None or version.run_id != run_id:
                source = _source(store, network, run_id, tags)
                version = client.create_model_version(
                    model, source, run_id, tags, description=_how_to_use(network)
                )
            else:
                for name, value in tags.items():
                    if version.tags.get(name) != value:
                        client.set_model_version_tag(model, version.version, name, value)
            for alias in network.aliases:
                client.set_registered_model_alias(model, alias, version.version)


def _how_to_use(network: Network) -> str:
    model = network.tags.get("model", "MODEL")
    return (
        f"J&F {network.tags.get('JF', '?')} on {network.evaluation}. "
        f"`noisyvos segment --model {model} --weights {network.weights} ...`"
    )


def _source(store: Store, network: Network, run_id: str | None, tags: Mapping[str, Any]) -> str:
    """Return where the weights are, in a form that the registry takes.

    A server refuses paths of other machines, so the run gets a small file that names the path.
    """
    if not tracking_uri().startswith(("http://", "https://")) or run_id is None:
        return network.weights.absolute().as_uri()
    pointer = {
        "path": str(network.weights.absolute()),
        "bytes": network.weights.stat().st_size,
        "sha256": tags["weights_sha256"],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _POINTER
        path.write_text(json.dumps(pointer, indent=1), encoding="utf-8")
        store.attach(run_id, path, "model")
    return f"runs:/{run_id}/model"
