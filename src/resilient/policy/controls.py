"""The operator's methods of a policy: forced states, and changed options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import validation
from ..admin import options as updating
from ..admin.registry import registry
from ..engine.policy_state import PolicyState
from ..guards.base import Guard
from ..guards.candidate import Candidate
from ..guards.facets import Stateful
from .guard_stack import GuardStack

if TYPE_CHECKING:
    from datetime import timedelta


class Levers(GuardStack):
    """The part of a `Policy` that changes its behaviour at run time."""

    __slots__ = ()

    @validation.keywords
    def force_open(self, reason: str = "", *, for_: float | timedelta | None = None) -> None:
        """Refuse every call with `CircuitOpenError` until `release`; fallbacks answer.

        Args:
            reason: why; errors, events and logs show it.
            for_: seconds after which it is released by itself, by the policy's own clock, with or
                without calls. Default None: it holds until `release`.

        Raises:
            TypeError: reason is not a str, or ``for_`` is not a duration.
            ValueError: reason is not printable, or longer than 500 characters; or ``for_`` is not
                from 1 microsecond to 10 years.

        Example:
            >>> from resilient import Policy
            >>> from resilient.testing import ManualClock
            >>> clock = ManualClock()
            >>> labels = Policy("labels", clock=clock)
            >>> labels.force_open("INC-1234", for_=600)
            >>> labels.state
            'forced_open'
            >>> clock.advance(600)
            >>> labels.state
            'closed'
        """
        self._force("forced_open", reason, for_)

    @validation.keywords
    def force_closed(self, reason: str = "", *, for_: float | timedelta | None = None) -> None:
        """Let calls pass the circuit breaker, whatever its state, until `release`.

        The other guards act as usual.

        Args:
            reason: why; events and logs show it.
            for_: seconds after which it is released by itself; see `force_open`. Default None: it
                holds until `release`.

        Raises:
            TypeError: reason is not a str, or ``for_`` is not a duration.
            ValueError: reason is not printable, or longer than 500 characters; or ``for_`` is not
                from 1 microsecond to 10 years.
        """
        self._force("forced_closed", reason, for_)

    def _force(self, state: str, reason: str, for_: float | timedelta | None) -> None:
        why = validation.text("reason", reason)
        if for_ is None:
            self._core.force(state, why)
        else:
            self._core.force(state, why, validation.duration("for_", for_))

    def release(self, reason: str = "") -> None:
        """End a forced state: forced open becomes half-open; forced closed becomes closed, afresh.

        Args:
            reason: why; events and logs show it.

        Raises:
            TypeError: reason is not a str.
            ValueError: reason is not printable, or longer than 500 characters.
        """
        self._core.force(None, validation.text("reason", reason))

    def reset(self, reason: str = "") -> None:
        """Close the circuit breaker, with a fresh window, whatever its state.

        Calls in flight keep their slots; for the breaker their results are late. A forced state
        stays. A breaker with ``metrics_only`` gets an empty window.

        Args:
            reason: why; the event and the log show it.

        Raises:
            TypeError: reason is not a str.
            ValueError: reason is not printable, or longer than 500 characters; or the policy has
                no circuit breaker.

        Example:
            >>> from resilient import Policy, circuit_breaker
            >>> stamps = Policy("stamps", circuit_breaker(failure_threshold=1))
            >>> failed = stamps.try_call(int, "x")
            >>> stamps.state
            'open'
            >>> stamps.reset("the printer is back")
            >>> stamps.state
            'closed'
        """
        why = validation.text("reason", reason)
        if not _reset(self._core, self._guards, f"reset: {why}" if why else "reset"):
            raise ValueError(f"{self._core.name} has no circuit breaker to reset")

    def drop(self) -> None:
        """Remove the policy from the registry: its metrics end, and its name is free again.

        Its state still protects its remaining callers as before; no operator's order reaches it any
        more. Dropping it again does nothing.

        Example:
            >>> from resilient import Policy, bulkhead
            >>> hats = Policy("hats", bulkhead(3))
            >>> hats.drop()
            >>> hats = Policy("hats", bulkhead(5))
        """
        registry.drop(self._core)

    def update(self, *, reason: str = "", **guards: Mapping[str, Any]) -> None:
        """Change options while calls go on: all of them, or none if one is invalid.

        State is kept: an open circuit stays open, calls keep their slots, waiters their places;
        only a changed ``window`` starts afresh. An operator's order overrides the update.

        Args:
            reason: why; the event and the log show it.
            **guards: for each guard, by its kind, the options to change, named as in its
                decorator. What code decides (``on``, ``ignore``, ``failed_result``, ``sync``, a
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
        validation.text("reason", reason)
        updating.update(self._core, self._guards, updating.UPDATE, guards, reason)

    def shadow(self, candidate: Guard, /) -> None:
        """Have a candidate see all that happens beside the living guard, and refuse nothing.

        What it would have done is counted, and shown with its evidence; `promote` puts its options
        in force. Call it where the policy is made: what was decorated before does not feed it.

        Args:
            candidate: a guard that can refuse, such as ``circuit_breaker(failure_rate=0.3)``.

        Raises:
            TypeError: candidate is no such guard.
            ValueError: it belongs to a policy, or has a line; or the policy guards something
                already, or has such a shadow.

        Example:
            >>> from resilient import Policy, circuit_breaker
            >>> tunes = Policy("tunes", circuit_breaker())
            >>> tunes.shadow(circuit_breaker(failure_threshold=1))
            >>> failed = tunes.try_call(int, "x")
            >>> shadow = tunes.snapshot()["guards"][0]
            >>> tunes.state, shadow["would_be"], shadow["would_open"]
            ('closed', 'open', 1)
        """
        from . import shadowing

        guards = shadowing.shadowed(self._core, self._core.guards, candidate)
        self._core.adopt_among(guards)
        self._join(self._core, guards, guards)

    def promote(self, reason: str = "") -> None:
        """Put the options of the shadows in force, as `update` does; the shadows stay.

        Args:
            reason: why; the event and the log show it.

        Raises:
            TypeError: reason is not a str.
            ValueError: there is no shadow, it has no living guard beside it, or no option differs
                that can change.
        """
        from . import shadowing

        changes = shadowing.promotion(self._core, self._core.guards)
        self.update(reason=reason, **{kind: found for kind, found in changes.items() if found})


def _reset(core: PolicyState, guards: tuple[Guard, ...], why: str) -> bool:
    core.must_be_free()
    now = core.now()
    stateful = [guard for guard in guards if isinstance(guard, Stateful)]
    if core.keys is not None:
        stateful += [guard for state in core.keys.all() for guard in state.stateful()]
    candidates = [guard for guard in core.all_guards() if isinstance(guard, Candidate)]
    core.locked(_reset_all, stateful, candidates, now, why)
    return bool(stateful)


def _reset_all(guards: list[Stateful], candidates: list[Candidate], now: float, why: str) -> None:
    for guard in guards:
        guard.reset(now, why)
    for candidate in candidates:
        candidate.begin_anew(now, why)
