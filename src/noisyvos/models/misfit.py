"""What to say of weights that do not fit a network: how they differ, and whose they are."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from noisyvos.models.base import MODELS
from noisyvos.registry import Item

_SHOWN = 5  # names listed in a message before "and N more"


def describe_misfit(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Return how weights differ from a network and which network they fit; empty if they fit.

    The text names the network, and the first tensors that are missing, not expected or of another
    shape, with both shapes.
    """
    expected = model.state_dict()
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected]
    misshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    groups = (("missing", missing), ("not expected", extra), ("wrong shape", misshaped))
    problems = [f"{what}: {some(names)}" for what, names in groups if names]
    if not problems:
        return ""
    own = network_name(model)
    named = f"network {own}" if own else f"the network ({type(model).__name__})"
    return f"these weights do not fit {named}. {'; '.join(problems)}. {_whose(state, own)}"


def network_name(model: nn.Module) -> str:
    """Return the name of a network in the registry; empty if it is of another class."""
    return next((item.name for item in MODELS if item.build is type(model)), "")


def some(names: list[str]) -> str:
    """Return the first names of a list, and how many there are beyond them."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _whose(state: Mapping[str, Tensor], own: str) -> str:
    """Say which registered network has tensors of these names, and with which settings they fit."""
    found = {item.name: _fitting(item, dict(state)) for item in MODELS}
    whole = {name: settings for name, (names, settings) in found.items() if settings is not None}
    if own in whole:
        sizes = ", ".join(f"{name} {value}" for name, value in whole[own].items())
        return f"They fit {own} of another size: {sizes}. Give the network these settings."
    if whole:
        return f"They fit network {' or '.join(whole)}. Name that network, or give other weights."
    named = [name for name, (names, _) in found.items() if names]
    if own in named:
        return f"Their names are those of {own}, so they are of {own} in another size."
    if named:
        return f"Their names are those of network {' or '.join(named)}, in another size."
    return "They fit no network here, by the names of their tensors."


def _fitting(item: Item, state: dict[str, Tensor]) -> tuple[bool, dict[str, Any] | None]:
    """Return whether a network has tensors of these names, and the settings with which all fit."""
    for settings in _sizes(item, state):
        kind: Any = item.build
        try:
            with torch.device("meta"):  # shapes alone: nothing is drawn and no memory is taken
                expected = kind(item.settings(**settings)).state_dict()
            given = kind.convert_official(state)
        except Exception:  # whatever a state dict of another network leads to
            continue
        if given.keys() == expected.keys():
            same = all(given[name].shape == value.shape for name, value in expected.items())
            if same:
                return True, settings
            if not settings:
                return True, None
    return False, None


def _sizes(item: Item, state: dict[str, Tensor]) -> Iterator[dict[str, Any]]:
    """Yield the settings that weights were made with as a network reads them, then its defaults."""
    kind: Any = item.build
    try:
        if sizes := kind.settings_from_official(state):
            yield sizes
    except Exception:  # the state dict of another network
        pass
    yield {}
