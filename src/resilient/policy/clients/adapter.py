"""What may be known of a library whose client is wrapped; the edge of the package fills it in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ...knowledge.error_families import Family
from ...outcomes import Judge


class ClientAdapter:
    """What `Policy.wrap` assumes of a client: here, of one that nothing is known of."""

    judge: ClassVar[Judge | None] = None  # whose errors and values: beside the guards' own
    family: ClassVar[Family | None] = None  # what errors of ours are to its callers as well
    # Its own timeouts, which are the policy's where the deadline is up.
    timeouts: ClassVar[tuple[type[Exception], ...]] = ()

    @property
    def kin(self) -> Callable[[Exception, Any, tuple[Any, ...], dict[str, Any]], Exception] | None:
        """Return what makes an error of ours one of the library's too."""
        return None if self.family is None else self.family.error

    def free(self, cls: type, name: str) -> bool:
        """Return whether a method does no I/O, so that it needs no guard."""
        return False

    def at_once(self, cls: type, name: str) -> Callable[[Any], bool] | None:
        """Return what tells of a client whether a method that is free else does I/O now."""
        return None

    def is_data(self, cls: type) -> bool:
        """Return whether instances of a class are data, and no part of the client."""
        return False

    def is_part(self, value: Any) -> bool | None:
        """Return whether a value talks to the dependency, None to go by how it looks."""
        return None

    def passes(self, proxy: type, cls: type) -> None:
        """Learn that instances of a proxy class are to pass for those of a client's class."""

    def gave_up(self, error: Exception) -> bool:
        """Return whether giving something back failed because its connection was cut by us."""
        return False

    def unbounded(self, client: Any) -> str | None:
        """Return why a client's own waits can't be made to end with the deadline, where so."""
        if type(self) is ClientAdapter:
            return "nothing is known of its library, whose waits end when they end"
        return None

    def prepare(self, client: Any) -> None:
        """Make a client's own time limits follow the deadline, where it has such limits."""


def _nothing(_: object) -> ClientAdapter:
    return ClientAdapter()


class Source:
    """Where knowledge comes from; a floor above sets it."""

    of: Callable[[type], ClientAdapter] = staticmethod(_nothing)  # a class of clients
    within: Callable[[str], ClientAdapter] = staticmethod(_nothing)  # a module


source: Source = Source()
