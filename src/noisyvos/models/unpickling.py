"""Tensors out of a pickled checkpoint, with a lifeless placeholder for every other object in it.

A training script may save more than tensors: its optimiser, settings, numbers of numpy. torch's
safe reader refuses such a file as a whole. This reader builds tensors, dicts and numbers only. What
else a file names is neither imported nor called, so nothing of a file is ever executed.
"""

import collections
import pickle
from types import ModuleType
from typing import Any, BinaryIO, ClassVar

import torch


class Placeholder:
    """An object of a checkpoint that was not built; `kind` is the name of its class."""

    kind: ClassVar[str] = ""
    is_network = False  # whether its state is that of a torch module

    def __new__(cls, *_: Any, **__: Any) -> "Placeholder":
        """Take any arguments."""
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take any arguments."""

    def __call__(self, *_: Any, **__: Any) -> "Placeholder":
        """Stand for the result too."""
        return self

    def __setstate__(self, state: Any) -> None:
        """Forget the state, except for what kind of object had it."""
        self.is_network = isinstance(state, dict) and "_modules" in state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Forget an item."""

    def append(self, value: Any) -> None:
        """Forget an item."""

    def extend(self, values: Any) -> None:
        """Forget items."""

    def add(self, value: Any) -> None:
        """Forget an item."""


# what tensors are made of: functions of torch that take data and execute nothing of a file
_BUILDERS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
} | {
    ("torch._utils", name): getattr(torch._utils, name)
    for name in ("_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter")
    if hasattr(torch._utils, name)
}


class TensorUnpickler(pickle.Unpickler):
    """An unpickler that knows the builders of tensors alone."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a builder of tensors, a type of numbers, or a class of placeholders."""
        if (module, name) in _BUILDERS:
            return _BUILDERS[module, name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return type(name, (Placeholder,), {"kind": f"{module}.{name}"})


def _load(file: BinaryIO, **options: Any) -> Any:
    return TensorUnpickler(file, **options).load()


def load_tensors(file: BinaryIO) -> Any:
    """Return the content of a file that torch.save wrote, placeholders included, on the CPU.

    `file` must not be a TorchScript archive. Raises what torch raises for a damaged file.
    """
    reader = ModuleType("noisyvos_tensors_only")
    vars(reader).update(Unpickler=TensorUnpickler, load=_load, __name__=reader.__name__)
    # weights_only=True would take torch's reader in place of ours. Ours resolves no name of the
    # file beyond _BUILDERS and torch's dtypes, and weights.py tries weights_only=True first.
    return torch.load(file, map_location="cpu", pickle_module=reader, weights_only=False)
