"""Heartbeats of a process to the store, and removal of its host's dead processes from the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..validation import clean
from .journal import Journal
from .presence import Presence
from .stores.base import Process, Store

BEAT: Final = 1.0  # seconds between two reports without news, plus or minus a fifth
BURY: Final = 5.0  # seconds between two searches for dead processes of this host


class Heartbeat:
    """What a process last reported to the store, and when it reports again."""

    def __init__(
        self,
        process: Process,
        presence: Presence,
        journal: Journal,
        now: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self.error: str = ""  # why the store refuses the report; "" if it does not
        self._process = process
        self._presence = presence
        self._journal = journal
        self._now = now
        self._draw = draw
        self._told: dict[str, Any] | None = None
        self._next = self._bury_at = float("-inf")

    def beat(self, store: Store, about: dict[str, Any]) -> Exception | None:
        """Report to the store what has changed; where nothing has, report from time to time anyway.

        Returns:
            The error, unless the previous report failed too.
        """
        told, now = self._told, self._now()
        said = {"applied": self._process.applied, "about": about}
        if told == said and now < self._next:
            return None
        self._process.about = about
        try:
            store.beat(self._process, about=told is None or told["about"] != about)
            self._told = said
            self._next = now + BEAT * (0.8 + 0.4 * self._draw())
            if now >= self._bury_at:
                self._bury_at = now + BURY
                self._bury(store)
            self._journal.tell(store)
        except Exception as error:
            known, self.error, self._told = self.error, clean(error) or repr(error), None
            return None if known else error
        self.error = ""
        return None

    def _bury(self, store: Store) -> None:
        """Remove the dead processes of this host from the store."""
        dead = self._presence.dead()
        known = {p.id: p for p in store.processes()[0]} if dead else {}
        for each in dead:
            if store.leave(each) and each in known:
                self._journal.add("process_lost", lost=known[each].who())
            self._presence.buried(each)
