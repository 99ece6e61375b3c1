"""Training methods, which decide how noisy labels are treated: `available` and `build`."""

from typing import TYPE_CHECKING, Any

from noisyvos.errors import UserError

if TYPE_CHECKING:
    from noisyvos.methods.base import Method


def available() -> tuple[str, ...]:
    """Return the names of all methods."""
    from noisyvos.methods.base import METHODS

    return METHODS.names()


def build(
    name: str,
    *,
    preset: str | None = None,
    parity: bool = False,
    total_iterations: int | None = None,
    **settings: Any,
) -> "Method":
    """Return the method `name`.

    preset: a named set of weights (`smart` has released and unit). parity: reproduce the published
    code with its quirks, if it exists. total_iterations: length of the training, which schedules
    scale with (default: the published 110,000). Further keywords are the method's settings. Raises
    UserError (a ValueError) for an unknown name or setting and lists the known ones.
    """
    values = dict(settings)
    if preset is not None:
        values["preset"] = preset
    if parity:
        values["parity"] = True
    return from_settings(name, values, total_iterations)


def from_settings(
    kind: str, values: dict[str, Any], total_iterations: int | None = None
) -> "Method":
    """Return the method `kind` with the settings of a parameter file's entry (without `kind`).

    Raises UserError as `build` does.
    """
    from noisyvos.methods.base import METHODS

    item = METHODS.get(kind)
    known = item.settings.model_fields
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UserError(
            f"Method {kind!r} has no setting {', '.join(unknown)}. "
            f"Known: {', '.join(sorted(known)) or 'none'}."
        )
    if total_iterations is not None and total_iterations < 1:
        raise UserError(
            f"Method {kind!r}: total_iterations is {total_iterations}; it must be at least 1."
        )
    return item.build(item.validate(values, f"method {kind!r}"), total_iterations)
