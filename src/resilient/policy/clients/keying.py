"""The methods of a wrapped client, guarded by the guards of each call's key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ... import validation
from ...callables import Kind, kind_of
from ...engine.key_states import KeyState
from ..guard_stack import GuardStack
from ..key_calls import KeyView, dispatching, taking, view_of
from ..keyed import KeyedPolicy, keyed

HOST: Final = "host"

# The key of a call of a client: of the client, and its arguments.
KeyOf = Callable[[Any, tuple[Any, ...], dict[str, Any]], object]


class Keying:
    """Which key a call of a client has, and the policy that it is one of."""

    __slots__ = ("_key_of", "keyed")

    def __init__(self, policy: GuardStack, key_of: KeyOf) -> None:
        table = policy._core.keys
        most = 1000 if table is None else table.max_keys
        self.keyed: KeyedPolicy[GuardStack] = keyed(policy, _unasked, most)
        self._key_of = key_of

    def method(
        self, kind: Kind, name: str, proxy_of: Callable[[KeyView, Any], Any]
    ) -> Callable[..., Any]:
        """Return a method of a proxy that calls that of the proxy of its call's key.

        Args:
            kind: what the method is.
            name: its name.
            proxy_of: returns the proxy of the same client that is guarded by a key's guards.
        """

        def make(state: KeyState) -> Callable[..., Any]:
            view = view_of(self.keyed._core, state)

            def calls(proxy: Any, /, *args: Any, **kwargs: Any) -> Any:
                return getattr(proxy_of(view, proxy), name)(*args, **kwargs)

            return calls

        return self.function(kind, make, skip=1)

    def function(
        self, kind: Kind, make: Callable[[KeyState], Callable[..., Any]], *, skip: int
    ) -> Callable[..., Any]:
        """Return a function that calls what is made for the key of its call.

        Args:
            kind: what it is.
            make: returns a function for a key.
            skip: how many of its arguments are the client's proxy: 1, or 0 of a transport.
        """
        key_of, table = self._key_of, self.keyed._table

        def key(*args: Any, **kwargs: Any) -> object:
            return key_of(args[0].__wrapped__ if skip else None, args[skip:], kwargs)

        take = taking(key, table, self.keyed._unknown)
        return dispatching(table, take, make, is_async=kind == "async")


def _unasked(*args: Any, **kwargs: Any) -> object:
    raise TypeError("the keys of a client's calls are its own")


def keying_of(policy: GuardStack, key: object, host: KeyOf | None) -> Keying | None:
    """Return which key the calls of a client have; None where all share the policy's guards.

    Args:
        policy: guards the client.
        key: what the user gave.
        host: gives the host of a call, of a client that speaks HTTP.

    Raises:
        TypeError: key is neither "host" nor a plain function.
        ValueError: the client is of no known HTTP library, or the policy can have no keys.
    """
    if key is None:
        return None
    if key == HOST:
        if host is None:
            raise ValueError(
                f'{policy.name}: key="host" needs a client of a known HTTP library, whose calls '
                "name a URL; for another one give a function of its calls' arguments"
            )
        return Keying(policy, host)
    if not callable(key) or kind_of(key) != "sync":
        validation.refuse_type("key", key, '"host", or a plain function of a call\'s arguments')
    return Keying(policy, lambda _client, args, kwargs: key(*args, **kwargs))
