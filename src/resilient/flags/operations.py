"""Flip a lever and learn which processes applied it: for the command line and `flags.off`."""

from __future__ import annotations

import contextlib
import getpass
import importlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from uuid import uuid4

from .. import validation
from ..errors import StoreError
from .flip import (
    FLAG,
    OFF,
    Flip,
    checked_lasts,
    checked_lever,
    checked_reason,
    checked_value,
    kind_of,
    name_of,
    same_order,
)
from .journal import LONGEST
from .presence import Presence
from .reasons import HOLDS
from .stores.base import Process, Store, UnknownOutcomeError

with contextlib.suppress(ImportError):  # getpass needs it; no fork may happen during its import
    importlib.import_module("pwd")

SILENT_AFTER: Final = 5.0  # seconds without a heartbeat
YOUNG: Final = 2.0  # seconds until a new store has heard of every process
_LOOK: Final = 0.03  # seconds between two polls for acknowledgements


class Done:
    """The result of an order.

    Attributes:
        flip: the flip as it was recorded, or the one that already holds.
        now: the time by the store's clock, just before the order.
        changed: whether the order recorded a flip.
    """

    def __init__(self, flip: Flip, now: float, *, changed: bool) -> None:
        self.flip: Flip = flip
        self.now: float = now
        self.changed: bool = changed


def current(store: Store) -> tuple[dict[str, Flip], float]:
    """Return the newest flip of every lever, and the time by the store's clock."""
    reading = store.read("", -1)
    return {flip.lever: flip for flip in reading.flips or []}, reading.now


def holds(flip: Flip | None, now: float) -> bool:
    """Return whether a flip still holds, by the store's clock."""
    return (
        flip is not None and flip.value != "released" and (flip.until is None or flip.until > now)
    )


def order(
    store: Store, lever: str, value: Any, *, by: str, reason: str, lasts: object = None
) -> Done:
    """Set a lever, by compare-and-set; an order that already holds changes nothing.

    Raises:
        ConflictError: somebody else has set it meanwhile; nothing was changed.
        UnknownOutcomeError: the store did not answer, twice.
        StoreError: the store could not do it.
        ValueError: a value is not allowed.
    """
    return order_all(store, {lever: value}, by=by, reason=reason, lasts=lasts)[0]


def order_all(
    store: Store, wanted: Mapping[str, Any], *, by: str, reason: str, lasts: object = None
) -> list[Done]:
    """Set several levers, all or none of them; raise what `order` raises."""
    for lever, value in wanted.items():
        checked_value(checked_lever(lever), value)
    seconds = checked_lasts("for", lasts)
    known, now = current(store)
    done: dict[str, Done] = {}
    news: dict[str, tuple[Flip, int]] = {}  # with the version that the lever must have
    for lever, value in wanted.items():
        flip = Flip(lever, value, by=who(by), reason=checked_reason(reason), request=uuid4().hex)
        there = known.get(lever)
        held = there if holds(there, now) else None
        if seconds is None and same_order(flip, held):
            done[lever] = Done(held or flip, now, changed=False)
        else:
            news[lever] = flip, 0 if there is None else there.version
    made = _recorded(store, list(news.values()), seconds) if news else []
    done |= {flip.lever: Done(flip, now, changed=True) for flip in made}
    return [done[lever] for lever in wanted]


def _recorded(store: Store, news: list[tuple[Flip, int]], seconds: float | None) -> list[Flip]:
    try:
        return _record(store, news, seconds)
    except UnknownOutcomeError:  # the same request again: the store records it only once
        time.sleep(0.2)
    try:
        return _record(store, news, seconds)
    except UnknownOutcomeError:
        raise
    except StoreError as error:  # also a conflict: the first try may have been recorded
        raise UnknownOutcomeError(str(error)) from error


