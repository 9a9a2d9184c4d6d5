"""The journal: what happened in all processes, in order. The timeline reads it.

Each process collects its entries for a moment and writes them to the store in one batch. The store
keeps the newest. A state that goes back and forth makes one entry, with a count.
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
EVERY: Final = 1.0  # seconds that entries wait for their batch at most
_BACKLOG: Final = 1000  # entries that a process keeps while the store is unreachable
_TOLD: Final = ("opened", "half_open", "closed", "would_open", "forced", "released", "updated",
                "flipped", "abandoned")  # fmt: skip

_MOVES: Final = ("opened", "half_open", "closed")

Entry = dict[str, Any]


class Journal:
    """The entries of this process that the store does not have yet."""

    def __init__(self, process: Process) -> None:
        self._who: Entry = {"process": process.id, **process.who()}
        self._lock = threading.Lock()
        self._news: deque[Entry] = deque(maxlen=_BACKLOG)
        self._folds: Folds[Entry] = Folds()
        self._number: int = 0
        self._next: float = float("-inf")
        self.dropped: int = 0
        self._telling: int = 0  # the last number of the batch in progress, 0 if there is none
        self._gone: int = 0  # entries of that batch that left the queue meanwhile

    def add(self, kind: str, **more: Any) -> None:
        """Add an entry about this process itself."""
        self._put({"kind": kind, **more})

    def heard(self, event: Event) -> None:
        """Add an entry for an event. A listener, which never waits."""
        if event.kind not in _TOLD:
            return
        entry: Entry = {
            "kind": event.kind, "policy": event.policy, "flag": event.flag, "guard": event.guard,
            "key": event.key,
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
            if len(self._news) == _BACKLOG:  # the oldest leaves: in the batch in progress, or lost
                told = self._news[0]["number"] <= self._telling
                self._gone += told
                self.dropped += not told
            self._news.append(
                {**self._who, "number": self._number, "at": time.time(), "times": 1, **entry}
            )

    def tell(self, store: Store, *, now: bool = False) -> None:
        """Write the waiting entries to the store, at most once in `EVERY` seconds unless `now`.

        Raises:
            Exception: the store is unreachable; a later call writes the same entries.
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
        except AttributeError:  # a third party's store, made for an older version
            record = None
        try:
            if record is not None:
                record(news, LONGEST)
        except BaseException:
            with self._lock:
                self.dropped += self._gone
                self._telling = 0
            raise
        with self._lock:  # other entries may have come meanwhile, and the oldest may have left
            last = news[-1]["number"]
            while self._news and self._news[0]["number"] <= last:
                self._news.popleft()

    def _end_floods(self, now: float, *, all_of_it: bool) -> None:
        """Add, from time to time, one entry with a count for entries that were folded."""
        with self._lock:
            ended = self._folds.ended(now, every_one=all_of_it)
        for entry, times, _ in ended:
            moved = entry["kind"] in _MOVES and entry["cause"] == "auto" and times > 1
            self._put({**entry, "kind": "flapped" if moved else entry["kind"], "times": times})
