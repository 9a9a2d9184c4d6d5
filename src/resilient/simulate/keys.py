"""The keys of one table of a scenario, each read once; what is left over is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard, cast

from .. import validation

MISSING: Final[Any] = object()


class Keys:
    """A table of a scenario, whose errors name the key, its value and what is allowed."""

    def __init__(self, where: str, data: object, known: tuple[str, ...]) -> None:
        if not isinstance(data, Mapping):
            validation.refuse_type(where or "a scenario", data, "a table")
        self._data = cast("Mapping[str, Any]", data)
        self._where = where
        for key in self._data:
            if key not in known:
                hint = validation.did_you_mean(key, known) or "."
                raise ValueError(
                    f"{where or 'a scenario'} has no key {validation.shown(key)}{hint} "
                    f"There is: {', '.join(known)}"
                )

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def name(self, key: str) -> str:
        """Return the whole name of a key, such as ``service.workers``."""
        return f"{self._where}.{key}" if self._where else key

    def take(self, key: str, default: Any = MISSING) -> Any:
        """Return a value as it stands.

        Raises:
            ValueError: it is missing, and has no default.
        """
        if key not in self._data:
            if default is MISSING:
                raise ValueError(f"{self.name(key)} is missing")
            return default
        return self._data[key]

    def refuse_beside(self, key: str, other: str) -> None:
        """Refuse a key that means nothing beside what another says."""
        if key in self._data:
            raise ValueError(f"{self.name(key)} has no meaning where {other}; leave it out")

    def seconds(self, key: str, default: Any = MISSING, *, zero: bool = False) -> float:
        """Return a duration in seconds."""
        value = self.take(key, default)
        return validation.duration(self.name(key), value, zero=zero)

    def count(
        self, key: str, default: Any = MISSING, *, least: int = 1, most: int = 1_000_000
    ) -> int:
        """Return a whole number."""
        return validation.count(self.name(key), self.take(key, default), least=least, most=most)

    def number(self, key: str, default: Any = MISSING, *, least: float, most: float) -> float:
        """Return a number."""
        value = self.take(key, default)
        return validation.number(self.name(key), value, least=least, most=most)

    def maybe_number(self, key: str, *, least: float, most: float) -> float | None:
        """Return a number, None where there is none."""
        return self.number(key, least=least, most=most) if key in self._data else None

    def flag(self, key: str) -> bool:
        """Return true or false; false where there is none."""
        return validation.flag(self.name(key), self.take(key, False))

    def one_of(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        """Return one of some words."""
        return one_of(self.name(key), self.take(key, default), allowed)

    def text(self, key: str, default: str) -> str:
        """Return a text."""
        return validation.text(self.name(key), self.take(key, default))

    def list(self, key: str, default: Any = MISSING) -> list[Any]:
        """Return a list."""
        value = self.take(key, default)
        if not _is_list(value):
            validation.refuse_type(
                self.name(key), value, f"a list; in TOML it is written [[{self.name(key)}]]"
            )
        return value


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """Return one of some words; name the nearest for any other."""
    try:
        return validation.one_of(name, value, allowed)
    except ValueError as error:
        raise ValueError(f"{error}{validation.did_you_mean(value, allowed)}".rstrip()) from None


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
