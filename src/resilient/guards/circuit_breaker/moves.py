"""How a circuit moves from state to state, and the events of its moves."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, ClassVar, Final

from ...events import Cause, Event, Kind
from ...stack import room
from ..facets import InFlight, Stateful
from ..jitter import source
from ..per_key import PerKey
from ..window import Ages, TimeWindow
from .history import History
from .ramp import Climbing, Ramp
from .recovery import Recovery
from .trip_rules import Health

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"
METRICS_ONLY: Final = "metrics_only"
STATES: Final = (CLOSED, OPEN, HALF_OPEN, METRICS_ONLY)

NEVER: Final = 1 << 62  # above every ticket


class Moving(Climbing, InFlight, Stateful, PerKey):
    """The part of a circuit breaker that changes its state."""

    health: Health
    seen: Health | None
    recovery: Recovery
    history: History
    moves: dict[tuple[str, Cause], int]
    phase: str
    # Class attributes until they are set: 30 attributes of its own cost an object 1,300 bytes more.
    _released: bool = False  # an operator has moved it, and no call since
    would_open_total: int = 0
    would_refuse_total: int = 0
    serial: int
    epoch: int
    recovered: int
    relapses: int
    until: float
    why: str
    state: str
    random: Callable[[], float] | None
    changeable: ClassVar[tuple[str, ...]]
    half_open_max_calls: int
    success_threshold: int
    slow_total: int
    late_total: int
    _home: str
    _probes: Ages
    _simple: int
    _refuses_until: float

    def _decide(self, now: float) -> None:
        if self.forced is None:
            room()
            self.relapses += self._is_climbing(now)
            self._open(now, self.health.summary(now))

    def _open(self, now: float, why: str) -> None:
        self.until = now + self.recovery.seconds(self.relapses, self.random)
        self._move(OPEN, now, why, "opened")
        if self.seen is None:
            self.why = why

    def _move(self, state: str, now: float, why: str, kind: Kind, cause: Cause = "auto") -> None:
        before, self.phase = self.phase, state
        self._released = cause == "operator"
        if self.seen is not None:
            self._moved_unseen(state, now, why)
            return
        self.state = state
        self.why = "half-open: as many probes run as may" if state == HALF_OPEN else ""
        seen = self.health.evidence(now)
        self._fresh()
        self.moves[state, cause] = self.moves.get((state, cause), 0) + 1
        self._tell(kind, now, why, before, state, seen, cause)

    def _moved_unseen(self, state: str, now: float, why: str) -> None:
        """Move like a real breaker, but publish only that it would have opened."""
        evidence = self.health.evidence(now)
        self._fresh()
        if state == OPEN:
            self.would_open_total += 1
            self._tell("would_open", now, why, METRICS_ONLY, METRICS_ONLY, evidence)

    def _watch(self) -> None:
        """Keep all results if metrics-only, else only those that count."""
        self.seen = None
        if self._home != CLOSED:
            self.seen = Health(**self.health.options())
            self.seen.restore(self.health.save())

    def _simplify(self) -> None:
        """Decide whether the fast checks suffice."""
        usual = not self.watches_ages and self.seen is None and self._ramp is None
        simple = self.phase == CLOSED and usual
        self._simple = self.epoch if simple else NEVER
        refuses = self.phase == OPEN and self.seen is None and self.forced is None
        self._refuses_until = self.until if refuses else -inf

    def _fresh(self) -> None:
        """Begin a new epoch: results of calls that were admitted before move nothing."""
        self.serial += 1
        self.epoch = self.serial
        self._ramp = None
        self._simplify()
        self.recovered = 0
        self.health.clear()
        self._probes.clear()

    def _tell(
        self, kind: Kind, now: float, why: str, before: str, after: str, evidence: dict[str, Any],
        cause: Cause = "auto",
    ) -> None:  # fmt: skip
        if after == OPEN:
            evidence["retry_after"] = self.retry_after(now)
        evidence["settings"] = self.in_force()
        evidence["revision"] = self._revision
        event = Event(
            kind, guard=self.kind, at=now, reason=why, before=before, after=after, cause=cause,
            evidence=evidence,
        )  # fmt: skip
        self.history.add(event)
        self.emit(event)

    # -- the operator ---------------------------------------------

    def force(self, state: str | None, now: float) -> None:
        released, self.forced = self.forced, state if state == "forced_closed" else None
        self._simplify()
        if state is not None:
            return
        if self.seen is not None:
            if released == "forced_closed":
                self.phase = CLOSED
                self._fresh()
        elif released == "forced_closed":
            self.relapses = 0
            self._move(CLOSED, now, "released from forced_closed", "closed", "operator")
        else:
            self._move(HALF_OPEN, now, "released from forced_open", "half_open", "operator")

    def reset(self, now: float, why: str) -> None:
        self.relapses = 0
        if self.seen is not None:
            self.phase = CLOSED
            self._fresh()
            self.seen.clear()
        else:
            self._move(CLOSED, now, why, "closed", "operator")

    # -- calls in flight ---------------------------------------------

    def confirm(self, ticket: int, now: float) -> int:
        if ticket < self.epoch:  # the circuit moved while the call waited in the queue
            return self.admit(now)
        return ticket

    def pause(self, ticket: int, now: float) -> None:
        self.health.ages.discard(ticket)

    def go_on(self, ticket: int, now: float) -> None:
        if self.watches_ages and ticket >= self.epoch and self.phase != HALF_OPEN:
            self.health.ages.discard(ticket)
            self.health.ages.add(ticket, now)

    # -- what it shows ---------------------------------------------

    def retry_after(self, now: float) -> float | None:
        if self.state == OPEN:
            return max(0.0, self.until - now)
        ramp = self._ramp if self._is_climbing(now) else None
        if ramp is None or self.seen is not None or self.forced is not None:
            return None
        return ramp.retry_after(now)

    @property
    def probes(self) -> Ages:
        """The probes in flight."""
        return self._probes

    @property
    def only_measures(self) -> bool:
        """Whether it never refuses."""
        return self.seen is not None

    def in_force(self) -> dict[str, Any]:
        """Return the options in force, as plain data."""
        options = self.options()
        return {
            **{name: options[name] for name in self.changeable},
            "window": str(self.health.window),
            "max_recovery_timeout": self.recovery.longest,
            "probe_lease": self._probes.limit,
        }

    def memory(self) -> float:
        return self.health.memory

    @property
    def is_probing(self) -> bool:
        return self.state == HALF_OPEN

    @property
    def slow_from(self) -> float:
        return self.health.slow_from

    def at_rest(self, now: float) -> bool:
        window = self.health.window
        window.advance(now)
        timed = isinstance(window, TimeWindow)  # what a window of calls holds never gets old
        marks = (window.failures or window.slow) if timed else 0
        usual = self.phase == CLOSED or (self.phase == HALF_OPEN and self._released)
        calls = len(self.health.ages) + len(self._probes)
        return usual and not (marks or calls or self.forced or self._is_climbing(now))

    # -- tests, and forks ---------------------------------------------

    def jitter(self, on: bool) -> None:
        self.random = source() if on else None

    def after_fork(self, now: float, own: int) -> None:
        ramp = self._ramp
        self._fresh()
        self._ramp = ramp
        self._simplify()
        self.slow_total = self.late_total = 0
        self.moves = {}
        if self.would_open_total or self.would_refuse_total:
            self.would_open_total = self.would_refuse_total = 0
        if self.seen is not None:
            self.seen.clear()

    _SAVED: ClassVar = (
        "state", "phase", "why", "until", "relapses", "recovered", "forced", "slow_total",
        "late_total", "would_open_total", "would_refuse_total",
    )  # fmt: skip

    def save(self) -> dict[str, Any]:
        saved = {name: getattr(self, name) for name in self._SAVED}
        return {
            **saved,
            "health": self.health.save(),
            "seen": None if self.seen is None else self.seen.save(),
            "moves": dict(self.moves),
            "ramp": None if self._ramp is None else self._ramp.save(),
            "history": self.history.save(),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        self._fresh()
        for name in self._SAVED:
            setattr(self, name, saved[name])
        self._ramp = None if saved["ramp"] is None else Ramp.restored(saved["ramp"])
        self._simplify()
        self.health.restore(saved["health"])
        if self.seen is not None and saved["seen"] is not None:
            self.seen.restore(saved["seen"])
        self.moves = dict(saved["moves"])
        self.history.restore(saved["history"])
