"""Training methods: how noisy labels are treated. `available`, `build`."""

from typing import TYPE_CHECKING, Any

from noisyvos.errors import UserError

if TYPE_CHECKING:
    from noisyvos.methods.base import Method


def available() -> tuple[str, ...]:
    """Return the name of every method."""
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

    preset: a named set of weights, where the method has them (`smart`: released, unit). parity: as the published code has it,
    quirks included, where there is such code. total_iterations: length of the training, which schedules scale with; without it
    the published 110,000. Further settings by name. UserError (a ValueError) for an unknown name or setting, listing the known.
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
    """Return the method `kind` with the settings of a parameter file's entry (without its `kind`); UserError as in `build`."""
    from noisyvos.methods.base import METHODS

    item = METHODS.get(kind)
    known = item.settings.model_fields
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UserError(
            f"Method {kind!r} has no setting {', '.join(unknown)}. Known: {', '.join(sorted(known)) or 'none'}."
        )
    if total_iterations is not None and total_iterations < 1:
        raise UserError(
            f"Method {kind!r}: total_iterations is {total_iterations}; it must be at least 1."
        )
    return item.build(item.validate(values, f"method {kind!r}"), total_iterations)
