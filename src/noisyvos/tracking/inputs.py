"""The data of a run as MLflow's dataset inputs, with the hashes that our results name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from noisyvos.io.hashing import input_hash

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

DIGEST = 32  # of 64 characters: MLflow keeps at most 36
_NOISE = ("kind", "q", "q_achieved", "seed", "boundary_f", "flip_rate", "vanish_rate", "affected")


@dataclass(frozen=True)
class Input:
    """One data set of a run.

    context: `training`, `labels` or `evaluation`; facts: what the UI shows beside it.
    """

    name: str
    digest: str
    source: str
    context: str
    facts: Mapping[str, Any]

    @property
    def short(self) -> str:
        """The part of the digest that MLflow keeps."""
        return self.digest[:DIGEST]

    def entity(self) -> "DatasetInput":
        """Return it as MLflow takes it."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        tag = InputTag("mlflow.data.context", self.context)
        return DatasetInput(
            Dataset(
                self.name,
                self.short,
                "local",
                json.dumps({"uri": self.source}),
                profile=json.dumps({"sha256": self.digest} | dict(self.facts), default=str),
            ),
            [tag],
        )


def of_training(summary: Mapping[str, Any], sources: Mapping[str, str]) -> tuple[Input, ...]:
    """Return the data of a training: frames or clips, and the labels with their noise.

    summary: its summary, or its settings with their origin; sources: path by role, for the roles
    of `inputs` in the summary.
    """
    hashes = summary.get("inputs", {})
    found = []
    for role in ("dataset", "clips", "images"):
        if role in hashes:
            source = sources.get(role, "")
            name = str(summary.get(role) or _stem(source) or summary.get("clips") or role)
            found.append(Input(name, hashes[role], source, "training", {}))
    if "masks" in hashes:
        noise = summary.get("noise") or {}
        source = sources.get("masks", "")
        facts = {name: noise[name] for name in _NOISE if name in noise}
        name = _stem(source) or f"{summary.get('dataset')}-{noise.get('noise', 'labels')}"
        facts |= {"noise": noise.get("noise"), "noise_manifest": hashes.get("noise_manifest")}
        found.append(Input(name, hashes["masks"], source, "labels", facts))
    return tuple(found)


def of_evaluation(folder: Path, protocol: str) -> Input | None:
    """Return an evaluation set, which is a converted dataset; None if it is not on this machine."""
    if not folder.is_dir():
        return None
    facts = {"protocol": protocol}
    return Input(folder.name, input_hash(folder), str(folder), "evaluation", facts)


def _stem(path: str) -> str:
    return PurePosixPath(path).stem
