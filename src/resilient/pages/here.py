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
import weakref
from array import array
from typing import TYPE_CHECKING, Any, Final

from ..drive.core import BUSY, Core
from ..events import Event, bus
from ..flags.here import here as levers
from ..measuring import row_of
from ..registry import registry
from ..rows import Layout, Row, counters, layout
from .form import Entry, row_in
from .own import process_samples

if TYPE_CHECKING:
    from pathlib import Path

    from .directory import Directory
    from .page import Page, Slot

EVERY: Final = 1.0  # seconds between two looks of the thread, and more where one takes long
_SHARE: Final = 50  # the thread works for at most one part in so many of the time
_FOLDING: Final = 10.0  # seconds between two looks for dead pages
_FADES: Final = 130.0  # seconds after the last call in which a policy still changes by itself
_AT_ONCE: Final = 100  # policies that get their record in one go
_BRIEF: Final = 0.01  # seconds that a scrape takes for bringing this process's page up to date


class _Kept:
    """A policy's record in the page."""

    __slots__ = ("core", "seen", "since", "slot")

    def __init__(self, core: Core, slot: Slot, now: float) -> None:
        self.core: weakref.ref[Core] = weakref.ref(core)
        self.slot: Slot = slot
        self.seen: tuple[Any, ...] = ()  # the counts at the last look
        self.since: float = now  # when they last changed


