"""Which network runs with which settings: the names of models.yaml and eval.yaml, checked before anything is built."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisyvos.devices import Amp, choose_device
from noisyvos.errors import unknown_name
from noisyvos.inference.settings import Evaluation
from noisyvos.params.entries import read_family
from noisyvos.registry import Item

if TYPE_CHECKING:
    from noisyvos.models.base import VideoModel


@dataclass(frozen=True)
class Plan:
    """A network to load and how to run it."""

    kind: str
    overrides: dict[str, Any]
    weights: str
    size: int | None
    memory: dict[str, Any] = field(default_factory=dict)
    amp: Amp = False
    where: str = "the memory"  # the settings are written down, for messages


def choose(model: str, weights: str, settings: str, size: int | None, params: Path) -> Plan:
    """Look up a network of models.yaml and an entry of eval.yaml; UserError or FileNotFoundError if one or the weights are not there.

    weights: a file, or "none" for an untrained network; `size` goes before the one of the entry.
    """
    kinds, evaluations = read_family(params, "models"), read_family(params, "eval")
    if model not in kinds:
        raise unknown_name("model of models.yaml", model, kinds)
    if settings not in evaluations:
        raise unknown_name("evaluation setting of eval.yaml", settings, evaluations)
    if weights != "none" and not Path(weights).is_file():
        raise FileNotFoundError(
            f"{weights}: no such weights. Train them first, or name a published file."
        )
    where = f"eval.yaml: {settings}"
    evaluation = Item(settings, Evaluation, Evaluation, "").validate(evaluations[settings], where)
    kind = str(kinds[model]["kind"])
    overrides = {key: value for key, value in kinds[model].items() if key != "kind"}
    memory = evaluation.memory.get(kind, {})
    return Plan(
        kind,
        overrides,
        weights,
        size or evaluation.size,
        memory,
        evaluation.amp,
        f"{where}: memory of {kind}",
    )


def load(plan: Plan, device: str, threads: int) -> "VideoModel":
    """Return the network in eval mode with its weights: this project's or published ones, also of XMem's still-image stage.

    UserError if the device is not here, the weights do not fit or a setting of the memory is unknown or impossible.
    """
    import torch

    from noisyvos import models
    from noisyvos.models.base import choose_settings
    from noisyvos.models.pretrained import load_checkpoint

    where = choose_device(device)
    torch.set_num_threads(threads)
    network = models.build(plan.kind, **plan.overrides)
    choose_settings(network.memory_settings, plan.memory, plan.where)
    if plan.weights != "none":
        load_checkpoint(network, plan.weights, "zero")
    return network.to(where).eval()
