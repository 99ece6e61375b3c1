"""Starting from other weights: ImageNet trunks, checkpoints, XMem's still-image stage.

XMem's network of still-image training lacks a mask plane that the later stages have.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from noisyvos.errors import UserError
from noisyvos.models import resnet
from noisyvos.models.base import VideoModel
from noisyvos.models.weights import load_strictly, read_state
from noisyvos.seeding import torch_generator

# XMem's first convolution: RGB, the object's own mask and, after the still-image stage, all others
PLANES = "value_encoder.conv1.weight"
Fill = Literal["zero", "random"]
Source = str | Path | Mapping[str, Tensor]

# the encoders of each network: their own name of a part -> torchvision's
_XMEM_KEY = {
    "conv1": "conv1",
    "bn1": "bn1",
    "res2": "layer1",
    "layer2": "layer2",
    "layer3": "layer3",
}
_XMEM_VALUE = {name: name for name in ("conv1", "bn1", "layer1", "layer2", "layer3")}
_STM = {"conv1": "conv1", "bn1": "bn1", "res2": "layer1", "res3": "layer2", "res4": "layer3"}
_RHMNET = {
    "layer0.0": "conv1",
    "layer0.1": "bn1",
    "layer1": "layer1",
    "layer2": "layer2",
    "layer3": "layer3",
}
_NETWORK_PARTS = {
    "key_encoder": _XMEM_KEY,
    "value_encoder": _XMEM_VALUE,
    "Encoder_M": _STM,
    "Encoder_Q": _STM,
    "encoder_m": _STM,
    "encoder_q": _STM,
    "backbone": _RHMNET,
}
_TRUNKS: dict[type[nn.Module], str] = {
    resnet.Bottleneck: "resnet50",
    resnet.BasicBlock: "resnet18",
}


def load_checkpoint(model: VideoModel, source: Source, fill: Fill, seed: int = 0) -> None:
    """Load a checkpoint, published or written by `save_weights`, into a network.

    Weights of XMem's still-image stage get the mask plane that `model` has beyond theirs, filled as
    in `add_plane`. UserError names entries that do not fit.
    """
    state = model.convert_official(read_state(source))
    own = model.state_dict().get(PLANES)
    if own is not None and PLANES in state and own.shape[1] == 5 and state[PLANES].shape[1] == 4:
        state = add_plane(state, fill, seed)
    where = str(source) if isinstance(source, str | Path) else "the given weights"
    load_strictly(model, state, where)


def load_init(model: VideoModel, path: Path, seed: int) -> None:
    """Load the weights that a training starts from: of a start, or of an earlier training.

    XMem's still-image training has one mask plane less than the start before it and the training
    after it: the plane is left out, and drawn from `seed` again. UserError for entries that do not
    fit.
    """
    state, own = read_state(path), model.state_dict().get(PLANES)
    if own is not None and PLANES in state:
        given, wanted = state[PLANES].shape[1], own.shape[1]
        if (given, wanted) == (4, 5):
            state = add_plane(state, "random", seed)
        elif (given, wanted) == (5, 4):
            state = {**state, PLANES: state[PLANES][:, :4]}
    load_strictly(model, state, str(path))


def add_plane(state: Mapping[str, Tensor], fill: Fill, seed: int = 0) -> dict[str, Tensor]:
    """Return a 4-plane state dict of XMem with a plane for the other objects' masks.

    fill: "zero" for evaluation (results stay those of the 4 planes) or "random", orthogonal, from
    `seed`, for further training: the published procedure. UserError if the state dict has another
    form.
    """
    weight = state.get(PLANES)
    if fill not in ("zero", "random"):
        raise UserError(f"An extra mask plane is filled with zero or random, not {fill!r}.")
    if weight is None or weight.ndim != 4 or weight.shape[1] != 4:
        found = "no such entry" if weight is None else tuple(weight.shape)
        raise UserError(
            "Only weights of XMem's still-image stage take an extra mask plane: "
            f"{PLANES} must have 4 planes, found {found}."
        )
    plane = torch.zeros_like(weight[:, :1]) if fill == "zero" else _orthogonal(weight, 1, seed)
    return {**state, PLANES: torch.cat([weight, plane], 1)}


def _orthogonal(like: Tensor, planes: int, seed: int) -> Tensor:
    """Return the first convolution's weights for `planes` further input planes, (64, planes, 7,
    7).
    """
    values = torch.empty(like.shape[0], planes, *like.shape[2:])
    stream = torch_generator("mask planes", seed)
    return nn.init.orthogonal_(values, generator=stream).to(like.dtype)


def load_trunks(
    model: nn.Module,
    *,
    resnet50: Source | None = None,
    resnet18: Source | None = None,
    seed: int = 0,
) -> None:
    """Load ImageNet weights of torchvision's ResNets into a network's encoders.

    For `xmem`, `stm`, `stm_resnet18`, `afb_urr` and `rhmnet`. Each trunk is a file (.pth as
    torchvision gives it, or .safetensors) or a {name: tensor} mapping; `layer4` and `fc` are left
    out. The mask planes of XMem's value encoder follow RGB and are drawn orthogonally from `seed`;
    the mask convolutions of STM and AFB-URR stay as they are. UserError if a network has no such
    trunk or an entry is missing or wrongly shaped; the network changes only if everything fits.
    """
    given = {
        name: source
        for name, source in (("resnet50", resnet50), ("resnet18", resnet18))
        if source is not None
    }
    if not given:
        raise UserError("No trunk is given: name a file for resnet50 or resnet18.")
    parts = _parts(model)
    for name in given:
        if name not in parts.values():
            known = ", ".join(sorted(set(parts.values()))) or "none at all"
            raise UserError(
                f"This network ({type(model).__name__}) has no {name} trunk. It has: {known}."
            )
    states = {name: read_state(source) for name, source in given.items()}
    values: dict[str, Tensor] = {}
    for part, trunk in parts.items():
        if trunk in states:
            values |= _converted(model, part, states[trunk], trunk, seed)
    model.load_state_dict(values, strict=False)


def trunks_of(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the trunks that `load_trunks` can fill in a network, in order."""
    return tuple(dict.fromkeys(sorted(_parts(model).values(), reverse=True)))


