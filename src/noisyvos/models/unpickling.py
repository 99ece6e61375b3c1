"""Tensors out of a pickled checkpoint, with a lifeless placeholder for every other object in it.

A training script may save more than tensors: its optimiser, settings, numbers of numpy. torch's
safe reader refuses such a file as a whole. This reader builds tensors, dicts and numbers only. What
else a file names is neither imported nor called, so nothing of a file is ever executed.
"""

import collections
import pickle
import tarfile
from collections.abc import Callable
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


class _Builder:
    """A function that a file may call and cannot change.

    A pickle can set attributes of any object that it holds, those of a function too.
    """

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *values: Any) -> Any:
        return self._function(*values)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("a file wants to change a function")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a file wants to change a function")


# what tensors are made of: functions of torch that take data and execute nothing of a file
_BUILDERS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
} | {
    ("torch._utils", name): _Builder(getattr(torch._utils, name))
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
        return type("Placeholder", (Placeholder,), {"kind": f"{module}.{name}"})

    def load(self) -> Any:
        """Return the content; a class that an old file names together with its source is itself.

        torch would compare that source with the installed one, and could write the difference to a
        file whose name is in the checkpoint.
        """
        find: Any = getattr(self, "persistent_load", None)

        def without_source(saved: Any) -> Any:
            kind = saved[0] if isinstance(saved, tuple) and saved else None
            if isinstance(kind, bytes):
                kind = kind.decode("ascii", "replace")
            return saved[1] if kind == "module" else find(saved)

        if find is not None:
            setattr(self, "persistent_load", without_source)  # noqa: B010 -- mypy sees a method
        return super().load()

    def get_extension(self, code: int) -> Any:
        """Refuse numbers that stand for classes of this process."""
        raise pickle.UnpicklingError(f"a file names the extension {code}")


def _load(file: BinaryIO, **options: Any) -> Any:
    return TensorUnpickler(file, **options).load()


def load_tensors(file: BinaryIO) -> Any:
    """Return the content of a file that torch.save wrote, placeholders included, on the CPU.

    `file` must not be a TorchScript archive. Raises what torch raises for a damaged file, and
    UnpicklingError for a tar archive of torch before 0.1.10, which torch would unpack.
    """
    if tarfile.is_tarfile(file):
        raise pickle.UnpicklingError("a tar archive")
    file.seek(0)
    reader = ModuleType("noisyvos_tensors_only")
    vars(reader).update(Unpickler=TensorUnpickler, load=_load, __name__=reader.__name__)
    # weights_only=True would take torch's reader in place of ours. Ours resolves no name of the
    # file beyond _BUILDERS and torch's dtypes, and weights.py tries weights_only=True first.
    return torch.load(file, map_location="cpu", pickle_module=reader, weights_only=False)
