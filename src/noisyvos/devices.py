"""Where a network runs: what `auto`, `cpu` and `cuda` mean on this machine."""

from typing import TYPE_CHECKING

from noisyvos.errors import UserError

if TYPE_CHECKING:
    import torch


def choose_device(name: str, rank: int = 0) -> "torch.device":
    """Return the CPU, or of the GPUs that this job may use the one of number `rank`; UserError for an unknown name or a missing GPU."""
    import torch

    if name not in ("auto", "cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"Device {name!r} is not here. Use auto, cpu, or cuda where there is a GPU.")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", rank)
