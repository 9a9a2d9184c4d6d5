"""What others have in hand of a page stays as it was, whatever its owner moves meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient.metric_types import Metric
from resilient.pages import reader as module
from resilient.pages.format import Entry
from resilient.pages.reader import Reader
from resilient.pages.writer import Page
from resilient.prometheus.scrape import _shown
from resilient.telemetry.schema import layout

FOUND = layout(words=None, tail=((Metric("moved_total", "counter", "Moved."), ()),))


def entry(name: str, value: float) -> Entry:
    """Return the entry of a policy with one number."""
    return Entry("policy", name, {"since": 1.0}, FOUND, (value,))


def test_a_record_that_is_used_again_during_a_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that a scrape adds up never gets the number of another policy."""
    page = Page(tmp_path, {"pid": 1, "id": "a"}, time.monotonic())
    slot = page.add(entry("old", 5.0))
    reader = Reader(page.path)
    reader.read()
    (before,) = reader.entries
    real, moves = module.places, [1]

    def places(*args: Any) -> Iterator[Any]:
        if moves:  # after the reading has begun, and before it looks at the numbers
            moves.pop()
            page.remove(slot)
            page.add(entry("new", 7.0))
        return real(*args)

    monkeypatch.setattr(module, "places", places)
    reader.read()
    assert (before.name, before.row) == ("old", (5.0,))
    assert [(each.name, each.row) for each in reader.entries] == [("new", (7.0,))]
    page.forked()


def test_an_entry_stays_while_its_numbers_change(tmp_path: Path) -> None:
    """So that nothing is made anew of what did not change, and little is left for collection."""
    page = Page(tmp_path, {"pid": 1, "id": "a"}, time.monotonic())
    slots = [page.add(entry(name, 1.0)) for name in ("one", "two")]
    reader = Reader(page.path)
    reader.read()
    entries, rows = list(reader.entries), [each.row for each in reader.entries]
    slots[0].cells[0] = 2.0
    reader.read()
    assert all(a is b for a, b in zip(entries, reader.entries, strict=True))
    assert [each.row for each in entries] == [(2.0,), (1.0,)]
    assert entries[1].row is rows[1]
    page.forked()


def test_two_scrapers_of_one_entry() -> None:
    """What one has made of an older row is never taken for that of a newer one."""
    one = entry("shop", 1.0)
    first = _shown(one, {})
    older = first.made
    one.row = (2.0,)
    assert _shown(one, {}).values == (2.0,)
    first.made = older  # by a slower thread, which began before
    assert _shown(one, {}).values == (2.0,)
