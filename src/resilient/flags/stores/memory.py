"""The store of this process alone, in use where no store is set."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from threading import Event, Lock
from typing import Any, Final
from uuid import uuid4

from ..flip import Flip, flip_of, newer, next_version
from .base import ConflictError, Process, Reading

LONGEST_LOG: Final = 10_000


class MemoryStore:
    """Keeps everything in this process's memory."""

    writable = True

    def __init__(self) -> None:
        self._lock = Lock()
        self._changed = Event()
        self._incarnation = uuid4().hex
        self._flips: dict[str, Flip] = {}
        self._log: deque[Flip] = deque(maxlen=LONGEST_LOG)
        self._processes: dict[str, Process] = {}
        self._journal: list[dict[str, Any]] = []

    def read(self, incarnation: str, version: int) -> Reading:
        with self._lock:
            newest = self._newest()
            known = incarnation == self._incarnation and version == newest
            flips = None if known else [_copied(flip) for flip in self._flips.values()]
        return Reading(incarnation=self._incarnation, version=newest, now=time.time(), flips=flips)

    def flip(self, flip: Flip, lasts: float | None, expected: int | None) -> Flip:
        return self.flip_all([flip], lasts, [expected])[0]

    def flip_all(
        self, flips: list[Flip], lasts: float | None, expected: Sequence[int | None]
    ) -> list[Flip]:
        with self._lock:
            first = self._flips.get(flips[0].lever)
            if first is not None and flips[0].request and first.request == flips[0].request:
                return [_copied(self._flips[flip.lever]) for flip in flips]
            for flip, at in zip(flips, expected, strict=True):
                there = self._flips.get(flip.lever)
                if at is not None and at != (there.version if there is not None else 0):
                    raise ConflictError(there or Flip(flip.lever, "released"))
            made = [self._put(flip, lasts) for flip in flips]
        self._changed.set()
        return made

    def _put(self, flip: Flip, lasts: float | None) -> Flip:
        made, now = _copied(flip), time.time()
        made.version, made.at = next_version(self._newest(), now), now
        made.until = None if lasts is None else now + lasts
        self._flips[flip.lever] = made
        self._log.appendleft(made)
        return _copied(made)

    def restore(self, flips: list[Flip]) -> None:
        with self._lock:
            for flip in newer(self._flips, flips):
                self._flips[flip.lever] = _copied(flip)
                self._log.appendleft(_copied(flip))
        self._changed.set()

    def log(self, lever: str | None, most: int) -> list[Flip]:
        with self._lock:
            found = [flip for flip in self._log if lever in (None, flip.lever)][:most]
        return [_copied(flip) for flip in found]

    def record(self, entries: list[dict[str, Any]], most: int) -> None:
        with self._lock:
            self._journal += [dict(entry) for entry in entries]
            del self._journal[:-most]

    def journal(self, since: float, most: int) -> list[dict[str, Any]]:
        with self._lock:
            found = [dict(entry) for entry in self._journal if entry["at"] >= since]
        return sorted(found, key=lambda entry: float(entry["at"]))[-most:]

    def beat(self, process: Process, *, about: bool) -> None:
        process.seen = time.time()
        with self._lock:
            self._processes[process.id] = process

    def processes(self) -> tuple[list[Process], float]:
        with self._lock:
            return list(self._processes.values()), time.time()

    def leave(self, id: str) -> bool:
        with self._lock:
            return self._processes.pop(id, None) is not None

    def hint(self, seconds: float) -> bool:
        changed = self._changed.wait(seconds)
        self._changed.clear()
        return changed

    def close(self) -> None:
        return None

    def _newest(self) -> int:
        return max((flip.version for flip in self._flips.values()), default=0)


def _copied(flip: Flip) -> Flip:
    return flip_of(flip.as_data())
