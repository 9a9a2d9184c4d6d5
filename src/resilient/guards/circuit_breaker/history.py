"""Why a circuit moved: the reasons of failures, and the evidence of its last moves."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ...events import Event

MOST: Final = 8  # kinds of reasons, and moves, that are kept
OTHERS: Final = "others"
_EMPTY: Final[dict[str, int]] = {}
_SPAN: Final = 60.0  # seconds of reasons that a window of calls keeps


class Reasons:
    """Counts of failure reasons in the last one to two windows."""

    __slots__ = ("_before", "_now", "_turns", "span")

    def __init__(self, span: float = _SPAN) -> None:
        self.span: float = span
        self._turns: float = float("-inf")
        self._now: dict[str, int] = _EMPTY  # until the first reason: most policies have none
        self._before: dict[str, int] = _EMPTY

    def note(self, reason: str, now: float) -> None:
        """Count a reason; when there are too many kinds, count it under OTHERS."""
        if now >= self._turns:
            recent = now < self._turns + self.span
            self._before = self._now if recent else _EMPTY
            self._now = {}
            self._turns = self._turns + self.span if recent else now + self.span
        if reason not in self._now and len(self._now) >= MOST:
            reason = OTHERS
        self._now[reason] = self._now.get(reason, 0) + 1

    def top(self, now: float) -> dict[str, int]:
        """Return the most frequent reasons first, and the number of all others."""
        if now >= self._turns + self.span:
            return {}
        whole = dict(self._before) if now < self._turns else {}
        for reason, number in self._now.items():
            whole[reason] = whole.get(reason, 0) + number
        others = whole.pop(OTHERS, 0)
        found = sorted(whole.items(), key=lambda item: -item[1])
        others += sum(number for _, number in found[MOST:])
        return {**dict(found[:MOST]), **({OTHERS: others} if others else {})}

    def clear(self) -> None:
        """Forget everything."""
        self._turns = float("-inf")
        self._now = self._before = _EMPTY

    def save(self) -> tuple[Any, ...]:
        """Return the state, for restore()."""
        return self._turns, dict(self._now), dict(self._before)

    def restore(self, saved: tuple[Any, ...]) -> None:
        """Set the state that save() returned."""
        self._turns, now, before = saved
        self._now, self._before = dict(now), dict(before)


class History:
    """The last moves of a circuit, with the evidence of each."""

    __slots__ = ("_moves", "moved")

    def __init__(self) -> None:
        self.moved: float | None = None  # when it last moved, on the policy's clock
        self._moves: tuple[tuple[Event, dict[str, Any]], ...] = ()  # a deque takes 700 bytes

    def add(self, event: Event) -> None:
        """Add a move."""
        if event.before != event.after:
            self.moved = event.at
        move = event, _copied(event.evidence)  # listeners get the event's own
        self._moves = (*self._moves, move)[-MOST:]

    def save(self) -> tuple[Any, ...]:
        """Return the moves, for restore()."""
        return self.moved, self._moves

    def restore(self, saved: tuple[Any, ...]) -> None:
        """Set the moves that save() returned."""
        self.moved, self._moves = saved

    def told(self, now: float) -> list[dict[str, Any]]:
        """Return the moves as plain data, the newest first."""
        return [
            {
                "to": event.after,
                "kind": event.kind,
                "cause": event.cause,
                "reason": event.reason,
                "seconds_ago": max(0.0, now - event.at),
                **_copied(evidence),
            }
            for event, evidence in reversed(self._moves)
        ]


def _copied(evidence: Mapping[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(dict(evidence))
