"""The operator's methods for single keys of a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import validation
from ..engine.forced_keys import force_key, reset_key
from ..engine.policy_state import PolicyState
from .key_calls import text_of

if TYPE_CHECKING:
    from datetime import timedelta


class KeyControls:
    """The part of a `KeyedPolicy` that looks at a key, or changes its behaviour."""

    __slots__ = ()
    _core: PolicyState

    def snapshot(self, key: object, /) -> dict[str, Any] | None:
        """Return the state of one key as plain data; None if it has no guards of its own.

        Args:
            key: the key, or its text.

        Returns:
            ``key``, ``state``, ``why``, ``forced``, ``refused`` (calls), ``running`` (calls), and
            its own ``guards``, as `Policy.snapshot` has them.
        """
        from ..admin.keys import shown

        return shown(self._core, text_of(key))

    @validation.keywords
    def force_open(
        self, key: object, /, reason: str = "", *, for_: float | timedelta | None = None
    ) -> None:
        """Refuse every call of one key; see `Policy.force_open`.

        Args:
            key: the key, or its text; it may be one that no call had so far.
            reason: why; errors, events and logs show it.
            for_: seconds after which it is released by itself. Default None: it holds.

        Raises:
            TypeError: a value has the wrong type.
            ValueError: a value is not allowed.

        Example:
            >>> from resilient import Policy, circuit_breaker
            >>> hosts = Policy("hosts", circuit_breaker()).keyed(lambda host: host)
            >>> hosts.force_open("a.example", "INC-1234")
            >>> hosts.try_call(len, "a.example").error
            CircuitOpenError('hosts[a.example]: refused (forced open: INC-1234)')
            >>> hosts.call(len, "b.example")
            9
        """
        self._force(key, "forced_open", reason, for_)

    @validation.keywords
    def force_closed(
        self, key: object, /, reason: str = "", *, for_: float | timedelta | None = None
    ) -> None:
        """Let the calls of one key pass its circuit breaker; see `Policy.force_closed`.

        Args:
            key: the key, or its text.
            reason: why; events and logs show it.
            for_: seconds after which it is released by itself. Default None: it holds.

        Raises:
            TypeError: a value has the wrong type.
            ValueError: a value is not allowed.
        """
        self._force(key, "forced_closed", reason, for_)

    def release(self, key: object, /, reason: str = "") -> None:
        """End the forced state of one key; the policy's own holds on.

        Args:
            key: the key, or its text.
            reason: why; events and logs show it.

        Raises:
            TypeError: a value has the wrong type.
            ValueError: a value is not allowed.
        """
        self._force(key, None, reason, None)

    def _force(
        self, key: object, state: str | None, reason: str, for_: float | timedelta | None
    ) -> None:
        text, why = text_of(key), validation.text("reason", reason)
        if for_ is None:
            force_key(self._core, text, state, why)
        else:
            force_key(self._core, text, state, why, validation.duration("for_", for_))

    def reset(self, key: object, /, reason: str = "") -> None:
        """Close the circuit breaker of one key, with a fresh window.

        Args:
            key: the key, or its text.
            reason: why; the event and the log show it.

        Raises:
            TypeError: a value has the wrong type.
            ValueError: a value is not allowed.
            LookupError: no call has that key.
        """
        why = validation.text("reason", reason)
        if not reset_key(self._core, text_of(key), f"reset: {why}" if why else "reset"):
            raise LookupError(f"{self._core.name} has no key {text_of(key)!r}")
