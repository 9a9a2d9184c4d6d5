"""What happened in all processes, in the order in which it did: the base of a timeline.

Each process keeps its news for a moment and gives them to the store in one go. The store keeps the
newest; what goes back and forth is told once, with how often.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, Final

from ..events import Event
from .stores.base import Process, Store

LONGEST: Final = 10_000  # entries that a store keeps
EVERY: Final = 1.0  # seconds that news are kept back at the most
_BACKLOG: Final = 1000  # of a process, while the store can't be reached
_SPAN: Final = 30.0  # seconds in which so many moves of one policy are told one by one
_SINGLY: Final = 4
_TOLD: Final = ("opened", "half_open", "closed", "would_open", "forced", "released", "updated",
                "flipped", "abandoned")  # fmt: skip

Entry = dict[str, Any]


def lost(process: Process) -> Entry:
    """Return who a process was that died without a goodbye."""
    return {"host": process.host, "pid": process.pid, "program": process.program}


class Journal:
    """The news of this process that the store has not heard yet."""

    def __init__(self, process: Process) -> None:
        self._who: Entry = {
            "process": process.id, "host": process.host, "pid": process.pid,
            "program": process.program,
        }  # fmt: skip
        self._lock = threading.Lock()
        self._news: deque[Entry] = deque(maxlen=_BACKLOG)
        self._moves: dict[tuple[str, str], deque[float]] = {}
        self._flapping: dict[tuple[str, str], tuple[float, Entry]] = {}  # since when, and what
        self._number: int = 0
        self._next: float = float("-inf")
        self.dropped: int = 0
        self._telling: int = 0  # the last number of those that the store is being told
        self._gone: int = 0  # of those, that went meanwhile

    def add(self, kind: str, **more: Any) -> None:
        """Take in something that happened to this process itself."""
        self._put({"kind": kind, **more})

    def heard(self, event: Event) -> None:
        """Take in an event: a listener, which keeps nobody waiting."""
        if event.kind not in _TOLD:
            return
        entry: Entry = {
            "kind": event.kind, "policy": event.policy, "flag": event.flag, "guard": event.guard,
            "cause": event.cause, "reason": event.reason[:500], "before": event.before[:500],
            "after": event.after[:500], "evidence": dict(event.evidence),
        }  # fmt: skip
        if event.guard == "circuit_breaker" and event.cause == "auto" and self._flaps(entry):
            return
        self._put(entry)

    def _flaps(self, entry: Entry) -> bool:
        """Tell whether a circuit moves too often to be told each time; count it then."""
        key, now = (entry["policy"], entry["guard"]), time.monotonic()
        with self._lock:
            moves = self._moves.setdefault(key, deque(maxlen=_SINGLY))
            flaps = len(moves) == _SINGLY and now - moves[0] < _SPAN
            moves.append(now)
            if flaps:
                begun, before = self._flapping.get(key, (now, {"times": 0}))
                told = {**entry, "kind": "flapped", "times": before["times"] + 1}
                self._flapping[key] = begun, told
        return flaps

    def _put(self, entry: Entry) -> None:
        with self._lock:
            self._number += 1
            if len(self._news) == _BACKLOG:  # the oldest goes: told by now, or lost
                told = self._news[0]["number"] <= self._telling
                self._gone += told
                self.dropped += not told
            self._news.append(
                {**self._who, "number": self._number, "at": time.time(), "times": 1, **entry}
            )

    def tell(self, store: Store, *, now: bool = False) -> None:
        """Give the store what it has not heard yet, once in a while.

        Raises:
            Exception: the store can't be reached; it is tried again.
        """
        moment = time.monotonic()
        if moment < self._next and not now:
            return
        self._next = moment + EVERY
        self._end_flapping(moment, all_of_it=now)
        with self._lock:
            news = list(self._news)
            self._gone, self._telling = 0, news[-1]["number"] if news else 0
        if not news:
            return
        try:
            record = store.record
        except AttributeError:  # of another package, made for an older version
            record = None
        try:
            if record is not None:
                record(news, LONGEST)
        except BaseException:
            with self._lock:
                self.dropped += self._gone
                self._telling = 0
            raise
        with self._lock:  # others may have come meanwhile, and the oldest gone
            last = news[-1]["number"]
            while self._news and self._news[0]["number"] <= last:
                self._news.popleft()

    def _end_flapping(self, now: float, *, all_of_it: bool) -> None:
        """Tell how often what flapped has moved, every so often."""
        with self._lock:
            ended = [
                key
                for key, (begun, _) in self._flapping.items()
                if all_of_it or now - begun >= _SPAN
            ]
            entries = [self._flapping.pop(key)[1] for key in ended]
            for key in [k for k, moves in self._moves.items() if now - moves[-1] > 2 * _SPAN]:
                del self._moves[key]
        for entry in entries:
            self._put(entry)
