"""Samples of the pages of this host, and what happened between two of them.

This asks the processes nothing: it reads what they wrote, even while they hang.
"""

from __future__ import annotations

import time
from math import isfinite
from pathlib import Path
from typing import Any, Final

from ..engine.counters import EDGES
from ..pages.directory import Directory, living
from ..pages.format import OTHER, Entry
from ..pages.merge import summed
from ..pages.reader import Reader
from ..telemetry.policy_samples import exported

SILENT: Final = 5.0  # seconds without a sign of life after which a process hangs
ENOUGH: Final = 10  # calls that a share or a quantile needs at least

_STATES: Final = ("open", "half_open", "metrics_only")

Numbers = dict[tuple[str, tuple[str, ...]], float]


def numbers(entry: Entry) -> Numbers:
    """Return the values of an entry, by the name of the metric and the values of its labels."""
    keys, values = exported(entry.layout)
    row = values(entry.row)
    return {
        (metric.name, labels): value
        for (metric, labels), value in zip(keys, row, strict=True)
        if isfinite(value)
    }


class Process:
    """A process of this host.

    Attributes:
        pid: its process id, in its own container.
        program: what it runs.
        silent: seconds since its last sign of life, if that is too long; else 0.
    """

    def __init__(self, page: Reader, now: float) -> None:
        quiet = now - page.beat
        pid = page.about.get("pid")
        self.pid: int = pid if isinstance(pid, int) else 0
        self.program: str = str(page.about.get("program", ""))
        self.silent: float = quiet if quiet > SILENT and not page.left else 0.0


class PageSample:
    """The content of the pages at one moment.

    Attributes:
        at: the time, on the monotonic clock.
        policies: the numbers of each policy, by name, added up over living and departed processes.
        flags: likewise, of the flags.
        orders: likewise, when the orders for each policy began.
        about: the description of a policy or flag, by kind and name; of living processes.
        since: when the first process entered the present state of its breaker, in seconds
            since 1970, by policy and state.
        processes: the living processes.
        unread: pages that can't be read, and why.
        unsynced: the most seconds since a process last read the store; 0 if none follows a store.
    """

    def __init__(self, pages: list[Reader], left: list[Entry], unread: dict[str, str]) -> None:
        self.at: float = time.monotonic()
        self.wall: float = time.time()
        self.processes: list[Process] = [Process(p, self.at) for p in pages if p.alive]
        self.unread: dict[str, str] = unread
        alive = [entry for page in pages if page.alive for entry in page.entries]
        # Processes whose guards let every call pass; older versions do not write it.
        self.inactive: int = sum(
            numbers(entry).get(("active", ())) == 0 for entry in alive if entry.kind == "process"
        )
        self.unsynced: float = max(
            (
                numbers(entry).get(("flag_sync_age_seconds", ()), 0.0)
                for entry in alive
                if entry.kind == "process"
            ),
            default=0.0,
        )
        self.about: dict[tuple[str, str], Any] = {(e.kind, e.name): e.about for e in alive}
        self.since: dict[tuple[str, str], float] = {}
        for entry in alive:
            if entry.kind == "policy":
                self._note(entry)
        whole = summed([*left, *(entry for page in pages for entry in living(page))])
        tables: dict[str, dict[str, Numbers]] = {"policy": {}, "flag": {}, "order": {}}
        for entry in whole:
            if entry.kind in tables and entry.name != OTHER:
                tables[entry.kind][entry.name] = numbers(entry)
        self.policies: dict[str, Numbers] = tables["policy"]
        self.flags: dict[str, Numbers] = tables["flag"]
        self.orders: dict[str, Numbers] = tables["order"]

    def _note(self, entry: Entry) -> None:
        said = numbers(entry)
        moved = said.get(("breaker_since_timestamp_seconds", ()))
        if moved is not None:
            for state in _STATES:
                if said.get(("breaker_workers", (state,))):
                    key = entry.name, state
                    self.since[key] = min(moved, self.since.get(key, moved))


class PagePoller:
    """Samples the pages repeatedly."""

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self._directory = Directory(path)

    def look(self) -> PageSample:
        """Take one sample.

        Raises:
            OSError: the directory can't be read.
            ValueError: another user owns it, or everybody may write there.
        """
        pages, left = self._directory.read()
        unread = dict(self._directory.faults)
        return PageSample([page for page in pages if page.about], left, unread)


class SampleDelta:
    """What happened to one policy between two samples."""

    def __init__(self, name: str, before: PageSample, after: PageSample) -> None:
        self._then: Numbers = before.policies.get(name, {})
        self._now: Numbers = after.policies.get(name, {})
        self.seconds: float = max(after.at - before.at, 1e-9)

    def more(self, metric: str, *labels: str) -> float:
        """Return by how much a counter grew."""
        key = metric, labels
        return max(0.0, self._now.get(key, 0.0) - self._then.get(key, 0.0))

    def now(self, metric: str, *labels: str) -> float | None:
        """Return the value of a gauge, or None."""
        return self._now.get((metric, labels))

    @property
    def served(self) -> dict[str, float]:
        """How many callers got what, without errors of their own, which are outside every ratio."""
        return {word: self.more("served_total", word) for word in ("full", "degraded", "error")}

    @property
    def callers_own(self) -> float:
        """How many callers got an error that was their own doing."""
        return self.more("served_total", "caller_error")

    def quantile(self, share: float) -> Quantile | None:
        """Return the duration below which this share of calls stayed; None if there were too few.

        Within a bucket this interpolates, as Prometheus does; it never exceeds the limit that cuts
        calls off.
        """
        edges = [*map(str, EDGES), "+Inf"]
        upto = [self.more("call_duration_seconds_bucket", edge) for edge in edges]
        if upto[-1] < ENOUGH:
            return None
        rank = share * upto[-1]
        place = next(n for n, count in enumerate(upto) if count >= rank)
        found = Quantile.of(EDGES[-1])  # longer calls have no bucket with an edge
        if place < len(EDGES):
            low = EDGES[place - 1] if place else 0.0
            before = upto[place - 1] if place else 0.0
            inside = upto[place] - before
            part = (rank - before) / inside if inside else 1.0
            found = Quantile(low + (EDGES[place] - low) * part)
        limit = self.now("timeout_seconds")
        if limit is not None and found >= limit > 0:
            return Quantile.of(limit)
        return found


class Quantile(float):
    """A duration that a share of calls stayed below, or that the other calls took at least."""

    at_least: bool = False

    @classmethod
    def of(cls, seconds: float) -> Quantile:
        """Return a duration that the other calls took at least."""
        found = cls(seconds)
        found.at_least = True
        return found
