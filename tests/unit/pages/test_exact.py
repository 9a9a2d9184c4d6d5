"""After each call, and in the middle of it, the page says what the policy says."""

from __future__ import annotations

import pytest

from tests.kit.hosts import Host, good
from tests.kit.workers import python_path
from tests.unit.pages.deeds import GUARDS


@pytest.mark.parametrize("kind", GUARDS)
def test_every_shape_of_a_call(host: Host, kind: str) -> None:
    """Sync and async, quick and slow, of every end: each count is in the page at once."""
    worker = host.start("from tests.unit.pages.deeds import all_of", PYTHONPATH=python_path())
    assert worker.do(f"all_of({kind!r})") == []


@pytest.mark.parametrize("view", ["None", "p.with_(bulkhead(1), fallback(value=1))"])
def test_a_call_in_the_middle_of_a_publication(host: Host, view: str) -> None:
    """What is counted after the numbers were taken, and before they are written, is not lost."""
    worker = host.start(
        f"""
import resilient.pages.publisher as records
p = Policy("shop", circuit_breaker())
for _ in range(3): p.call(int)
here.refresh()
view = {view}
real, done = records.row_of, []
def row_of(core):
    taken = real(core)
    if core.name == "shop" and not done:
        done.append(p.call(int))
    return taken
records.row_of = row_of
here._records.told.add("shop")
here.refresh()
"""
    )
    assert worker.do("len(done)") == 1
    assert good(host.seen_from_outside()["policy", "shop"]) == 4


def test_bodies_that_are_given_up(host: Host) -> None:
    """What is abandoned is counted when it is, and again when it ends."""
    worker = host.start("from tests.unit.pages.deeds import abandoned", PYTHONPATH=python_path())
    assert worker.do("abandoned()") == []
