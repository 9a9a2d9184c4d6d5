"""The records of this process's page: one for each policy, and for its other entries."""

from __future__ import annotations

import threading
import time
import weakref
from array import array
from collections.abc import Callable
from typing import Any, Final

from ..admin.registry import registry
from ..engine.policy_state import PolicyState
from ..guards.facets import Restorable
from ..telemetry.exemplars import is_traced
from ..telemetry.policy_samples import row_of
from ..telemetry.rows import add, counters, exact
from ..telemetry.schema import Row, RowSchema
from .format import MOST, OTHER, Entry, row_in
from .merge import summed
from .process_entries import changing, entry_of, own_entries
from .wakeup import Wakeup
from .writer import FullError, Page, Slot

_FADES: Final = 130.0  # seconds after the last call in which the numbers of a policy still change
_FADING: Final = 5.0  # seconds between two checks of such a policy
_TELLS_EVERY: Final = 2.0  # seconds in which a page tells once of a policy's keys and traces
_AT_ONCE: Final = 100  # policies that get their record in one refresh


class _Kept:
    """A policy's record in the page."""

    __slots__ = ("core", "next", "seen", "since", "slot", "tells_at")

    def __init__(self, core: PolicyState, slot: Slot, now: float) -> None:
        self.core: weakref.ref[PolicyState] = weakref.ref(core)
        self.slot: Slot = slot
        self.seen: tuple[Any, ...] = ()  # the counts at the last check
        self.since: float = now  # when they last changed
        self.tells_at: float = now  # when to tell of its keys and traces again
        self.next: float = now  # when to publish again even if they don't change


