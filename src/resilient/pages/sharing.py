"""The page of this process: opened at its first call, updated, and closed at its end.

A call writes its counts itself. What else a guard exports (its state, ratios, slots) is written at
each event of its policy, and by a thread about once a second: seldom enough to cost little, and
often enough for a screen.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakSet

from ..admin.registry import registry
from ..engine.policy_state import PolicyState
from ..events import Event, bus
from ..flags.fork_exclusion import undisturbed
from ..flags.runtime import here as levers
from ..locks import held
from ..process import at_exit, at_fork
from ..telemetry import schema
from ..telemetry.policy_samples import row_of
from ..validation import clean
from .format import Entry
from .other_pages import PATIENCE, OtherPages
from .process_entries import entry_of, own_entries
from .wakeup import Wakeup

if TYPE_CHECKING:
    from pathlib import Path

    from .publisher import Records

EVERY: Final = 1.0  # seconds between two refreshes by the thread; more if one takes long
_SHARE: Final = 50  # the thread may use one part in so many of the time
_LONGEST: Final = 5.0
_NEWS: Final = 0.1  # seconds between two refreshes because of events
_FAULTS: Final = 20  # kinds of faults that are logged
_FOLDING: Final = 10.0  # seconds between two checks for dead pages
_SETTLED: Final = 0.5  # seconds before the first: a process is busy at its start
_PATIENCE_AT_END: Final = 1.0  # seconds that the end of a process waits for its thread
_BRIEF: Final = 0.003  # seconds that a scrape spends on updating this process's page


class Warmer(Protocol):
    """What prepares for a scrape."""

    def warm(self) -> None:
        """Prepare for it."""


class PageSharing:
    """What this process shares with others. The only instance is `here`."""

    def __init__(self) -> None:
        self.fault: str = ""
        # What the thread prepares while processes come and go, these included.
        self.warmers: WeakSet[Warmer] = WeakSet()
        self._told: set[str] = set()
        self._lock = threading.RLock()  # guards the records
        self._listening = False
        self._records: Records | None = None
        self._thread: threading.Thread | None = None
        self._others = OtherPages(lambda: self.path, self._name, self._complain)

    @property
    def path(self) -> Path | None:
        """The directory of the pages; None if this process shares nothing."""
        return levers.runtime_directory

    @property
    def sharing(self) -> bool:
        """Whether there is a page."""
        return self._records is not None

    def _name(self) -> str:
        records = self._records
        return "" if records is None else records.page.name

    def _at_work(self, patience: float = 1.0) -> AbstractContextManager[bool]:
        """Try to hold the lock of the records while the body runs; yield whether that succeeded."""
        return held(self._lock, patience)

    # -- beginning ---------------------------------------------

    def begin(self, core: PolicyState | None = None) -> None:
        """Open the page, if there should be one, and give a policy its record."""
        if self._records is None and (self.fault or self.path is None):
            return
        with self._at_work() as mine:
            if not mine:
                return
            try:
                if self._records is None:
                    with undisturbed.briefly():  # or a child would hold the lock of a page
                        self._start()
                if core is not None and self._records is not None:
                    self._records.attach(core)
            except Exception as error:  # counting goes on, in this process alone
                self._complain(error)

    def _start(self) -> None:
        path = self.path
        if path is None:
            return
        from .directory import Directory
        from .publisher import Records
        from .running import process_identity
        from .writer import Page

        about = {
            "born": process_identity(os.getpid()),
            "id": os.urandom(6).hex(),
            "pid": os.getpid(),
            "program": os.path.basename(sys.argv[0] if sys.argv else "")[:100],
            "started": time.time(),
        }
        directory = Directory(path)
        directory.prepare()
        page = Page(path, about, time.monotonic())
        self._others.dead = directory.crowded()
        records = Records(page, self._complain)
        self._thread = thread = threading.Thread(
            target=self._run, args=(records.stop, records.bell), name="resilient-pages", daemon=True
        )
        try:
            thread.start()
        except BaseException:  # else the page would stay without updates, and look like a process
            page.give_up()
            raise
        self._others.begin(directory)
        self._records = records
        if not self._listening:  # a child inherits its parent's listeners
            self._listening = True
            bus.subscribe(self._on_event)

    def _complain(self, error: Exception) -> None:
        """Log an error, once."""
        text = clean(f"{self.path}: {error}")
        if text not in self._told and len(self._told) < _FAULTS:
            try:
                import logging

                logger = logging.getLogger("resilient")
                logger.warning("counts of processes are not shared: %s", text)
                self.fault = text
                self._told.add(text)
            except Exception:  # too many open files, for example: the next time
                return

    # -- keeping up ---------------------------------------------

    def _run(self, stop: threading.Event, bell: Wakeup) -> None:
        # Holds no reference to a page: a forked child could never release it.
        due = quiet = time.monotonic()
        folding = due + _SETTLED
        rung = False
        while not stop.is_set():
            now = time.monotonic()
            if now >= due or (rung and now >= quiet):
                rung = False
                spent, before = time.thread_time(), self._new()
                self.refresh()
                if now >= folding or self._others.dead:
                    folding, self._others.dead = now + _FOLDING, False
                    self._others.fold()
                more = 0 < self._new() < before  # there is room for them
                if not more:
                    self._warm(now)
                pause = _SHARE * (time.thread_time() - spent)
                quiet = now + max(_NEWS, pause)
                due = now + (0.02 if more else min(max(EVERY, pause), _LONGEST))
            self._beat()
            until = min(due, quiet) if rung else due
            rung = bell.wait(min(until - time.monotonic(), EVERY)) or rung
            if rung:
                time.sleep(max(0.0, min(quiet, due) - time.monotonic()))

    def _warm(self, now: float) -> None:
        """Do what a scrape does, if pages came or went, so that the next one has less to do."""
        if not self.warmers or not self._others.come_or_gone(now):
            return
        for each in list(self.warmers):
            with contextlib.suppress(Exception):  # the scrape itself raises it to who asks
                each.warm()

    def _new(self) -> int:
        return 0 if self._records is None else len(self._records.new())

    def _beat(self) -> None:
        records = self._records
        if records is None:
            return
        with contextlib.suppress(OSError):  # another thread has just replaced the page
            if records.page.there():
                records.page.beat(time.monotonic())
            else:
                self.refresh()

    def refresh(self, *, within: float = float("inf")) -> None:
        """Update the page, or as much of it as the time allows."""
        with self._at_work() as mine:
            if not mine or self._records is None:
                return
            try:
                if not self._records.page.there():
                    self._move(self._records)
                self._records.refresh(time.monotonic() + within)
            except Exception as error:
                self._complain(error)

    def _move(self, records: Records) -> None:
        """Open a new page after the old one was removed or spoilt, without losing counts."""
        self._records = None
        spoilt = records.page.is_spoilt()
        if spoilt:
            with contextlib.suppress(OSError):
                records.page.mend()
        past = records.give_up(spoilt=spoilt)
        with contextlib.suppress(OSError):
            records.page.give_up()
        with undisturbed.briefly():
            self._start()
        fresh: Records | None = self._records
        if fresh is not None:
            fresh.take_over(past)

    def _on_event(self, event: Event) -> None:
        """Have the thread publish a policy's new state soon; the call does not wait for that."""
        records = self._records
        if event.policy and records is not None:
            records.told.add(event.policy)
            records.bell.ring()

    # -- reading ---------------------------------------------

    def look(self) -> tuple[list[Entry], int, int]:
        """Return the entries of all processes, how many live, and how many pages are unreadable.

        Without pages, the entries are those of this process.
        """
        self.begin()
        self.refresh(within=_BRIEF)
        others, unread = self._others.rows()
        with self._at_work(PATIENCE):
            records = self._records
            # Somebody may have cut the page short while those of others were read.
            if records is not None and records.page.there():
                return others + records.entries(others), self._others.alive, unread
        policies = [entry_of(core, *row_of(core), 0.0) for core in registry.cores()]
        return [*others, *policies, *own_entries()], self._others.alive, unread

    # -- ending ---------------------------------------------

    def stop(self) -> None:
        """Flush the page and mark it closed.

        The page stays: later calls are still counted, and the lock goes with the process.
        """
        self.refresh()
        records = self._records
        if records is not None:
            records.stop.set()
            records.bell.ring()
            records.page.leave()
        self._others.leave_room(self._thread, _PATIENCE_AT_END)

    def in_child(self) -> None:
        """Detach from the parent's page: the child's first call opens its own."""
        self._lock = threading.RLock()
        schema.forked()
        records, self._records = self._records, None
        self._thread = None
        self.fault, self._told = "", set()
        self._others.forked()
        if records is not None:
            records.page.forked()


here: Final = PageSharing()

at_fork("pages", in_child=here.in_child)
at_exit("pages", here.stop)
