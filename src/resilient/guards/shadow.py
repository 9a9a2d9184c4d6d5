"""A shadow: another guard beside a living one, which sees what happens and refuses nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from ..events import Event
from ..metric_types import Metric, Sample
from ..outcomes import REFUSED, Judge
from .base import Guard, Waiter
from .candidate import Candidate
from .facets import (
    Admission,
    Changeable,
    InFlight,
    Jitters,
    Peered,
    Restorable,
    Stateful,
)
from .per_key import PerKey

MOVES: Final = 20  # the last ones that are kept
_BITS: Final = 8
_MASK: Final = (1 << _BITS) - 1
_UNSEEN: Final = 0  # the ticket of a call that the candidate would have refused

_WOULD_REFUSE: Final = Metric(
    "shadow_would_refuse_total", "counter",
    "Calls that a shadow would have refused, by the guard that it is a candidate for.", "guard",
)  # fmt: skip
_WOULD_MOVE: Final = Metric(
    "shadow_would_open_total", "counter", "Times that a shadow's circuit would have opened.",
    present="with a shadow that has a circuit",
)  # fmt: skip


class Shadow(InFlight, PerKey, Peered, Jitters, Restorable, Candidate):
    """Feeds a candidate; made by `Policy.shadow`."""

    kind: ClassVar[str] = "shadow"
    unique: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (_WOULD_REFUSE, _WOULD_MOVE)

    def __init__(self, candidate: Admission) -> None:
        super().__init__()
        self.candidate: Admission = candidate
        self.judge: Judge = candidate.judge
        self.watches_ages: bool = isinstance(candidate, InFlight) and candidate.watches_ages
        self.would_refuse: int = 0
        self.would_open: int = 0
        self.moves: list[dict[str, Any]] = []  # what it would have told of
        self._epoch: int = 0  # rises at a fork: what was let in before is not the candidate's
        candidate.emit = self._told

    @property
    def of(self) -> str:
        """The kind of the guard that it is a candidate for."""
        return self.candidate.kind

    def _told(self, item: Event | Waiter | Callable[[], object]) -> None:
        """Take what the candidate would have told; publish only that it would have opened."""
        if not isinstance(item, Event):
            return
        move = {"kind": item.kind, "at": item.at, "reason": item.reason}
        self.moves = [*self.moves[1 - MOVES :], {**move, "evidence": dict(item.evidence)}]
        if item.kind in ("opened", "would_open"):
            self.would_open += 1
            self.emit(
                Event("would_open", guard=self.kind, at=item.at, reason=item.reason,
                      evidence=item.evidence)
            )  # fmt: skip

    # -- the life of an attempt ---------------------------------------------

    def admit(self, now: float) -> int:
        ticket = self.candidate.admit(now)
        return _UNSEEN if ticket < 0 else (ticket + 1) << _BITS | self._epoch & _MASK

    def _ticket(self, ticket: int) -> int | None:
        """Return the candidate's ticket; None where it has none of this attempt."""
        if ticket == _UNSEEN or ticket & _MASK != self._epoch & _MASK:
            return None
        return (ticket >> _BITS) - 1

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        own = self._ticket(ticket)
        if ticket == _UNSEEN:
            self.would_refuse += outcome != REFUSED  # else another guard did
        elif own is not None:
            self.candidate.settle(own, now, outcome, duration, reason, held)

    def release(self, ticket: int, now: float) -> None:
        own = self._ticket(ticket)
        if own is not None:
            self.candidate.release(own, now)

    def pause(self, ticket: int, now: float) -> None:
        own = self._ticket(ticket)
        if own is not None and isinstance(self.candidate, InFlight):
            self.candidate.pause(own, now)

    def go_on(self, ticket: int, now: float) -> None:
        own = self._ticket(ticket)
        if own is not None and isinstance(self.candidate, InFlight):
            self.candidate.go_on(own, now)

    # -- the policy and the process ---------------------------------------------

    def meet(self, guards: tuple[Guard, ...]) -> None:
        if isinstance(self.candidate, Peered):
            self.candidate.meet(guards)

    def peers_changed(self) -> None:
        if isinstance(self.candidate, Peered):
            self.candidate.peers_changed()

    def jitter(self, on: bool) -> None:
        if isinstance(self.candidate, Jitters):
            self.candidate.jitter(on)

    def after_fork(self, now: float, own: int) -> None:
        self._epoch += 1
        self.candidate.after_fork(now, 0)
        self.would_refuse = self.would_open = 0
        self.moves = []

    def options_anew(self) -> dict[str, Any]:
        if not isinstance(self.candidate, PerKey):
            raise TypeError(f"a shadow of a {self.of} can't be one for each key")
        return {"candidate": self.candidate.anew()}

    def at_rest(self, now: float) -> bool:
        return not isinstance(self.candidate, PerKey) or self.candidate.at_rest(now)

    def changes(self, living: Guard) -> dict[str, Any]:
        """Return the options by which the candidate differs from the living guard."""
        if not isinstance(self.candidate, Changeable):
            return {}
        mine, there = self.candidate.options(), living.options()
        return {name: mine[name] for name in self.candidate.changeable if mine[name] != there[name]}

    def begin_anew(self, now: float, why: str) -> None:
        if isinstance(self.candidate, Stateful):
            self.candidate.reset(now, why)

    def memory(self) -> float:
        return self.candidate.memory() if isinstance(self.candidate, Restorable) else 0.0

    def save(self) -> dict[str, Any]:
        kept = self.candidate.save() if isinstance(self.candidate, Restorable) else {}
        return {"candidate": kept, "seen": (self.would_refuse, self.would_open, self.moves)}

    def restore(self, saved: dict[str, Any]) -> None:
        if isinstance(self.candidate, Restorable):
            self.candidate.restore(saved["candidate"])
        self.would_refuse, self.would_open, self.moves = saved["seen"]

    def told(self) -> dict[str, Any]:
        return {
            "guard": self.of,
            "would_be": self.would_be,
            "would_open": self.would_open,
            "would_refuse": self.would_refuse,
            "last": self.moves[-1]["reason"] if self.moves else "",
        }

    # -- showing ---------------------------------------------

    @property
    def would_be(self) -> str:
        """The state that the candidate would have; "" if it has none."""
        return self.candidate.state if isinstance(self.candidate, Stateful) else ""

    def describe(self) -> str:
        return f"refuses nothing: a {self.of} would do this: {self.candidate.describe()}"

    def live(self, now: float) -> str:
        state = f"would be {self.would_be.replace('_', '-')}, " if self.would_be else ""
        return f"{state}{self.would_refuse} calls would have been refused"

    def snapshot(self, now: float) -> dict[str, Any]:
        return {
            "guard": self.kind,
            "of": self.of,
            "would_be": self.would_be or None,
            "would_open": self.would_open,
            "would_refuse": self.would_refuse,
            "moves": [dict(move) for move in self.moves],
            "candidate": self.candidate.snapshot(now),
            "options": {},
        }

    def measure(self, now: float) -> list[Sample]:
        found: list[Sample] = [(_WOULD_REFUSE, (self.of,), self.would_refuse)]
        if isinstance(self.candidate, Stateful):
            found.append((_WOULD_MOVE, (), self.would_open))
        return found
