"""Networks for video object segmentation, built by name and loaded from published weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from noisyvos.models.base import VideoModel

__all__ = ["available", "build", "load_official", "load_trunks", "load_weights", "save_weights"]


def available() -> tuple[str, ...]:
    """Return the names of all networks, sorted."""
    from noisyvos.models.base import MODELS

    return MODELS.names()


def build(name: str, *, seed: int = 0, **overrides: Any) -> "VideoModel":
    """Return network `name`, freshly initialised from `seed`, in eval mode.

    The network has its published size unless `overrides` change it. An unknown network or setting,
    or an impossible value, raises UserError (a ValueError) with the known names.
    """
    import torch

    from noisyvos.models.base import MODELS, choose_settings
    from noisyvos.seeding import seed_for

    item = MODELS.get(name)
    settings = choose_settings(item.settings, overrides, f"model {name!r}")
    with torch.random.fork_rng(devices=[]):  # keeps the caller's random stream where it is
        torch.manual_seed(seed_for("weights", seed) & 0x7FFF_FFFF_FFFF_FFFF)
        return item.build(settings).eval()


def load_official(
    name: str,
    source: "str | Path | Mapping[str, Tensor]",
    *,
    extra_plane: Literal["zero", "random"] | None = None,
    seed: int = 0,
) -> "VideoModel":
    """Return network `name` with published weights, in the size that the weights have, in eval
    mode.

    `source` is a checkpoint file (.pth as published, or .safetensors) or a {published name: tensor}
    mapping. Prefixes such as `module.` and the wrappers of training scripts, such as
    {"state_dict": ...} and {"network": ...}, are removed.
    A missing, extra or wrongly shaped entry raises UserError that names it. Nothing in a file is
    executed. `extra_plane` turns XMem's network of still-image training into that of the later
    stages: the mask plane that it lacks is zero (to evaluate) or random (to train, from `seed`).
    """
    from noisyvos.errors import UserError
    from noisyvos.models.base import MODELS
    from noisyvos.models.misfit import describe_misfit
    from noisyvos.models.weights import load_strictly, read_state

    kind: Any = MODELS.get(name).build
    state = read_state(source)
    if extra_plane is not None:
        from noisyvos.models.pretrained import add_plane

        state = add_plane(state, extra_plane, seed)
    where = str(source) if isinstance(source, str | Path) else f"the given weights of {name!r}"
    try:
        sizes = kind.settings_from_official(state)
    except UserError as error:
        problem = describe_misfit(build(name), state)
        raise UserError(f"{where}: {error} {problem[:1].upper()}{problem[1:]}".strip()) from None
    model = build(name, **sizes)
    load_strictly(model, kind.convert_official(state), where)
    return model


def load_trunks(
    model: "VideoModel",
    *,
    resnet50: "str | Path | Mapping[str, Tensor] | None" = None,
    resnet18: "str | Path | Mapping[str, Tensor] | None" = None,
    seed: int = 0,
) -> None:
    """Load ImageNet weights of torchvision's ResNets, files or mappings, into a network's encoders.

    See `noisyvos.models.pretrained.load_trunks`.
    """
    from noisyvos.models import pretrained

    pretrained.load_trunks(model, resnet50=resnet50, resnet18=resnet18, seed=seed)


def save_weights(model: "VideoModel", path: str | Path) -> None:
    """Write the weights under their published names as safetensors, atomically.

    Equal weights give equal bytes.
    """
    from noisyvos.models.weights import save

    save(model, path)


def load_weights(model: "VideoModel", path: str | Path) -> None:
    """Load into `model` what `save_weights` wrote.

    UserError if the file belongs to another network.
    """
    from noisyvos.models.weights import load_strictly, read_state

    load_strictly(model, read_state(path), str(path))
