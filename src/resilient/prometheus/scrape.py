"""One scrape: the rows of all policies of all processes; beyond a limit they are added up."""

from __future__ import annotations

import threading
from math import isnan, nan
from typing import Any, Final
from weakref import WeakSet

from ..metric_types import Metric
from ..pages.format import OTHER, Entry
from ..pages.merge import Sums
from ..pages.sharing import here
from ..process import at_fork
from ..telemetry.policy_samples import INFO, exported
from ..telemetry.rows import add, counters
from ..telemetry.schema import MEAN, Key, Row, RowSchema, layout

_FOLDED: Final = Metric("policies_in_other", "gauge", 'Policies added up in policy="_other".')
_EVER: Final = Metric("policies_folded_total", "counter", "Policies that were ever put there.")
_PROCESSES: Final = Metric("processes", "gauge", "Processes whose counts are in this scrape.")
_UNREAD: Final = Metric("pages_unread", "gauge", "Pages of processes that can't be read.")
# What is exported besides policies, and the label for its name.
_LABELS: Final = {"process": (), "flag": ("flag",), "order": ("policy",)}
OF_SCRAPES: Final = (_FOLDED, _EVER, _PROCESSES, _UNREAD)


class Series:
    """The samples under some labels, and their values.

    A change of a value replaces `values`. What is derived from an object is stored in one tuple
    with that object, since two threads may derive it at once.
    """

    __slots__ = ("chunks", "keys", "labels", "made", "traces")

    def __init__(self, labels: dict[str, str], keys: list[Key], values: Row) -> None:
        self.labels: dict[str, str] = labels
        self.keys: list[Key] = keys  # the same list object for all rows of one schema
        # The row, and the values derived from it.
        self.made: tuple[Row | None, Row] = None, tuple(values)
        self.chunks: tuple[Row, tuple[str, ...]] = (), ()  # the values, and their text
        self.traces: list[str] = []  # exemplars that processes tell of

    @property
    def values(self) -> Row:
        """The values, NaN where there is none."""
        return self.made[1]


class Scraper:
    """Reads everything that is exported; concurrent scrapes take turns."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock: Any = threading.RLock()
        self._last: list[Series] = []
        self._places = SeriesLimiter(limit)
        self._sums = Sums()
        _scrapers.add(self)

    def in_child(self) -> None:
        """Start again in a forked child: its counts did, and the lock may be held."""
        self._lock, self._last = threading.RLock(), []
        self._places, self._sums = SeriesLimiter(self._limit), Sums()

    def scrape(self) -> list[Series]:
        """Return everything that is exported now."""
        if self._lock._is_owned():  # a listener or signal handler in the middle of a scrape
            return self._last
        with self._lock:
            entries, alive, unread = here.look()
            whole = self._sums.of(entries)
            policies = [entry for entry in whole if entry.kind == "policy"]
            policies.sort(key=_since)  # in the same order in each process
            shown = [
                _shown(entry, {"policy": entry.name}) for entry in self._places.shown(policies)
            ]
            shown += [_info(entry) for entry in self._places.known]
            keys: list[Key] = [(metric, ()) for metric in OF_SCRAPES]
            places = self._places
            numbers = [float(places.folded), float(places.ever), float(alive), float(unread)]
            shown.append(Series({}, keys, numbers))
            for entry in whole:
                if entry.kind in _LABELS:
                    labels = dict.fromkeys(_LABELS[entry.kind], entry.name)
                    shown.append(_shown(entry, labels))
            self._last = shown
            return shown


def _since(entry: Entry) -> tuple[float, str]:
    since = float(entry.about.get("since", 0.0))
    return since, entry.name if since else ""


_INFOS: Final[list[Key]] = [(INFO, ())]


def _shown(entry: Entry, labels: dict[str, str]) -> Series:
    """Return the series of an entry, derived again only when its row has changed."""
    shown: Series | None = entry.shown
    row = entry.row
    if shown is None or shown.made[0] is not row:
        keys, values = exported(entry.layout)
        if shown is None:
            shown = entry.shown = Series(labels, keys, ())
        shown.made = row, tuple(values(row))
    shown.traces = entry.about.get("traces", []) if entry.kind == "policy" else []
    return shown


def _info(entry: Entry) -> Series:
    if entry.info is None:
        entry.info = _info_of(entry)
    info: Series = entry.info
    return info


def _info_of(entry: Entry) -> Series:
    about: dict[str, object] = entry.about or {}
    tier = about.get("tier")
    owner = str(about.get("owner") or "")
    labels = {"policy": entry.name, "owner": owner, "tier": "" if tier is None else str(tier)}
    return Series(labels, _INFOS, [1.0])


# -- the policies beyond the limit ---------------------------------------------------


class SeriesLimiter:
    """Which policies have series of their own, and the sum of all others."""

    def __init__(self, limit: int) -> None:
        self.ever: int = 0
        self.known: list[Entry] = []  # those in the last scrape
        self._limit = limit
        self._shown: set[str] = set()
        self._folded: dict[str, tuple[RowSchema, Row]] = {}  # as they were last read
        self._gone: tuple[RowSchema, Row] = layout(words=None), ()

    @property
    def folded(self) -> int:
        """The number of policies that are added up."""
        return len(self._folded)

    def shown(self, entries: list[Entry]) -> list[Entry]:
        """Return the policies to export; the last entry is the sum of the others.

        A policy never moves between its own series and ``_other`` while it exists, and the counts
        of a policy that is gone stay in the sum.
        """
        there = {entry.name for entry in entries}
        self._shown &= there
        for name in set(self._folded) - there:
            self._keep(self._folded.pop(name))
        own: list[Entry] = []
        for entry in entries:
            if self._is_shown(entry.name):
                own.append(entry)
            else:
                self._fold(entry)
        if self.ever:
            own.append(self._whole())
        self.known = own
        return own

    def _is_shown(self, name: str) -> bool:
        if name in self._shown:
            return True
        if name in self._folded or len(self._shown) >= self._limit or name == OTHER:
            return False
        self._shown.add(name)
        return True

    def _fold(self, entry: Entry) -> None:
        before = self._folded.get(entry.name)
        if before is None:
            self.ever += 1
        # Another policy of that name, which began at zero.
        elif _fell(before, (entry.layout, entry.row)):
            self._keep(before)
        self._folded[entry.name] = entry.layout, entry.row

    def _keep(self, gone: tuple[RowSchema, Row]) -> None:
        found, row = gone
        self._gone = add([self._gone, (found, counters(found, row))])

    def _whole(self) -> Entry:
        found, row = add([self._gone, *self._folded.values()])
        row = list(row)
        for place, way in enumerate(found.ways):
            if way == MEAN:
                row[place] = nan
        return Entry("policy", OTHER, {}, found, row)


def _fell(before: tuple[RowSchema, Row], after: tuple[RowSchema, Row]) -> bool:
    """Return True if a counter has decreased."""
    if after[0] is not before[0]:
        return False
    now, then = (counters(*each) for each in (after, before))
    return any(a < b for a, b in zip(now, then, strict=True) if not isnan(a))


_scrapers: Final[WeakSet[Scraper]] = WeakSet()


def _in_child() -> None:
    for scraper in list(_scrapers):
        scraper.in_child()


at_fork("scrapes", in_child=_in_child)
