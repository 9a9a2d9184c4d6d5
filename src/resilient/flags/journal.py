"""What happened in all processes, in the order in which it did: the base of a timeline.

Each process keeps its news for a moment and gives them to the store in one go. The store keeps the
newest; what goes back and forth is told once, with how often.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, Final

from ..event_folding import Folds, key_of
from ..events import Event
from .stores.base import Process, Store

LONGEST: Final = 10_000  # entries that a store keeps
EVERY: Final = 1.0  # seconds that news are kept back at the most
_BACKLOG: Final = 1000  # of a process, while the store can't be reached
_TOLD: Final = ("opened", "half_open", "closed", "would_open", "forced", "released", "updated",
                "flipped", "abandoned")  # fmt: skip

_MOVES: Final = ("opened", "half_open", "closed")

Entry = dict[str, Any]


class Journal:
    """The news of this process that the store has not heard yet."""

    def __init__(self, process: Process) -> None:
        self._who: Entry = {"process": process.id, **process.who()}
        self._lock = threading.Lock()
        self._news: deque[Entry] = deque(maxlen=_BACKLOG)
        self._folds: Folds[Entry] = Folds()
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
            "after": event.after[:500], "evidence": dict(event.evidence), "at": time.time(),
        }  # fmt: skip
        key, singly = key_of(event.policy, event.flag, event.guard, event.kind, event.cause)
        with self._lock:
            kept = self._folds.keeps(key, singly, entry, time.monotonic())
        if not kept:
            self._put(entry)

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
        self._end_floods(moment, all_of_it=now)
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

    def _end_floods(self, now: float, *, all_of_it: bool) -> None:
        """Tell how often what was kept back has happened, every so often."""
        with self._lock:
            ended = self._folds.ended(now, every_one=all_of_it)
        for entry, times, _ in ended:
            moved = entry["kind"] in _MOVES and entry["cause"] == "auto" and times > 1
            self._put({**entry, "kind": "flapped" if moved else entry["kind"], "times": times})
