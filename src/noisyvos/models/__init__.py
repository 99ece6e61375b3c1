"""Networks for video object segmentation: `available`, `build`, `load_official`, `save_weights`, `load_weights`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from noisyvos.models.base import VideoModel

__all__ = ["available", "build", "load_official", "load_weights", "save_weights"]


def available() -> tuple[str, ...]:
    """Return the names of all networks, sorted."""
    from noisyvos.models.base import MODELS

    return MODELS.names()


def build(name: str, *, seed: int = 0, **overrides: Any) -> "VideoModel":
    """Return network `name`, freshly initialised from `seed`, at its published size unless `overrides` say otherwise.

    An unknown network or setting, or an impossible value, raises UserError (a ValueError) with the known names.
    """
    import torch

    from noisyvos.models.base import MODELS, choose_settings
    from noisyvos.seeding import seed_for

    item = MODELS.get(name)
    settings = choose_settings(item.settings, overrides, f"model {name!r}")
    with torch.random.fork_rng(devices=[]):  # the caller's own random stream stays where it is
        torch.manual_seed(seed_for("weights", seed) & 0x7FFF_FFFF_FFFF_FFFF)
        return item.build(settings)


def load_official(name: str, source: "str | Path | Mapping[str, Tensor]") -> "VideoModel":
    """Return network `name` with published weights, in the size that the weights tell.

    `source` is a checkpoint file (.pth as published, or .safetensors) or a {published name: tensor} mapping. A `module.`
    prefix and the wrappers {"state_dict": ...} and {"model": ...} are taken off. A missing, extra or wrongly shaped
    entry raises UserError that names it. Nothing in a file is executed.
    """
    from noisyvos.models.base import MODELS
    from noisyvos.models.weights import load_strictly, read_state

    item = MODELS.get(name)
    state = read_state(source)
    where = str(source) if isinstance(source, str | Path) else f"the given weights of {name!r}"
    model = build(name, **item.build.settings_from_official(state))
    load_strictly(model, item.build.convert_official(state), where)
    return model


def save_weights(model: "VideoModel", path: str | Path) -> None:
    """Write the weights under their published names as safetensors, atomically; equal weights, equal bytes."""
    from noisyvos.models.weights import save

    save(model, path)


def load_weights(model: "VideoModel", path: str | Path) -> None:
    """Load into `model` what `save_weights` wrote; UserError if the file belongs to another network."""
    from noisyvos.models.weights import load_strictly, read_state

    load_strictly(model, read_state(path), str(path))
