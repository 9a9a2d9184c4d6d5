"""The interface of adapters for clients' libraries; `integrations` implements it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

from ...knowledge.error_families import Family
from ...knowledge.repeats import once_over_http, unknown, writes_over_http
from ...outcomes import Judge


class ClientAdapter:
    """What `Policy.wrap` assumes of a client. This base class serves unknown libraries."""

    judge: ClassVar[Judge | None] = None  # classifies its errors and values, beside the guards' own
    family: ClassVar[Family | None] = None  # our errors also take on the library's types
    speaks_http: ClassVar[bool] = False  # its methods, or their requests, are those of HTTP
    # The client's own timeouts: when the deadline is up, they count as the policy's timeout.
    timeouts: ClassVar[tuple[type[Exception], ...]] = ()

    @property
    def kin(self) -> Callable[[Exception, Any, tuple[Any, ...], dict[str, Any]], Exception] | None:
        """Return what turns one of our errors into one of the library's too."""
        return None if self.family is None else self.family.error

    def once(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return why a call must not be repeated, "" if it may."""
        return (once_over_http if self.speaks_http else unknown)(fn, args, kwargs)

    def writes(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return whether a call is known to change something at the dependency."""
        return self.speaks_http and writes_over_http(fn, args, kwargs)

    def asks_again(self, client: Any) -> str:
        """Return how often a client asks again by itself, in words; "" if it does not.

        Of a client that nobody knows, what many call ``max_retries``, such as the SDKs of OpenAI
        and Anthropic, is read where it is kept: nothing of the client is run.
        """
        most = cast("dict[str, object]", vars(client)).get("max_retries")
        return f"{most} times (max_retries)" if type(most) is int and most > 0 else ""

    def free(self, cls: type, name: str) -> bool:
        """Return whether a method does no I/O, so that it needs no guard."""
        return False

    def at_once(self, cls: type, name: str) -> Callable[[Any], bool] | None:
        """Return a predicate: does this method, otherwise free, do I/O for a given client now?"""
        return None

    def is_data(self, cls: type) -> bool:
        """Return whether instances of a class are data, not parts of the client."""
        return False

    def is_part(self, value: Any) -> bool | None:
        """Return whether a value talks to the dependency, None if its shape is to decide."""
        return None

    def passes(self, proxy: type, cls: type) -> None:
        """Register a proxy class whose instances must pass for instances of a client's class."""

    def gave_up(self, error: Exception) -> bool:
        """Return whether a release failed because we cut its connection."""
        return False

    def unbounded(self, client: Any) -> str | None:
        """Return why the deadline can't end a client's own waits, None if it can."""
        if type(self) is ClientAdapter:
            return "nothing is known of its library, whose waits end when they end"
        return None

    def prepare(self, client: Any) -> None:
        """Make a client's own time limits, if it has any, follow the deadline."""


def _nothing(_: object) -> ClientAdapter:
    return ClientAdapter()


class Source:
    """Where adapters come from; `integrations` sets it."""

    of: Callable[[type], ClientAdapter] = staticmethod(_nothing)  # by the class of a client
    knows: Callable[[str], bool] = staticmethod(bool)  # whether a library has one, by its package
    within: Callable[[str], ClientAdapter] = staticmethod(_nothing)  # by the name of a module


source: Source = Source()