class Records:
    """Keeps the records of one page. Used by one thread at a time.

    An error in one record goes to `complain`; the other records are still updated.
    """

    def __init__(self, page: Page, complain: Callable[[Exception], None]) -> None:
        self.page: Page = page
        self.stop: threading.Event = threading.Event()  # of the thread that updates the page
        self.bell: Wakeup = Wakeup()  # wakes that thread
        self._complain = complain
        self._kept: dict[int, _Kept] = {}  # by the id of the policy's state
        self._past: dict[tuple[str, RowSchema], Slot] = {}  # of policies that are gone
        self._single: list[Slot] = []  # records that the page had no room to add up
        self._own: dict[tuple[str, str], Slot] = {}  # by kind and name
        self.told: set[str] = set()  # policies with a recent event

    # -- policies ---------------------------------------------

    def attach(self, core: PolicyState) -> None:
        """Add a record for a policy, and let its counts write to the cells."""
        there = self._kept.get(id(core))
        if there is not None and there.core() is not core:  # a policy that is gone had this id
            self._retire(id(core), there)
        elif there is not None:
            return
        if core.shared_row is not None:
            return
        found, row = row_of(core)
        with self.page.step():
            slot = self.page.add(entry_of(core, found, row, time.time()))
            self._kept[id(core)] = _Kept(core, slot, time.monotonic())
            core.locked(core.show_in, slot.cells, found)

    def _publish(self, kept: _Kept, core: PolicyState) -> None:
        found, row = row_of(core)
        told = (core.keys is not None or is_traced(core)) and self._tells(kept, core)
        if told or found is not kept.slot.entry.layout:
            with self.page.step():
                self._widen(kept, core, found, row)
            return
        kept.slot.cells[found.heads :] = array("d", row[found.heads :])
        if not core.holds_lock():
            core.locked(core.write_shared_row)

    def _tells(self, kept: _Kept, core: PolicyState) -> bool:
        """Look at the worst keys and newest traces; return whether others are told in the page."""
        now, about = time.monotonic(), kept.slot.entry.about
        if now < kept.tells_at:
            return False
        kept.tells_at = now + _TELLS_EVERY
        fresh = {**about, **changing(core)}
        if fresh == about:
            return False
        kept.slot.entry.about = fresh
        return True

    def _widen(self, kept: _Kept, core: PolicyState, found: RowSchema, row: list[float]) -> None:
        """Give a policy a record of another schema."""

        def widen() -> None:  # nothing may be counted in the old cells meanwhile
            row[: found.heads] = core.row(found)
            fresh = Entry("policy", core.name, kept.slot.entry.about, found, row)
            kept.slot = self.page.add(fresh, instead_of=(kept.slot,))
            core.shared_row, core.layout = kept.slot.cells, found

        core.locked(widen)

    def _leave(self, core: PolicyState | None) -> None:
        """Detach a dropped policy from its cells; it goes on counting."""
        if core is not None:
            core.locked(core.show_in, None, None)

    def _retire(self, key: int, kept: _Kept) -> None:
        """Keep the counts of a policy that is gone, together with others of its name."""
        entry = kept.slot.entry
        name = entry.name
        if (name, entry.layout) not in self._past and len(self._past) >= MOST:
            name = OTHER
        past = self._past.get((name, entry.layout))
        row = counters(entry.layout, row_in(kept.slot.cells))
        kept.slot.cells[:] = array("d", row)
        kept.slot.entry = Entry("policy", entry.name, entry.about, entry.layout, row)
        kept.slot.last = None  # it is of an older reading
        fresh = kept.slot
        try:
            with self.page.step():
                if past is not None or name != entry.name:
                    fresh = self._added(name, entry, row, kept.slot, past)
                # No signal is handled between these two: no policy may own the record any more.
                self._past[name, entry.layout], kept.slot = fresh, fresh
                del self._kept[key]
        except FullError:
            self._single.append(kept.slot)
            del self._kept[key]

    def _added(self, name: str, entry: Entry, row: Row, slot: Slot, past: Slot | None) -> Slot:
        """Replace two records by one."""
        if past is not None:
            _, row = add([(entry.layout, row), (entry.layout, row_in(past.cells))])
        row = exact(entry.layout, array("d", row).tobytes())
        whole = Entry("policy", name, entry.about, entry.layout, row)
        return self.page.add(whole, instead_of=(slot,) if past is None else (slot, past))

    # -- all of them ---------------------------------------------

    def refresh(self, until: float) -> None:
        """Update all records, or as many as possible until a time."""
        now = time.monotonic()
        self.page.beat(now)
        self._try(self._publish_own)
        new = self.new()
        for core in new[:_AT_ONCE]:
            if time.monotonic() >= until:
                break
            self._try(self.attach, core)
        if len(new) > _AT_ONCE and len(self.new()) <= len(new) - _AT_ONCE:
            return  # the next refresh comes at once; the last one looks at all records
        told, self.told = self.told, set()
        for key, kept in list(self._kept.items()):
            known = kept.core()
            if known is None or known.dropped:
                self._try(self._leave, known)
                self._try(self._retire, key, kept)
            elif known.name in told or (time.monotonic() < until and _changes(kept, known, now)):
                self._try(self._publish, kept, known)

    def _try(self, step: Callable[..., None], *args: Any) -> None:
        try:
            step(*args)
        except Exception as error:
            self._complain(error)

    def new(self) -> list[PolicyState]:
        """Return the policies that have no record yet."""
        return [core for core in registry.cores() if core.shared_row is None]

    def _publish_own(self) -> None:
        """Update the entries besides policies, and remove those that no longer exist."""
        seen = set[tuple[str, str]]()
        for entry in own_entries():
            key = entry.kind, entry.name
            seen.add(key)
            slot = self._own.get(key)
            if slot is None:
                self._own[key] = self.page.add(entry)
            elif slot.entry.layout is not entry.layout:
                self._own[key] = self.page.add(entry, instead_of=(slot,))
            else:
                slot.cells[:] = array("d", entry.row)
        for key in set(self._own) - seen:
            self.page.remove(self._own.pop(key))

    def entries(self, others: list[Entry]) -> list[Entry]:
        """Return this process's entries as they are now, also for policies without a record.

        A policy has no record before its first call, or if the page has no room. An uncalled one is
        left out if other processes have its name.
        """
        kept = [each.slot for each in list(self._kept.values())]
        slots = {id(s): s for s in (*self._past.values(), *kept, *self._own.values())}
        new = self.new()
        there = {each.name for each in others if each.kind == "policy"} if new else set[str]()
        alone = [
            entry_of(core, *row_of(core), time.time())
            for core in new
            if core.name not in there or not core.uncalled
        ]
        return [_now(slot) for slot in (*slots.values(), *self._single)] + alone

    # -- another page ---------------------------------------------

    def give_up(self, *, spoilt: bool) -> list[Entry]:
        """Detach all policies from their cells; return the counts of those that are gone.

        If the page was spoilt, the cells are not read: the values of the last check are used.
        """
        self.stop.set()
        slots = {id(slot): slot for slot in (*self._past.values(), *self._single)}
        for kept in self._kept.values():
            core = kept.core()
            if core is None:
                slots[id(kept.slot)] = kept.slot
                continue
            core.locked(core.show_in, None, None)
        said = _remembered if spoilt else _now
        return summed([said(slot) for slot in slots.values()])

    def take_over(self, past: list[Entry]) -> None:
        """Keep the counts that another page kept of policies that are gone."""
        for entry in past:
            row = counters(entry.layout, entry.row)
            whole = Entry("policy", entry.name, entry.about, entry.layout, row)
            self._past[entry.name, entry.layout] = self.page.add(whole)


def _now(slot: Slot) -> Entry:
    raw, entry = slot.cells.tobytes(), slot.entry
    if slot.last is None or raw != slot.raw:
        row = exact(entry.layout, raw)
        if slot.last is None:
            slot.last = Entry(entry.kind, entry.name, entry.about, entry.layout, row)
        slot.last.row, slot.raw = row, raw
    return slot.last


def _remembered(slot: Slot) -> Entry:
    """Return the entry of the last check, or the first one."""
    return slot.last or slot.entry


def _changes(kept: _Kept, core: PolicyState, now: float) -> bool:
    """Return True if a policy must be published: it has changed, or its numbers still fade."""
    core.expire()
    counts = sum(core.counts), sum(core.buckets), core.abandoned
    seen = core.quick, core.in_flight, core.forced, *counts
    if seen != kept.seen:
        kept.seen, kept.since, kept.next = seen, now, now + _FADING
        return True
    memory = max((g.memory() for g in core.guards if isinstance(g, Restorable)), default=0.0)
    busy = core.in_flight or core.abandoned
    if now < kept.next or not (busy or now - kept.since < _FADES + 2 * memory):
        return False
    kept.next = now + (1.0 if busy else _FADING)
    return True