def load_backbone(model: nn.Module, part: str, source: Source) -> None:
    """Load the published weights of one part of a network. Further entries are left out.

    UserError if the network has no such part, or an entry is missing or wrongly shaped; the network
    changes only if everything fits.
    """
    if not isinstance(getattr(model, part, None), nn.Module):
        raise UserError(f"This network ({type(model).__name__}) has no part {part!r} to fill.")
    state = read_state(source)
    values = {}
    for name, own in model.get_submodule(part).state_dict().items():
        if name.endswith("num_batches_tracked"):  # old files lack it, and nothing here reads it
            continue
        if name not in state:
            raise UserError(f"{source}: the entry {name} is missing; {part} needs it.")
        if state[name].shape != own.shape:
            raise UserError(
                f"{source}: {name} is {tuple(state[name].shape)}, needed is {tuple(own.shape)}."
            )
        values[f"{part}.{name}"] = state[name]
    model.load_state_dict(values, strict=False)


def _parts(model: nn.Module) -> dict[str, str]:
    """Return {part of the network: name of its ResNet}."""
    found = {}
    for part, names in _NETWORK_PARTS.items():
        last = getattr(getattr(model, part, None), list(names)[-1], None)
        if isinstance(last, nn.Sequential) and type(last[0]) in _TRUNKS:
            found[part] = _TRUNKS[type(last[0])]
    return found


def _converted(
    model: nn.Module, part: str, state: Mapping[str, Tensor], trunk: str, seed: int
) -> dict[str, Tensor]:
    """Return the entries of `part` under the network's own names."""
    names = _NETWORK_PARTS[part]
    result = {}
    for name, own in model.get_submodule(part).state_dict().items():
        member = next((each for each in names if name.startswith(f"{each}.")), None)
        # old files lack num_batches_tracked, and nothing here reads it
        if member is None or name.endswith("num_batches_tracked"):
            continue
        published = names[member] + name.removeprefix(member)
        if published not in state:
            raise UserError(
                f"The weights of {trunk} lack the entry {published}. "
                "Give torchvision's own state dict."
            )
        value = state[published]
        if name == "conv1.weight" and own.shape[1] > value.shape[1] == 3:
            value = torch.cat([value, _orthogonal(value, own.shape[1] - 3, seed)], 1)
        if value.shape != own.shape:
            raise UserError(
                f"The weights of {trunk} do not fit: {published} is {tuple(value.shape)}, "
                f"needed is {tuple(own.shape)}."
            )
        result[f"{part}.{name}"] = value
    return result
