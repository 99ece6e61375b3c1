"""Registries of named kinds. A new kind is one new file in a package: no list needs an edit."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from noisyvos import extension
from noisyvos.errors import UserError, unknown_name
from noisyvos.limits import LARGEST_NUMBER


class Settings(BaseModel):
    """Base class of all settings: frozen, without unknown keys, NaN or infinity.

    `builds` declares settings that name another registered kind, as {setting: package of the
    kinds}. The computed code dependencies include the named kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    builds: ClassVar[dict[str, str]] = {}

    @field_validator("*", mode="wrap")
    @classmethod
    def _truth_values_are_no_numbers(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        result = handler(value)
        if isinstance(value, bool) and not isinstance(result, bool):
            raise ValueError("expected a number and not a truth value")
        if isinstance(result, int | float) and abs(result) > LARGEST_NUMBER:
            raise ValueError(f"this number is larger than any that makes sense ({result:.0e})")
        return result


@dataclass(frozen=True)
class Item:
    """One registered kind: its name, the callable that builds it, its settings class and its
    module.
    """

    name: str
    build: Callable[..., Any]
    settings: type[Settings]
    module: str

    def validate(self, values: dict[str, Any], where: str) -> Settings:
        """Return `values` as settings of this kind. Raises UserError with `where` and every wrong
        key.
        """
        try:
            return self.settings(**values)
        except ValidationError as error:
            raise UserError(f"{where}: {describe(error)}") from None


def describe(error: ValidationError) -> str:
    """Return all problems of a pydantic error, joined by semicolons."""
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"]) or "value"
        lines.append(f"{place}: {problem['msg']} (got {shown(problem.get('input'))})")
    return "; ".join(lines)


def shown(value: Any) -> str:
    """Return a value as a message shows it, shortened."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass
class Registry:
    """The kinds of one family. The first look-up imports all modules of `package`."""

    family: str  # what messages call one item, e.g. "noise kind"
    package: str
    _items: dict[str, Item] = field(default_factory=dict)
    _loaded: bool = False

    def register(self, name: str, settings: type[Settings] = Settings) -> Callable[[Any], Any]:
        """Return a decorator that registers a function or class under `name`."""

        def decorate(build: Any) -> Any:
            present = self._items.get(name)
            if present is not None and present.module != build.__module__:
                raise ValueError(
                    f"{self.family} {name!r} is registered twice: "
                    f"in {present.module} and in {build.__module__}"
                )
            self._items[name] = Item(name, build, settings, build.__module__)
            return build

        return decorate

    def get(self, name: str) -> Item:
        """Return the item `name`. Raises UserError that lists the known names."""
        self._load()
        if name not in self._items:
            raise unknown_name(self.family, name, self._items)
        return self._items[name]

    def names(self) -> tuple[str, ...]:
        """Return all registered names in alphabetical order."""
        self._load()
        return tuple(sorted(self._items))

    def __iter__(self) -> Iterator[Item]:
        return iter([self.get(name) for name in self.names()])

    def _load(self) -> None:
        if self._loaded:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        if self.package == extension.PACKAGE:
            extension.load()
        self._loaded = True
