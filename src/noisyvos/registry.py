"""Registries that make an addition one file: a module of a family package registers what it defines."""

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

from noisyvos.errors import UserError, unknown_name


class Settings(BaseModel):
    """Base of every settings class: frozen, and without unknown keys, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    builds: ClassVar[dict[str, str]] = {}

    @field_validator("*", mode="wrap")
    @classmethod
    def _truth_values_are_no_numbers(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        result = handler(value)
        if isinstance(value, bool) and not isinstance(result, bool):
            raise ValueError("expected a number and not a truth value")
        return result


@dataclass(frozen=True)
class Item:
    """One registered thing: its name, what builds it, the settings it takes and the module it lives in."""

    name: str
    build: Callable[..., Any]
    settings: type[Settings]
    module: str

    def validate(self, values: dict[str, Any], where: str) -> Settings:
        """Return `values` as this item's settings; a UserError names `where` and every wrong key."""
        try:
            return self.settings(**values)
        except ValidationError as error:
            raise UserError(f"{where}: {describe(error)}") from None


def describe(error: ValidationError) -> str:
    """Return all problems of a pydantic error as one sentence each."""
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"]) or "value"
        lines.append(f"{place}: {problem['msg']} (got {problem.get('input')!r})")
    return "; ".join(lines)


@dataclass
class Registry:
    """The items of one family; importing the family package's modules fills it."""

    family: str  # what one item is called in messages, e.g. "noise kind"
    package: str
    _items: dict[str, Item] = field(default_factory=dict)
    _loaded: bool = False

    def register(self, name: str, settings: type[Settings] = Settings) -> Callable[[Any], Any]:
        """Decorate the function or class that makes the item `name`."""

        def decorate(build: Any) -> Any:
            present = self._items.get(name)
            if present is not None and present.module != build.__module__:
                raise ValueError(
                    f"{self.family} {name!r} is registered twice: {present.module} and {build.__module__}"
                )
            self._items[name] = Item(name, build, settings, build.__module__)
            return build

        return decorate

    def get(self, name: str) -> Item:
        """Return the item `name`; UserError lists the known names."""
        self._load()
        if name not in self._items:
            raise unknown_name(self.family, name, self._items)
        return self._items[name]

    def names(self) -> tuple[str, ...]:
        """Return every registered name in alphabetical order."""
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
        self._loaded = True
