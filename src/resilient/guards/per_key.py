"""The facet of a guard that a policy with keys has anew for each key. Provisional."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, cast

from .base import Guard


class PerKey(Guard):
    """A policy with keys has one of it for each key. A guard without this facet all keys share."""

    def options_anew(self) -> dict[str, Any]:
        """Return the options with which `anew` makes another one: those in force."""
        return self.options()

    def anew(self) -> Self:
        """Return a guard with the same options, and without any state."""
        make = cast("Callable[..., Self]", type(self))
        made = make(**self.options_anew())
        made.judge = self.judge
        made._layers, made._revision = self._layers, self._revision
        return made

    def at_rest(self, now: float) -> bool:
        """Return whether a new guard would do as well, so that a key may be forgotten.

        No call is in it, and none has left a mark that still counts. Under the lock.
        """
        raise NotImplementedError


for _name in ("anew", "at_rest", "options_anew"):
    Guard._facet_of[_name] = PerKey
