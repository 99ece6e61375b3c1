"""Weights on disk: reads published checkpoints and safetensors, writes safetensors.

No code in a file is ever executed.
"""

import pickle
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from noisyvos.errors import UserError
from noisyvos.io.atomic import atomic_file
from noisyvos.models.misfit import describe_misfit, some
from noisyvos.models.unpickling import Placeholder, load_tensors

_WRAPPED = (Mapping, Placeholder)
# where training scripts keep the weights; plain ones are preferred to averaged ones (EMA)
_PLAIN = (
    *("state_dict", "model", "network", "model_state_dict", "model_state", "net", "net_state_dict"),
    *("weights", "weight", "params", "module", "model_dict"),
)
_AVERAGED = (
    *("ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "ema_model_state_dict"),
    "params_ema",
)
# of DataParallel, torch.compile and Lightning
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
_DEEPEST = 10  # wrappers in one another
_ALONE = "Save the weights alone where it was made: torch.save(network.state_dict(), FILE)."
_FETCH = "Fetch or copy it again."


def read_state(source: str | Path | Mapping[str, Any]) -> dict[str, Tensor]:
    """Return {name: CPU tensor} from a checkpoint file or a mapping.

    Wrappers of training scripts (optimiser state, Lightning, averaged weights) and prefixes of
    `module.` and its like are removed. Plain weights are preferred to averaged ones. Nothing of a
    file is executed. FileNotFoundError or UserError name a file that is absent, unreadable or holds
    something other than tensors.
    """
    where = "the given mapping" if isinstance(source, Mapping) else str(source)
    content = _plain(source if isinstance(source, Mapping) else _read_file(Path(source)))
    content = _unwrapped(content, where)
    if isinstance(content, Mapping) and {"state", "param_groups"} <= content.keys():
        raise UserError(
            f"{where}: this is the state of an optimiser, without weights. Give the network's file."
        )
    if not isinstance(content, Mapping) or not content:
        raise UserError(
            f"{where}: no state dict here. A checkpoint must map parameter names to tensors."
        )
    strange = [
        str(name)
        for name, value in content.items()
        if not isinstance(name, str) or not isinstance(value, Tensor) or _is_special(value)
    ]
    objects = [
        f"{name} ({value.kind})"
        for name, value in content.items()
        if isinstance(value, Placeholder)
    ]
    if objects:
        raise UserError(
            f"{where}: this file cannot be read as a checkpoint of tensors, because these entries "
            f"are other objects, which are not executed: {some(objects)}. {_ALONE}"
        )
    if strange:
        raise UserError(
            f"{where}: these entries are no tensors: {some(strange)}. "
            "Give the network's state dict alone."
        )
    return _without_prefixes(dict(content))


def _is_special(value: Tensor) -> bool:
    """Whether a tensor is sparse, quantised, complex or nested, which no network here has."""
    return value.layout is not torch.strided or value.is_quantized or value.is_complex()


def _plain(content: Any) -> Any:
    """Return a dictionary without what a file may have set as its attributes, such as `items`."""
    return dict(dict.items(content)) if isinstance(content, dict) else content


def _unwrapped(content: Any, where: str) -> Any:
    """Return what is inside all wrappers of a checkpoint."""
    seen: set[int] = set()
    while isinstance(content, Mapping):
        if len(seen) > _DEEPEST or seen & {id(value) for value in content.values()}:
            raise UserError(f"{where}: this checkpoint contains itself, so it has no weights.")
        seen |= {id(value) for value in content.values() if isinstance(value, Mapping)}
        keys = [key for key in (*_PLAIN, *_AVERAGED) if isinstance(content.get(key), _WRAPPED)]
        if not keys:
            break
        if keys[0] in _PLAIN and (averaged := [key for key in keys if key in _AVERAGED]):
            print(
                f"noisyvos: warning: {where} holds `{keys[0]}` and averaged weights "
                f"(`{averaged[0]}`); `{keys[0]}` is read.",
                file=sys.stderr,
            )
        content = _plain(content[keys[0]])
    if isinstance(content, Placeholder):
        what = "a whole network" if content.is_network else "an object"
        raise UserError(
            f"{where}: this file cannot be read as a checkpoint of tensors: it holds {what} "
            f"({content.kind}), and to load that would execute code. {_ALONE}"
        )
    return content


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the prefixes that all its names share.

    torch's AveragedModel adds a count beside its prefixed names.
    """
    while True:
        names = [name for name in state if name != "n_averaged"]
        prefix = next(
            (each for each in _PREFIXES if all(name.startswith(each) for name in names)), None
        )
        if prefix is None or not names:
            return state
        state = {name.removeprefix(prefix): state[name] for name in names}


def _read_file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights.")
    problem = _not_weights(path)
    if problem:
        raise UserError(f"{path}: this file cannot be read as a checkpoint: {problem}")
    try:
        if _is_safetensors(path):
            return load_file(path)
        with warnings.catch_warnings():  # of old forms, and of classes whose source differs
            warnings.simplefilter("ignore")
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError:
                with path.open("rb") as file:
                    return load_tensors(file)
    except Exception as error:  # a damaged file raises anything; its bytes are not executed
        if isinstance(error, MemoryError):
            raise
        raise UserError(
            f"{path}: this file cannot be read as a checkpoint of tensors: it is damaged, or "
            f"neither safetensors nor what torch.save writes ({type(error).__name__}). {_FETCH}"
        ) from None


def _not_weights(path: Path) -> str | None:
    """Return what a file is that cannot hold weights, and what to do; None if it may hold some."""
    with path.open("rb") as file:
        head = file.read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return f"it is empty. {_FETCH}"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<body")):
        return (
            "it is a web page. The server sent it in place of the file, perhaps because of a "
            f"quota or a login. {_FETCH}"
        )
    if text.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS. Run `git lfs pull` where it is from."
    packed = {b"\x1f\x8b": "gzip", b"7z\xbc\xaf": "7-Zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
    if kind := next((packed[mark] for mark in packed if head.startswith(mark)), None):
        return f"it is packed ({kind}). Unpack it first."
    if head.startswith(b"PK"):
        return _zip_problem(path)
    return None


def _zip_problem(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.rpartition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError):
        return f"it is cut off or damaged. {_FETCH}"
    if "constants.pkl" in names:
        return f"it is a TorchScript program. {_ALONE}"
    if "data.pkl" not in names:
        return "it is a zip that torch.save did not write. Unpack it, and give the file inside."
    return None


def _is_safetensors(path: Path) -> bool:
    """Return whether a file opens with a safetensors header: eight bytes of length, then JSON."""
    with path.open("rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load `state` into `model`. where: the file that it is from, for messages.

    UserError names the network, every kind of misfit (missing, not expected, wrong shape) and the
    network of the registry that the weights fit.
    """
    problem = describe_misfit(model, state)
    if problem:
        raise UserError(f"{where}: {problem}")
    expected = model.state_dict()
    broken = [name for name in expected if not _is_finite(state[name])]
    if broken:
        raise UserError(
            f"{where}: these weights are not all finite numbers: {some(broken)}. The training "
            "that wrote them failed; give other weights."
        )
    model.load_state_dict(state)


def _is_finite(values: Tensor) -> bool:
    return not values.is_floating_point() or bool(torch.isfinite(values).all())


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