def _record(store: Store, news: list[tuple[Flip, int]], seconds: float | None) -> list[Flip]:
    if len(news) == 1:
        flip, expected = news[0]
        return [store.flip(flip, seconds, expected)]
    together = getattr(store, "flip_all", None)  # a third party's store may not have it
    if together is None:
        raise StoreError("it can't record several changes as one: give a command for each")
    made: list[Flip] = together([flip for flip, _ in news], seconds, [at for _, at in news])
    return made


def who(by: str) -> str:
    """Return who gives an order: the name given, or the operating system's user."""
    if by:
        return validation.text("by", by, most=100)
    for variable in ("RESILIENT_BY", "SUDO_USER"):
        said = os.environ.get(variable, "")
        if said:
            return validation.text(variable, said, most=100)
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


class Acknowledgement:
    """Which processes have applied a flip, of those that it concerns.

    Attributes:
        applied: processes that have applied it.
        pinned: those of them whose environment, or provider of OpenFeature, holds a flag off.
        behind: living processes that have not applied it.
        silent: processes without a recent heartbeat that are not proved dead.
        faults: the reasons that processes give why they can't obey, by process.
    """

    def __init__(self, flip: Flip, processes: Iterable[Process], now: float) -> None:
        self.applied: list[Process] = []
        self.behind: list[Process] = []
        self.silent: list[Process] = []
        self.pinned: list[Process] = []
        self.faults: list[tuple[Process, str]] = []
        self.now: float = now
        for process in processes:
            if not concerns(process, flip.lever):
                continue
            fault = process.about.get("faults", {}).get(flip.lever)
            if fault:
                self.faults.append((process, str(fault)))
            if process.applied >= flip.version:
                if not fault:
                    self.applied.append(process)
                if _pinned(process, flip):
                    self.pinned.append(process)
            elif now - process.seen > SILENT_AFTER:
                self.silent.append(process)
            else:
                self.behind.append(process)

    @property
    def known(self) -> int:
        """How many processes it concerns."""
        refusing = {process.id for process, _ in self.faults}
        known = {process.id for process in (*self.applied, *self.behind, *self.silent)}
        return len(known | refusing)

    @property
    def complete(self) -> bool:
        """Whether every process has applied it."""
        return not (self.behind or self.silent or self.faults)


def concerns(process: Process, lever: str) -> bool:
    """Return whether a process declares the flag or policy of a lever."""
    table = "flags" if kind_of(lever) == FLAG else "policies"
    return name_of(lever) in process.about.get(table, {})


def _pinned(process: Process, flip: Flip) -> bool:
    if flip.kind != FLAG or flip.value == OFF:
        return False
    flags: dict[str, dict[str, Any]] = process.about.get("flags", {})
    return flags.get(flip.name, {}).get("source") in HOLDS


def is_young(store: Store) -> bool:
    """Return whether a store is so new that it may not know all processes yet."""
    reading = store.read("", -1)
    return store.writable and reading.now - reading.born < YOUNG


def living(store: Store, presence: Presence) -> tuple[list[Process], float]:
    """Return the processes that follow, without those of this host that are proved dead."""
    processes, now = store.processes()
    alive: list[Process] = []
    for process in processes:
        if presence.is_dead(process.id):
            with contextlib.suppress(StoreError):  # reading a store must not require write access
                if store.leave(process.id) and hasattr(store, "record"):
                    store.record(
                        [{"at": now, "kind": "process_lost", "lost": process.who()}], LONGEST
                    )
                presence.buried(process.id)
        else:
            alive.append(process)
    return alive, now


def acknowledged(
    store: Store,
    flip: Flip,
    presence: Presence,
    seconds: float,
    *,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Acknowledgement:
    """Wait until every process that a flip concerns has applied it, or the time is up."""
    until = clock() + seconds
    while True:
        young = is_young(store)
        seen = Acknowledgement(flip, *living(store, presence))
        if not (seen.behind or young) or clock() >= until:
            return seen
        sleep(_LOOK)
