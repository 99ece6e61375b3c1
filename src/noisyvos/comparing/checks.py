"""Checks of a method from outside before anything is trained."""

from pathlib import Path
from typing import Any

from noisyvos import extension
from noisyvos.errors import UserError
from noisyvos.params.entries import read_yaml
from noisyvos.params.validate import NAME
from noisyvos.pipeline.catalog import FAMILIES

_BATCH, _OBJECTS, _SIDE, _ITERATIONS = 2, 2, 16, 100


def check_name(file: Path, params: Path) -> str:
    """Return the name that a file registers; UserError if it is no name or is taken."""
    name = extension.method_name(file)
    if not NAME.fullmatch(name):
        raise UserError(
            f"{file}: the name {name!r} may have only lower-case letters, digits and `_`."
        )
    taken = FAMILIES["methods"].kinds().get(name)
    if (taken and taken != extension.MODULE) or name in read_yaml(params / "methods.yaml"):
        raise UserError(
            f"{file}: there is a method {name!r} already. Register yours under another name."
        )
    return name


def check_method(file: Path, name: str) -> None:
    """Build the method and try it on one made-up frame; UserError says what is wrong with it.

    The loss must be finite, with a finite gradient, and none on ignored pixels.
    """
    import torch

    from noisyvos import methods

    method = methods.from_settings(name, {}, _ITERATIONS)
    generator = torch.Generator().manual_seed(0)
    shape = (_BATCH, _OBJECTS + 1, _SIDE, _SIDE)
    logits = torch.randn(shape, generator=generator).requires_grad_()
    target = torch.randint(0, _OBJECTS + 1, (_BATCH, _SIDE, _SIDE), generator=generator)
    target[:, 4:8, 4:8] = 255
    try:
        terms: dict[str, Any] = method.terms(
            logits,
            target,
            num_objects=torch.full((_BATCH,), _OBJECTS),
            teacher_logits=torch.randn(shape, generator=generator) if method.teacher else None,
            iteration=_ITERATIONS // 2,
        )
    except Exception as error:
        raise UserError(
            f"{file}: `terms` of method {name!r} fails: {type(error).__name__}: {error}"
        ) from error
    total = terms.get("total") if isinstance(terms, dict) else None
    if not isinstance(total, torch.Tensor) or total.shape != () or not total.requires_grad:
        raise UserError(
            f"{file}: `terms` of method {name!r} must return a dict whose `total` is a scalar "
            "tensor that depends on the logits."
        )
    if not isinstance(terms.get("top_p"), float):
        raise UserError(
            f"{file}: `terms` of method {name!r} must return `top_p`, the share of pixels that the "
            "loss keeps, as a float (1.0 for all)."
        )
    total.backward()
    gradient = logits.grad
    if gradient is None or not (torch.isfinite(total) and torch.isfinite(gradient).all()):
        raise UserError(f"{file}: method {name!r} gives a loss or a gradient that is not finite.")
    if gradient[:, :, 4:8, 4:8].abs().max() > 0:
        raise UserError(
            f"{file}: method {name!r} learns from pixels with the label 255, which means ignore. "
            "`noisyvos.losses.pixels.frame` leaves them out."
        )
