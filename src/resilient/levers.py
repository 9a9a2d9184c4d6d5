"""What moves a policy at run time: forced states, and changed options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import checks, updating
from .drive.core import Core
from .guards.base import Guard


class Levers:
    """The part of a `Policy` that changes how it acts while calls go on."""

    __slots__ = ()
    _core: Core
    _guards: tuple[Guard, ...]

    def force_open(self, reason: str = "") -> None:
        """Refuse every call with `CircuitOpenError` until `release`; fallbacks answer.

        Args:
            reason: why; it is in the errors, events and logs.

        Raises:
            TypeError: reason is not a str.
            ValueError: reason is not printable, or longer than 500 characters.
        """
        self._core.force("forced_open", checks.text("reason", reason))

    def force_closed(self, reason: str = "") -> None:
        """Let calls pass the circuit breaker, whatever it says, until `release`.

        The other guards act as ever.

        Args:
            reason: why; it is in the events and logs.

        Raises:
            TypeError: reason is not a str.
            ValueError: reason is not printable, or longer than 500 characters.
        """
        self._core.force("forced_closed", checks.text("reason", reason))

    def release(self, reason: str = "") -> None:
        """End a forced state: forced open goes on half-open, forced closed closed and afresh.

        Args:
            reason: why; it is in the events and logs.

        Raises:
            TypeError: reason is not a str.
            ValueError: reason is not printable, or longer than 500 characters.
        """
        self._core.force(None, checks.text("reason", reason))

    def update(self, *, reason: str = "", **guards: Mapping[str, Any]) -> None:
        """Change options while calls go on: all of them, or none where one is invalid.

        State is kept: an open circuit stays open, calls keep their slots, waiters their places;
        only a changed ``window`` starts afresh. An operator's order goes over it.

        Args:
            reason: why; it is in the event and the log.
            **guards: for each guard, by its kind, the options to change, as its decorator takes
                them. What code decides (``on``, ``ignore``, ``failed_result``, ``sync``, a
                fallback's answer) can't change.

        Raises:
            ValueError: a guard or option is unknown, or a value is not allowed.
            TypeError: a value has the wrong type.

        Example:
            >>> from resilient import Policy, bulkhead, circuit_breaker
            >>> films = Policy("films", circuit_breaker(), bulkhead(20))
            >>> films.update(bulkhead={"max_concurrent": 40}, circuit_breaker={"failure_rate": 0.3})
            >>> films.snapshot()["guards"][1]["options"]["max_concurrent"]
            40
        """
        checks.text("reason", reason)
        updating.update(self._core, self._guards, updating.UPDATE, guards, reason)
