"""Device and precision of a network: what `auto`, `cpu`, `cuda` and `amp` mean on this machine."""

from typing import TYPE_CHECKING, Literal

from noisyvos.errors import UserError

if TYPE_CHECKING:
    import torch

Amp = bool | Literal["fp16", "bf16"]  # True is fp16


def choose_device(name: str, rank: int = 0) -> "torch.device":
    """Return the CPU, or GPU number `rank` among those that this job may use.

    UserError for an unknown name or a missing GPU.
    """
    import torch

    if name not in ("auto", "cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise UserError(
            f"Device {name!r} is not here. Use auto, cpu, or cuda where there is a GPU."
        )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", rank)


def half_precision(
    amp: Amp, device: "torch.device", *, inference: bool = False
) -> "torch.dtype | None":
    """Return the type of half precision to compute in, None for float32.

    A CPU trains in float32. It infers in bf16 if asked for exactly that and able to multiply in
    it, otherwise in float32. UserError if the GPU lacks bf16.
    """
    import torch

    if device.type == "cpu":
        able = inference and amp == "bf16" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return torch.bfloat16 if able else None
    if not amp or device.type != "cuda":
        return None
    if amp != "bf16":
        return torch.float16
    if not torch.cuda.is_bf16_supported():
        raise UserError("This GPU does not compute in bf16: set `amp: fp16` (or false).")
    return torch.bfloat16
