"""Weights on disk: reads published checkpoints and safetensors, writes safetensors.

No code in a file is ever executed.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from noisyvos.errors import UserError
from noisyvos.io.atomic import atomic_file

_WRAPPERS = ("state_dict", "model")
_SHOWN = 5  # names listed in a message before "and N more"


def read_state(source: str | Path | Mapping[str, Any]) -> dict[str, Tensor]:
    """Return {name: CPU tensor} from a checkpoint file or a mapping.

    Wrappers and `module.` prefixes are removed. FileNotFoundError or UserError name a file that is
    absent, unreadable or holds something other than tensors.
    """
    where = "the given mapping" if isinstance(source, Mapping) else str(source)
    content = source if isinstance(source, Mapping) else _read_file(Path(source))
    while isinstance(content, Mapping):
        inner = next(
            (content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None
        )
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise UserError(
            f"{where}: no state dict here. A checkpoint must map parameter names to tensors."
        )
    strange = [
        str(name)
        for name, value in content.items()
        if not isinstance(name, str) or not isinstance(value, Tensor)
    ]
    if strange:
        raise UserError(
            f"{where}: these entries are no tensors: {_some(strange)}. "
            "Give the network's state dict alone."
        )
    if all(name.startswith("module.") for name in content):
        return {name.removeprefix("module."): value for name, value in content.items()}
    return dict(content)


def _read_file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights.")
    try:
        if _is_safetensors(path):
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path}: this file cannot be read as a checkpoint of tensors ({reason[:200]})."
        ) from None


def _is_safetensors(path: Path) -> bool:
    """Return whether a file opens with a safetensors header: eight bytes of length, then JSON."""
    with path.open("rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load `state` into `model`.

    UserError names every kind of misfit: missing, extra, wrongly shaped.
    """
    expected = model.state_dict()
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected]
    misshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    problems = [
        f"{what}: {_some(names)}"
        for what, names in (("missing", missing), ("extra", extra), ("wrong shape", misshaped))
        if names
    ]
    if problems:
        raise UserError(
            f"{where}: these weights do not fit the network. " + "; ".join(problems) + "."
        )
    model.load_state_dict(state)


def save(model: nn.Module, path: str | Path) -> None:
    """Write `model`'s state dict as safetensors, atomically.

    A tensor with two names is written under both.
    """
    state = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in sorted(model.state_dict().items())
    }
    with atomic_file(path) as temporary:
        temporary.write_bytes(to_bytes(state))


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
