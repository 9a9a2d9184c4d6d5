"""Adding up the entries of several pages."""

from __future__ import annotations

from typing import Any

from ..rows import add
from .form import MOST, OTHER, Entry


def summed(entries: list[Entry]) -> list[Entry]:
    """Return one entry for each name, in the order in which they come."""
    by_name: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        by_name.setdefault((entry.kind, entry.name), []).append(entry)
    return [_sum(same) for same in by_name.values()]


class Sums:
    """Adds up entries again and again, and only what has changed."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[tuple[Entry, ...], Entry]] = {}

    def of(self, entries: list[Entry]) -> list[Entry]:
        """Return one entry for each name, the same one as the last time where it can be."""
        by_name: dict[tuple[str, str], list[Entry]] = {}
        for entry in entries:
            by_name.setdefault((entry.kind, entry.name), []).append(entry)
        fresh: dict[tuple[str, str], tuple[tuple[Entry, ...], Entry]] = {}
        for name, same in by_name.items():
            parts, last = tuple(same), self._last.get(name)
            known = last is not None and last[0] == parts
            fresh[name] = last if known and last is not None else (parts, _sum(same))
        self._last = fresh
        return [whole for _, whole in fresh.values()]


def _sum(same: list[Entry]) -> Entry:
    last = same[-1]
    if len(same) == 1:
        return last
    layout, row = add([(each.layout, each.row) for each in same])
    about: dict[str, Any] = dict(last.about)
    since = [each.about["since"] for each in same if "since" in each.about]
    if since:
        about["since"] = min(since)
    return Entry(last.kind, last.name, about, layout, row)


def bounded(entries: list[Entry]) -> list[Entry]:
    """Return the entries, those beyond the most that are kept by name added up in one."""
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
