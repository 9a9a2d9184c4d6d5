"""A shadow: another guard beside a living one, which sees what happens and refuses nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from ..events import Event
from ..metric_types import Metric, Sample
from ..outcomes import REFUSED, Judge
from .base import Guard, Waiter
from .candidate import Candidate
from .facets import Admission, Changeable, InFlight, Peered, Stateful
from .per_key import PerKey

MOVES: Final = 20  # the last ones that are kept
_UNSEEN: Final = 0  # the ticket of a call that the candidate would have refused

_WOULD_REFUSE: Final = Metric(
    "shadow_would_refuse_total", "counter",
    "Calls that a shadow would have refused, by the guard that it is a candidate for.", "guard",
)  # fmt: skip
_WOULD_MOVE: Final = Metric(
    "shadow_would_open_total", "counter", "Times that a shadow's circuit would have opened.",
    present="with a shadow that has a circuit",
)  # fmt: skip


class Shadow(InFlight, PerKey, Peered, Candidate):
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
        self._refuses: bool = False
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
        if item.kind == "opened":
            self.would_open += 1
            self.emit(
                Event("would_open", guard=self.kind, at=item.at, reason=item.reason,
                      evidence=item.evidence)
            )  # fmt: skip

    # -- the life of an attempt ---------------------------------------------

    def admit(self, now: float) -> int:
        ticket = self.candidate.admit(now)
        self._refuses = ticket < 0
        return _UNSEEN if ticket < 0 else ticket + 1

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> None:
        if ticket == _UNSEEN:
            self.would_refuse += outcome != REFUSED  # else another guard did
        else:
            self.candidate.settle(ticket - 1, now, outcome, duration, reason, held)

    def release(self, ticket: int, now: float) -> None:
        if ticket != _UNSEEN:
            self.candidate.release(ticket - 1, now)

    def pause(self, ticket: int, now: float) -> None:
        if ticket != _UNSEEN and isinstance(self.candidate, InFlight):
            self.candidate.pause(ticket - 1, now)

    def go_on(self, ticket: int, now: float) -> None:
        if ticket != _UNSEEN and isinstance(self.candidate, InFlight):
            self.candidate.go_on(ticket - 1, now)

    # -- the policy and the process ---------------------------------------------

    def meet(self, guards: tuple[Guard, ...]) -> None:
        if isinstance(self.candidate, Peered):
            self.candidate.meet(guards)

    def peers_changed(self) -> None:
        if isinstance(self.candidate, Peered):
            self.candidate.peers_changed()

    def after_fork(self, now: float, own: int) -> None:
        self.candidate.after_fork(now, own)
        self.would_refuse = self.would_open = 0

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
