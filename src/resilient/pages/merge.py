"""Add up the entries of several pages."""

from __future__ import annotations

from array import array
from typing import Any

from ..telemetry.rows import add
from ..telemetry.schema import Row
from .format import MOST, OTHER, Entry


def summed(entries: list[Entry]) -> list[Entry]:
    """Return one entry for each name, in the order of appearance."""
    by_name: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        by_name.setdefault((entry.kind, entry.name), []).append(entry)
    return [_sum(same) for same in by_name.values()]


class Sums:
    """Adds up entries repeatedly, and only those that have changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Whole] = {}

    def of(self, entries: list[Entry]) -> list[Entry]:
        """Return one entry for each name, the same object as the last time."""
        by_name: dict[tuple[str, str], list[Entry]] = {}
        for entry in entries:
            by_name.setdefault((entry.kind, entry.name), []).append(entry)
        known = self._known
        self._known = {name: known.get(name) or _Whole() for name in by_name}
        return [self._known[name].of(same) for name, same in by_name.items()]


class _Whole:
    """The sum of the entries of one name."""

    __slots__ = ("_entry", "_parts", "_rows")

    def __init__(self) -> None:
        self._entry: Entry | None = None
        self._parts: list[Entry] = []  # the summands
        self._rows: tuple[Row, ...] = ()  # their rows at that time

    def of(self, parts: list[Entry]) -> Entry:
        """Return the current sum; a single entry is its own sum."""
        if len(parts) == 1:
            return parts[0]
        last, rows, same = self._entry, tuple([each.row for each in parts]), parts == self._parts
        if last is not None and same:
            if rows == self._rows:
                return last
            layout, row = add([(each.layout, each.row) for each in parts])
            if layout is last.layout:
                last.row, self._rows = tuple(row), rows
                return last
        fresh = _sum(parts)
        if last is not None and last.layout is fresh.layout and last.about == fresh.about:
            if _differ(last.row, fresh.row):  # a fold changes the parts, and not the sum
                last.row = fresh.row
            fresh = last
        self._entry, self._parts, self._rows = fresh, parts, rows
        return fresh


def _differ(one: Row, other: Row) -> bool:
    """Return True if two rows differ; NaN equals NaN here."""
    return array("d", one).tobytes() != array("d", other).tobytes()


def _sum(same: list[Entry]) -> Entry:
    last = same[-1]
    if len(same) == 1:
        return last
    layout, row = add([(each.layout, each.row) for each in same])
    about: dict[str, Any] = dict(last.about)
    since = [each.about["since"] for each in same if "since" in each.about]
    if since:
        about["since"] = min(since)
    keys = [line for each in same for line in each.about.get("keys", ())]
    if keys:
        about["keys"] = list(dict.fromkeys(keys))
    traces = [text for each in same for text in each.about.get("traces", ())]
    if traces:
        about["traces"] = traces
    return Entry(last.kind, last.name, about, layout, row)


def bounded(entries: list[Entry]) -> list[Entry]:
    """Return the entries; policies beyond the limit of names are added up in one."""
    policies = [entry for entry in entries if entry.kind == "policy" and entry.name != OTHER]
    if len(policies) < MOST:
        return entries
    kept = set(map(id, sorted(policies, key=_since)[: MOST - 1]))
    rest = [each for each in entries if each.kind == "policy" and id(each) not in kept]
    layout, row = add([(entry.layout, entry.row) for entry in rest])
    others = [each for each in entries if each.kind != "policy" or id(each) in kept]
    return [*others, Entry("policy", OTHER, {}, layout, row)]


def _since(entry: Entry) -> tuple[float, str]:
    return float(entry.about.get("since", 0.0)), entry.name
