"""What is done with rows of numbers: read them from a page, add up those of several processes.

The schema of each says what its numbers are. With the compiled core, its loops do it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from math import floor, isnan, nan
from typing import Final

from ..state_types import compiled
from .schema import MEAN, RISING, SECONDS, WAYS, WORDS, Keys, Row, RowSchema, layout

_GRAIN: Final = 2.0**20  # parts of a second, to which sums are rounded
_ON_GRAIN: Final = 2.0**33  # every float from here on is a multiple of such a part
_NO_COUNT: Final = 2.0**53  # from here on a float can't count by one


def add(rows: list[tuple[RowSchema, Row]]) -> tuple[RowSchema, Row]:
    """Return the sum of at least one row."""
    if len(rows) == 1:
        return rows[0]
    whole = rows[0][0]
    if any(each is not whole for each, _ in rows):
        whole = _union([each for each, _ in rows])
        rows = [(whole, _moved(row, each, whole)) for each, row in rows]
    return whole, _sums([row for _, row in rows], whole.ways)


def _added(rows: list[Row], ways: bytes) -> list[float]:
    """Return the sum of rows, each column by its way; NaN stands for nothing."""
    row: list[float] = list(map(sum, zip(*rows, strict=True)))
    if isnan(sum(row)):
        row = [sum(_said(list(column))) for column in zip(*rows, strict=True)]
    for place, way in enumerate(ways):
        column = [each[place] for each in rows] if way else []
        if way == MEAN:
            row[place] = _mean(column, [each[place + 1] for each in rows])
        elif way:
            row[place] = (max if way == WAYS["max"] else min)(_said(column))
    return row


_Sum = Callable[[list[Row], bytes], list[float]]
_sums: Final[_Sum] = _added if compiled is None else compiled.sum_rows


def _said(column: list[float]) -> list[float]:
    """Return the numbers that are not NaN; one NaN if there are none."""
    if not isnan(sum(column)):
        return column
    return [value for value in column if not isnan(value)] or [nan]


def _mean(column: list[float], weights: list[float]) -> float:
    pairs = zip(column, weights, strict=True)
    known = [(value, weight) for value, weight in pairs if not isnan(value) and weight > 0]
    weight = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / weight if weight else nan


def _union(layouts: list[RowSchema]) -> RowSchema:
    words = tuple(word for word in WORDS if any(word in each.words for each in layouts))
    refusing = tuple(dict.fromkeys(kind for each in layouts for kind in each.refusing))
    tail = tuple(dict.fromkeys(key for each in layouts for key in _pairs(each.tail)))
    flat = tuple(key for pair in tail for key in pair)
    counted = any(each.counted for each in layouts)
    return layout(words=words if counted else None, refusing=refusing, tail=flat)


def _pairs(tail: Keys) -> list[Keys]:
    """Return the samples, each mean together with its weight."""
    found: list[Keys] = []
    for place, key in enumerate(tail):
        if key[0].kind != "part":
            weighted = key[0].over == "mean"
            found.append(tail[place : place + 1 + weighted])
    return found


def _moved(row: Row, old: RowSchema, new: RowSchema) -> list[float]:
    """Return a row in a wider schema."""
    counted = old.counted
    moved = [*row[:counted], *([0.0] * (new.counted - counted))]
    refused = {kind: row[at] for kind, at in old.refused_at.items()}
    said = dict(zip(old.tail, row[old.heads :], strict=True))
    moved += [refused.get(kind, 0.0) for kind in new.refused_at]
    return moved + [said.get(key, nan) for key in new.tail]


def exact(found: RowSchema, cells: bytes) -> Row:
    """Return the row that is in cells, with sums of durations rounded down.

    Else the order of addition would matter: to Prometheus, a sum that falls by its last digit is a
    counter that was reset. Counts that are negative or huge, which only a corrupt page can
    have, become zero.
    """
    return _cleaned(cells, found.cleaning)


def _exact(cells: bytes, cleaning: bytes) -> Row:
    row = array("d", cells).tolist()
    for place, way in enumerate(cleaning):
        value = row[place]
        if way and not 0 <= value < _NO_COUNT and (way != RISING or value < 0):
            row[place] = 0.0
        elif way == SECONDS and value < _ON_GRAIN:
            row[place] = floor(value * _GRAIN) / _GRAIN
    return tuple(row)


_Cleaned = Callable[[bytes, bytes], Row]
_cleaned: Final[_Cleaned] = _exact if compiled is None else compiled.exact_row


def counters(found: RowSchema, row: Row) -> list[float]:
    """Return the numbers that outlive a row's process: its counters, but nothing in progress."""
    kept = list(row)
    for place in found.passing:
        kept[place] = nan if isnan(kept[place]) else 0.0
    for place in found.momentary:
        kept[place] = nan
    return kept