class Here:
    """What this process shares with those that look. There is one: `here`."""

    def __init__(self) -> None:
        self.fault: str = ""
        self._lock = threading.Lock()
        self._owner: int | None = None  # the thread that has it
        self._page: Page | None = None
        self._directory: Directory | None = None
        self._kept: dict[int, _Kept] = {}
        self._past: dict[tuple[str, Layout], Slot] = {}  # of policies that are gone
        self._own: Slot | None = None
        self._stop = threading.Event()

    @property
    def path(self) -> Path | None:
        """The directory of the pages, None where this process counts for itself."""
        return levers.runtime_directory

    @property
    def sharing(self) -> bool:
        """Whether there is a page."""
        return self._page is not None

    # -- beginning ---------------------------------------------

    def begin(self, core: Core | None = None) -> None:
        """Open the page, if there is to be one, and give a policy its record."""
        if self._page is None and (self.fault or self.path is None):
            return
        if not self._enter():
            return
        try:
            if self._page is None:
                self._start()
            if core is not None and self._page is not None:
                self._attach(core)
        except Exception as error:  # counting goes on, in this process alone
            self._give_up(error)
        finally:
            self._exit()

    def _enter(self) -> bool:
        """Take the lock, unless this very thread has it: a finalizer, or a signal handler."""
        me = threading.get_ident()
        if self._owner == me or not self._lock.acquire(timeout=1.0):
            return False
        self._owner = me
        return True

    def _exit(self) -> None:
        self._owner = None
        self._lock.release()

    def _start(self) -> None:
        path = self.path
        if path is None:
            return
        from .directory import Directory
        from .page import Page

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
        self._page, self._directory, self._stop = page, directory, threading.Event()
        thread = threading.Thread(
            target=self._run, args=(self._stop,), name="resilient-pages", daemon=True
        )
        thread.start()
        bus.subscribe(self._on_event)

    def _give_up(self, error: Exception) -> None:
        self.fault = f"{self.path}: {error}"
        import logging

        logging.getLogger("resilient").warning(
            "counts are not shared with other processes: %s", self.fault
        )

    # -- records ---------------------------------------------

    def _attach(self, core: Core) -> None:
        if id(core) in self._kept or core.cells is not None or self._page is None:
            return
        found, row = row_of(core)
        slot = self._page.add(_entry(core, found, row))
        self._kept[id(core)] = _Kept(core, slot, time.monotonic())
        self._give_cells(core, found, slot)

    def _give_cells(self, core: Core, found: Layout, slot: Slot) -> None:
        with core.lock:
            gate = core.gate
            core.gate = gate | BUSY
            try:
                core.cells, core.layout = slot.cells, found
                core.mirror()
            finally:
                core.gate = gate
        core.flush_after(gate)

    def _publish(self, kept: _Kept, core: Core) -> None:
        """Bring a policy's record up to date."""
        found, row = row_of(core)
        if found is not kept.slot.entry.layout and self._page is not None:
            with core.lock:  # nothing may be counted in the old cells meanwhile
                row[: found.heads] = core.row(found)
                kept.slot = self._page.replace(kept.slot, _entry(core, found, row))
                core.cells, core.layout = kept.slot.cells, found
            return
        kept.slot.cells[found.heads :] = array("d", row[found.heads :])
        with core.lock:
            if not core.gate & BUSY:
                core.mirror()

    def _retire(self, key: int, kept: _Kept) -> None:
        """Keep what a policy that is gone has counted."""
        del self._kept[key]
        entry = kept.slot.entry
        row = counters(entry.layout, row_in(kept.slot.cells))
        past = self._past.get((entry.name, entry.layout))
        if past is None:
            self._past[entry.name, entry.layout] = kept.slot
            kept.slot.cells[:] = array("d", row)
        elif self._page is not None:
            self._page.retire(kept.slot, past, row)

    def _publish_own(self) -> None:
        entry = _own_entry()
        if self._page is None:
            return
        if self._own is None:
            self._own = self._page.add(entry)
        elif self._own.entry.layout is not entry.layout:
            self._own = self._page.replace(self._own, entry)
        else:
            self._own.cells[:] = array("d", entry.row)

    # -- keeping up ---------------------------------------------

    def _run(self, stop: threading.Event) -> None:
        wait, folded = 0.0, time.monotonic()
        while not stop.wait(wait):
            began = time.monotonic()
            due = began - folded >= _FOLDING
            folded = began if due else folded
            self.refresh(fold=due)
            more = self._some_are_new() and stop is self._stop
            wait = 0.02 if more else max(EVERY, _SHARE * (time.monotonic() - began))

    def _some_are_new(self) -> bool:
        return self._page is not None and any(
            core.cells is None and id(core) not in self._kept for core in registry.cores()
        )

    def refresh(self, *, fold: bool = False, within: float = float("inf")) -> None:
        """Bring the page up to date, or as far as a time allows."""
        if self._page is None or not self._enter():
            return
        try:
            self._refresh(time.monotonic() + within)
            if fold and self._directory is not None:
                self._directory.fold()
        except Exception as error:
            if not self.fault:
                self._give_up(error)
        finally:
            self._exit()

    def _refresh(self, until: float) -> None:
        now = time.monotonic()
        if self._page is None:
            return
        self._page.beat(now)
        self._publish_own()
        new = [core for core in registry.cores() if core.cells is None]
        for each in new[:_AT_ONCE]:
            self._attach(each)
        for key, kept in list(self._kept.items()):
            core = kept.core()
            if core is None:
                self._retire(key, kept)
                continue
            seen = _stamp(core)
            if seen != kept.seen:
                kept.seen, kept.since = seen, now
            if now - kept.since < _FADES:
                self._publish(kept, core)
                if time.monotonic() > until:
                    return

    def _on_event(self, event: Event) -> None:
        """Show a policy's new state at once."""
        if event.policy and self._page is not None and self._enter():
            try:
                for kept in list(self._kept.values()):
                    found = kept.core()
                    if found is not None and found.name == event.policy:
                        self._publish(kept, found)
            except Exception as error:
                self._give_up(error)
            finally:
                self._exit()

    # -- reading ---------------------------------------------

    def look(self) -> tuple[list[Entry], int, int]:
        """Return the rows of every process, how many live, and how many pages can't be read.

        Without pages, these are the rows of this process.
        """
        self.begin()
        self.refresh(fold=True, within=_BRIEF)
        directory = self._directory
        if directory is None or not self._enter():
            return [*self._rows(), _own_entry()], 1, 0
        try:
            processes, entries = directory.read()
            for process in processes:
                entries += process.entries
            alive = 1 + sum(process.alive for process in processes)
            return entries + self._mine(), alive, len(directory.faults)
        except (OSError, ValueError) as error:
            self._give_up(error)
            return self._mine(), 1, 0
        finally:
            self._exit()

    def _rows(self) -> list[Entry]:
        return [_entry(core, *row_of(core)) for core in registry.cores()]

    def _mine(self) -> list[Entry]:
        slots = [*self._past.values(), *(kept.slot for kept in self._kept.values())]
        if self._own is not None:
            slots.append(self._own)
        found = [slot.entry for slot in slots]
        return [
            Entry(entry.kind, entry.name, entry.about, entry.layout, row_in(slot.cells))
            for entry, slot in zip(found, slots, strict=True)
        ]

    # -- ending ---------------------------------------------

    def stop(self) -> None:
        """Write what there is, and give the page up: somebody will fold it."""
        self.refresh()
        self._stop.set()
        if self._page is None or not self._enter():
            return
        try:
            page, self._page = self._page, None
            for kept in self._kept.values():
                core = kept.core()
                if core is not None:
                    core.cells = core.layout = None
            self._forget()
            page.leave()
        finally:
            self._exit()

    def in_child(self) -> None:
        """Let go of the parent's page: the child's first call opens its own."""
        page, self._page = self._page, None
        self._lock = threading.Lock()
        self._owner = None
        self._forget()
        self._stop = threading.Event()
        self.fault = ""
        if page is not None:
            page.forked()

    def _forget(self) -> None:
        self._kept, self._past = {}, {}
        self._own = self._directory = None


def _stamp(core: Core) -> tuple[Any, ...]:
    """Return what tells whether a policy has done anything."""
    return core.quick, core.in_flight, core.forced, sum(core.counts), sum(core.buckets)


def _entry(core: Core, found: Layout, row: Row) -> Entry:
    about = {"owner": core.owner, "tier": core.tier, "impact": core.impact}
    return Entry("policy", core.name, about, found, row)


def _own_entry() -> Entry:
    samples = process_samples()
    found = layout(words=None, tail=tuple((metric, labels) for metric, labels, _ in samples))
    return Entry("process", "", {}, found, [float(value) for _, _, value in samples])


here: Final = Here()

atexit.register(here.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=here.in_child)
