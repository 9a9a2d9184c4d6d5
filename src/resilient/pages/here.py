"""The page of this process: opened at its first call, kept up to date, given up at its end.

The counts of a call are written by the call itself. What a guard shows besides (its state, ratios,
slots) is written at each event of its policy, and by a thread about once a second: late enough to
cost little, and soon enough for a screen.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ..drive.core import Core
from ..events import Event, bus
from ..flags.here import here as levers
from ..measuring import row_of
from ..registry import registry
from .form import Entry
from .own import entry_of, own_entries

if TYPE_CHECKING:
    from pathlib import Path

    from .directory import Directory
    from .records import Records

EVERY: Final = 1.0  # seconds between two looks of the thread, and more where one takes long
_SHARE: Final = 50  # the thread works for at most one part in so many of the time
_FOLDING: Final = 10.0  # seconds between two looks for dead pages
_PATIENCE: Final = 10.0  # seconds that a scrape waits for whoever is at work on the page
_BRIEF: Final = 0.003  # seconds that a scrape takes for bringing this process's page up to date


class Here:
    """What this process shares with those that look. There is one: `here`."""

    def __init__(self) -> None:
        self.fault: str = ""
        self._lock = threading.RLock()
        self._listening = False
        self._records: Records | None = None
        self._directory: Directory | None = None
        self._others: list[Entry] = []  # the rows of other processes, as they were last read
        self._alive: int = 1

    @property
    def path(self) -> Path | None:
        """The directory of the pages, None where this process counts for itself."""
        return levers.runtime_directory

    @property
    def sharing(self) -> bool:
        """Whether there is a page."""
        return self._records is not None

    @contextmanager
    def _at_work(self, patience: float = 1.0) -> Generator[bool]:
        """Hold the lock while the body runs, which learns whether it got it.

        Not where this very thread has it: in a finalizer, or a signal handler.
        """
        lock: Any = self._lock
        if lock._is_owned():
            yield False
            return
        try:  # an interrupt may come between any two steps
            yield lock.acquire(timeout=patience)
        finally:
            if lock._is_owned():
                lock.release()

    # -- beginning ---------------------------------------------

    def begin(self, core: Core | None = None) -> None:
        """Open the page, if there is to be one, and give a policy its record."""
        if self._records is None and (self.fault or self.path is None):
            return
        with self._at_work() as mine:
            if not mine:
                return
            try:
                if self._records is None:
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
        from .page import Page
        from .records import Records

        about = {
            "id": os.urandom(6).hex(),
            "pid": os.getpid(),
            "program": os.path.basename(sys.argv[0] if sys.argv else "")[:100],
            "started": time.time(),
        }
        directory = Directory(path)
        directory.prepare()
        page = Page(path, about, time.monotonic())
        directory.own = page.name
        self._directory, self._records = directory, Records(page, self._complain)
        thread = threading.Thread(
            target=self._run, args=(self._records.stop,), name="resilient-pages", daemon=True
        )
        thread.start()
        if not self._listening:  # a child has its parent's listeners
            self._listening = True
            bus.subscribe(self._on_event)

    def _complain(self, error: Exception) -> None:
        """Log what is wrong, once."""
        text = f"{self.path}: {error}"
        if text != self.fault:
            try:
                import logging

                logger = logging.getLogger("resilient")
                logger.warning("counts of processes are not shared: %s", text)
                self.fault = text
            except Exception:  # no more files to be opened, say: another time
                return

    # -- keeping up ---------------------------------------------

    def _run(self, stop: threading.Event) -> None:
        # It holds no page: what it holds, a forked child never gets rid of.
        wait, folded = 0.0, time.monotonic()
        while not stop.wait(wait):
            began = time.monotonic()
            due = began - folded >= _FOLDING
            folded = began if due else folded
            before = self._new()
            self.refresh(fold=due)
            more = 0 < self._new() < before  # there is room for them
            wait = 0.02 if more else max(EVERY, _SHARE * (time.monotonic() - began))

    def _new(self) -> int:
        return 0 if self._records is None else len(self._records.new())

    def refresh(self, *, fold: bool = False, within: float = float("inf")) -> None:
        """Bring the page up to date, or as far as a time allows."""
        with self._at_work() as mine:
            if not mine or self._records is None or self._directory is None:
                return
            try:
                if not self._records.page.there():
                    self._move(self._records)
                self._records.refresh(time.monotonic() + within)
                if fold:
                    self._directory.fold()
            except Exception as error:
                self._complain(error)

    def _move(self, records: Records) -> None:
        """Open a new page, where somebody has removed the one there was; nothing is lost."""
        past = records.give_up()
        records.page.give_up()
        self._records = None
        self._start()
        fresh: Records | None = self._records
        if fresh is not None:
            fresh.take_over(past)

    def _on_event(self, event: Event) -> None:
        """Show a policy's new state at once."""
        if not event.policy or self._records is None:
            return
        with self._at_work() as mine:
            if mine:
                try:
                    self._records.show(event.policy)
                except Exception as error:
                    self._complain(error)

    # -- reading ---------------------------------------------

    def look(self) -> tuple[list[Entry], int, int]:
        """Return the rows of every process, how many live, and how many pages can't be read.

        Without pages, these are the rows of this process.
        """
        self.begin()
        self.refresh(fold=True, within=_BRIEF)
        records, directory = self._records, self._directory
        if records is None or directory is None:
            policies = [entry_of(core, *row_of(core), 0.0) for core in registry.cores()]
            return [*policies, *own_entries()], 1, 0
        from .directory import living

        with self._at_work(_PATIENCE) as mine:
            if not mine:  # nobody may see less than before
                return self._others + records.entries(), self._alive, 1
            try:
                pages, entries = directory.read()
            except (OSError, ValueError) as error:
                self._complain(error)
                return self._others + records.entries(), self._alive, 1 + len(directory.faults)
            for page in pages:
                entries += living(page)
            self._others = entries
            self._alive = 1 + sum(page.alive for page in pages)
            return entries + records.entries(), self._alive, len(directory.faults)

    # -- ending ---------------------------------------------

    def stop(self) -> None:
        """Write what there is, and say goodbye.

        The page stays: calls that are still made are counted, and its lock goes with the process.
        """
        self.refresh()
        records = self._records
        if records is not None:
            records.stop.set()
            records.page.leave()

    def in_child(self) -> None:
        """Let go of the parent's page: the child's first call opens its own."""
        self._lock = threading.RLock()
        records, self._records = self._records, None
        directory, self._directory = self._directory, None
        self._others, self._alive = [], 1
        self.fault = ""
        if directory is not None:
            directory.forked()
        if records is not None:
            records.page.forked()


here: Final = Here()

atexit.register(here.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=here.in_child)
