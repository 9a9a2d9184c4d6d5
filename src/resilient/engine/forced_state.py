"""The forced state of a policy, permanent or for a time."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, ClassVar, Final

from ..clock import Alarm
from ..events import Cause, Event, bus
from ..guards.facets import Stateful
from ..stack import room_for_call
from .alarms import alarm_at
from .section import Section

NEVER: Final = float("inf")


class ForcedState(Section):
    """The part of a policy's state that operators can force."""

    __slots__ = ("__weakref__", "alarm", "forced", "forced_why", "until")
    on_expired: ClassVar[Callable[[Any], object] | None] = None  # set by `startup`

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.forced: str | None = None
        self.forced_why: str = ""
        self.until: float = NEVER  # when the forced state ends by itself
        self.alarm: Alarm | None = None  # ends it at that time

    def compute_gate(self, *, begun: bool = False) -> int:
        """Compute the idle gate. The caller holds the lock."""
        raise NotImplementedError

    def stateful(self) -> list[Stateful]:
        """Return the guards that have a state."""
        raise NotImplementedError

    def force(
        self, state: str | None, why: str, seconds: float = NEVER, *, cause: Cause = "operator"
    ) -> None:
        """Set a forced state, permanently or for some seconds, or release it.

        The cause ``auto`` releases only a state whose time is up.
        """
        room_for_call()
        self.must_be_free()
        try:
            self.locked(self._force, state, why, seconds, cause, self.now())
        finally:
            self.arm()

    def _force(self, state: str | None, why: str, seconds: float, cause: Cause, now: float) -> None:
        if cause == "auto" and now < self.until:
            return
        before, known = self.forced, (self.forced_why, self.until)
        self.until = NEVER if state is None else now + seconds
        told, self.forced_why = why, why if state is not None else ""
        if state == before and (state is None or (why, self.until) == known):
            return
        if seconds < NEVER:
            told = f"{why} (for {seconds:g} s)" if why else f"for {seconds:g} s"
        self.forced = state
        self.compute_gate()
        event = Event(
            "released" if state is None else "forced",
            guard="policy",
            at=now,
            reason=told,
            before=before or "",
            after=state or "",
            cause=cause,
            policy=self.name,
        )
        bus.enqueue(event)
        self.outbox.append(None)
        for guard in self.stateful():
            if before is not None and state is not None:
                guard.force(None, now)
            guard.force(state, now)

    def expire(self) -> None:
        """End a forced state whose time is up; an order that still holds then takes effect."""
        if self.until == NEVER or self.holds_lock() or self.now() < self.until:
            return
        self.force(None, f"its time was up: {self.forced_why}".removesuffix(": "), cause="auto")
        if ForcedState.on_expired is not None:
            ForcedState.on_expired(self)

    def left(self, now: float) -> float | None:
        """Return the seconds until a forced state ends by itself; None if it does not."""
        return self.until - now if self.until < NEVER else None

    def arm(self) -> None:
        """Start an alarm that ends a forced state even if nobody calls or looks."""
        alarm, self.alarm = self.alarm, None
        if alarm is not None:
            alarm.cancel()
        if self.until < NEVER:
            self.alarm = alarm_at(self.until, self.now(), self.clock, expiring(self))


def expiring(core: ForcedState) -> Callable[[], None]:
    """Return a function that ends a forced state, through a weak reference to its policy."""
    ref = weakref.ref(core)

    def expire() -> None:
        living = ref()
        if living is not None:
            living.expire()

    return expire
