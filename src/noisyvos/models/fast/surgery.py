"""The switch to fast inference: a copy of a module tree with faster twins of its blocks."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from noisyvos.models.fast.convolutions import FoldedBlock, WinogradConvolution
from noisyvos.models.resnet import BasicBlock, Bottleneck

Network = TypeVar("Network", bound=nn.Module)

# From a type of module to what makes its twin. The result None means that no twin pays for this
# module, so that its children are looked at instead.
Replacements = Mapping[type[nn.Module], Callable[[Any], nn.Module | None]]

COMMON: Replacements = {
    BasicBlock: FoldedBlock.of,
    Bottleneck: FoldedBlock.of,
    nn.Conv2d: WinogradConvolution.of,
}


def prepare(network: Network, own: Replacements | None = None) -> Network:
    """Return a twin of `network` for inference, in eval mode; `network` stays as it is.

    `own` adds the network's own blocks to those that every network shares. The twin shares weights
    with `network` or folds their present values. It cannot be trained, saved or loaded.
    """
    return _twin(network, {**COMMON, **(own or {})}, {})


def _twin(module: Any, replacements: Replacements, made: dict[int, nn.Module]) -> Any:
    """Return the twin of a module; `made` holds the twins so far, for modules with two names."""
    if id(module) in made:
        return made[id(module)]
    make = replacements.get(type(module))
    twin = None if make is None else make(module)
    if twin is None:
        twin = copy.copy(module)
        twin._modules = {
            name: None if child is None else _twin(child, replacements, made)
            for name, child in module._modules.items()
        }
        twin.training = False
    made[id(module)] = twin
    return twin
