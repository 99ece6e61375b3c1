"""The switch to fast inference: a copy of a module tree with faster twins of its blocks."""

import copy
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from noisyvos.models.fast.convolutions import FoldedBlock, WinogradConvolution
from noisyvos.models.resnet import BasicBlock, Bottleneck

Network = TypeVar("Network", bound=nn.Module)

# From a type of module to what makes its twin, given the module and the type of half precision.
# The result None means that no twin pays for this module, so that its children are looked at.
Replacements = Mapping[type[nn.Module], Callable[[Any, torch.dtype | None], nn.Module | None]]

COMMON: Replacements = {
    BasicBlock: FoldedBlock.of,
    Bottleneck: FoldedBlock.of,
    nn.Conv2d: WinogradConvolution.of,
}


def prepare(
    network: Network, own: Replacements | None = None, half: torch.dtype | None = None
) -> Network:
    """Return a twin of `network` for inference, in eval mode; `network` stays as it is.

    `own` adds the network's own blocks to those that every network shares. The twin shares weights
    with `network` or folds their present values. It cannot be trained, saved or loaded. With
    `half`, weights of convolutions and products are converted to that type here, so that autocast
    has nothing to convert in a frame.
    """
    twin = _twin(network, {**COMMON, **(own or {})}, half, {})
    for module in twin.modules():
        _store(module, half)
    return twin


def _twin(
    module: Any,
    replacements: Replacements,
    half: torch.dtype | None,
    made: dict[int, nn.Module],
) -> Any:
    """Return the twin of a module; `made` holds the twins so far, for modules with two names."""
    if id(module) in made:
        return made[id(module)]
    make = replacements.get(type(module))
    twin = None if make is None else make(module, half)
    if twin is None:
        twin = copy.copy(module)
        twin._modules = {
            name: None if child is None else _twin(child, replacements, half, made)
            for name, child in module._modules.items()
        }
        twin.training = False
    made[id(module)] = twin
    return twin


def _store(module: nn.Module, half: torch.dtype | None) -> None:
    """Give a plain layer of a twin weights in `half` and, on a GPU, with channels last."""
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        return
    weights = {name: value for name, value in module._parameters.items() if value is not None}
    if half is None and module.weight.device.type == "cpu":
        return
    stored = {}
    for name, value in weights.items():
        layout = torch.channels_last if value.ndim == 4 else torch.preserve_format
        new = value.detach().to(half or value.dtype, memory_format=layout)
        stored[name] = nn.Parameter(new, requires_grad=False)
    module._parameters = {**module._parameters, **stored}  # the network keeps its own


class Twins:
    """The latest twin of each network, as long as the network lives and its weights stay equal."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[nn.Module, tuple[Hashable, nn.Module]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def get(self, network: nn.Module, half: torch.dtype | None, make: Callable[[], Any]) -> Any:
        """Return the kept twin, or what `make` returns if the network has changed since."""
        with self._lock:
            state = (half, *_state(network))
            found = self._made.get(network)
            if found is None or found[0] != state:
                found = self._made[network] = (state, make())
            return found[1]


@torch.no_grad()
def _state(network: nn.Module) -> tuple[Hashable, ...]:
    """Return what changes with any weight: places and versions of tensors, and a checksum.

    Writes through `.data` leave no trace in a version, so the bits are summed up too.
    """
    tensors = [*network.parameters(), *network.buffers()]
    places = tuple(
        (x.data_ptr(), -1 if x.is_inference() else x._version, x.shape, x.dtype, x.device)
        for x in tensors
    )
    sums = [_bits(x) for x in tensors if x.numel()]
    return places, tuple(torch.stack(sums).tolist()) if sums else ()


def _bits(x: Tensor) -> Tensor:
    flat = x.detach().as_strided((x.numel(),), (1,)) if _dense(x) else x.detach().reshape(-1)
    whole = flat.view(torch.uint8)
    rest = len(whole) % 8
    return whole[: len(whole) - rest].view(torch.int64).sum() + whole[len(whole) - rest :].sum()


def _dense(x: Tensor) -> bool:
    """Return whether the elements fill their piece of memory, in whatever order."""
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))
