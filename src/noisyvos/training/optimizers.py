"""Optimisers by name, from `torch.optim`, and the parameter groups that a schedule asks for.

A new optimiser is one entry of OPTIMIZERS: a function that turns parameter groups into optimisers.
"""

import inspect
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field, field_validator

from noisyvos.errors import UserError
from noisyvos.registry import Settings

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class ParameterGroup(Settings):
    """Parameters, chosen by a regular expression in their names, that learn unlike the rest."""

    match: str = Field(
        description="Regular expression searched in the names of `weights.safetensors`."
    )
    rate: float = Field(
        1.0, ge=0, description="Factor on the learning rate. 0 freezes the weights."
    )
    weight_decay: float | None = Field(
        None, ge=0, description="Weight decay of the group. Null takes that of the schedule."
    )

    @field_validator("match")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"`match` is not a regular expression: {error}") from None
        return value


Groups = list[dict[str, Any]]  # torch's parameter groups, each with `share` of the learning rate


class Options(NamedTuple):
    """What a schedule sets for optimisers beside the parameter groups."""

    momentum: float = 0.0  # of `sgd`
    muon_rate: float = 1.0  # learning rate of Muon's parameters over that of the others


def _adamw(groups: Groups, options: Options) -> "list[Optimizer]":
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2)."""
    import torch

    return [_light(torch.optim.AdamW)(groups, lr=0.0, fused=True)]


def _adam(groups: Groups, options: Options) -> "list[Optimizer]":
    """Adam (Kingma and Ba 2015, algorithm 1); weight decay is added to the gradient."""
    import torch

    return [_light(torch.optim.Adam)(groups, lr=0.0, fused=True)]


def _sgd(groups: Groups, options: Options) -> "list[Optimizer]":
    """Gradient descent with Nesterov's momentum (Sutskever et al. 2013, as torch writes it)."""
    import torch

    momentum = options.momentum
    optimizer = _light(torch.optim.SGD)(
        groups, lr=0.0, momentum=momentum, nesterov=momentum > 0, fused=True
    )
    if momentum:
        # A zero buffer gives the published first step. It also covers a parameter whose first
        # gradient comes later than that of the others, which the fused kernel would refuse.
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return [optimizer]


def _muon(groups: Groups, options: Options) -> "list[Optimizer]":
    """Muon on convolutions, AdamW on all other parameters."""
    from noisyvos.training.muon import ConvolutionMuon

    parts: tuple[Groups, Groups] = ([], [])
    for group in groups:
        for part, wanted in zip(parts, (True, False), strict=True):
            members = [each for each in group["params"] if (each.ndim == 4) is wanted]
            if members:
                share = group["share"] * (options.muon_rate if wanted else 1.0)
                part.append(group | {"params": members, "share": share})
    convolutions, others = parts
    found: list[Optimizer] = []
    if convolutions:
        found.append(_light(ConvolutionMuon)(convolutions))
    return found + (_adamw(others, options) if others else [])


# name: function of (parameter groups, what else the schedule sets). An entry may return several
# optimisers, each for a part of the parameters.
OPTIMIZERS: dict[str, Callable[[Groups, Options], "list[Optimizer]"]] = {
    "adamw": _adamw,
    "adam": _adam,
    "sgd": _sgd,
    "muon": _muon,
}


def make_optimizers(
    name: str,
    parameters: "Iterable[tuple[nn.Parameter, float, float]]",
    momentum: float = 0.0,
    muon_rate: float = 1.0,
) -> "list[Optimizer]":
    """Return the optimisers called `name` in OPTIMIZERS.

    parameters: each with its share of the learning rate and its weight decay. `momentum` and
    `muon_rate` are the schedule's.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter, share, weight_decay in parameters:
        groups.setdefault((share, weight_decay), []).append(parameter)
    return OPTIMIZERS[name](
        [
            {"params": members, "share": share, "weight_decay": weight_decay}
            for (share, weight_decay), members in groups.items()
        ],
        Options(momentum, muon_rate),
    )


def set_learning_rate(optimizer: "Optimizer", rate: float) -> None:
    """Give every parameter group its share of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]


def trained_parameters(
    network: "nn.Module", groups: tuple[ParameterGroup, ...], weight_decay: float
) -> "list[tuple[nn.Parameter, float, float]]":
    """Return the trained parameters of a network: each with learning rate share and weight decay.

    Of several groups that match a name the first counts. Parameters with rate 0 are frozen here.
    UserError for a group without parameters, or if every parameter is frozen.
    """
    names: list[list[str]] = [[] for _ in groups]
    found = []
    for name, parameter in network.named_parameters():
        share, decay = 1.0, weight_decay
        for group, members in zip(groups, names, strict=True):
            if re.search(group.match, name):
                members.append(name)
                share = group.rate
                decay = weight_decay if group.weight_decay is None else group.weight_decay
                break
        parameter.requires_grad_(parameter.requires_grad and share > 0)
        if parameter.requires_grad:
            found.append((parameter, share, decay))
    for group, members in zip(groups, names, strict=True):
        if not members:
            known = [name for name, _ in network.named_parameters()]
            raise UserError(
                f"train.yaml: groups: {group.match!r} matches no parameter of this network that "
                "an earlier group left. "
                f"Names are like {', '.join(known[:: max(1, len(known) // 4)])}."
            )
    if not found:
        raise UserError(
            "train.yaml: groups: every parameter is frozen (`rate: 0`), "
            "so nothing would be trained."
        )
    return found


@cache
def _light(kind: Any) -> Any:
    """Return an optimiser class of torch without the decorators that import torch's compiler.

    That import takes 1 to 3 seconds at the first call, and a training of the demo takes 20. The
    decorators only matter inside `torch.compile`, which is not used here. The update itself runs
    torch's code; `no_grad` replaces what the decorator of `step` did.
    """
    import torch

    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    methods["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), methods)
