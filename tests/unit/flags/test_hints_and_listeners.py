"""What the follower calls of others: hints of a store that raise, and listeners that hang."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from typing import Any

import pytest

from resilient.events import bus
from resilient.flags.stores.memory import MemoryStore
from tests.kit.followers import Make
from tests.kit.waiting import WAIT, until
from tests.unit.flags.kit import counted, flip


def test_a_hint_that_raises_neither_stops_nor_spins(
    hand: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The follower looks about once a second all the same, and fills no log."""
    reads: list[float] = []

    class Bad(MemoryStore):
        def read(self, incarnation: str, version: int) -> Any:
            reads.append(time.monotonic())
            return super().read(incarnation, version)

        def hint(self, seconds: float) -> bool:
            raise OSError("no hint")

    store = Bad()
    one = hand(lambda: store, "recs", directory=None)
    one.follower.start()
    until(lambda: one.follower.beat_error == "no hint")
    flip(store, "recs")
    until(lambda: not one.says("recs"))
    one.follower.stop()
    assert all(later - earlier > 0.7 for earlier, later in itertools.pairwise(reads))
    assert "a turn failed" not in caplog.text


@pytest.mark.parametrize("how", ["listener", "log handler"])
def test_what_hangs_on_an_event_holds_up_no_kill(hand: Make, how: str) -> None:
    """A listener or log handler that never returns: the next flip is obeyed in time."""
    go, hangs = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        hangs.set()
        go.wait(WAIT)

    handler = logging.Handler()
    handler.emit = hang  # type: ignore[method-assign]
    unsubscribe = bus.subscribe(hang if how == "listener" else lambda _: None)
    if how == "log handler":
        logging.getLogger("resilient").addHandler(handler)
    store = MemoryStore()
    one = hand(lambda: store, "one", "two", directory=None)
    one.follower.start()
    try:
        flip(store, "one")
        assert hangs.wait(WAIT)
        made = flip(store, "two")
        until(lambda: not one.says("two") and counted(store, made) == (1, 1))
    finally:
        go.set()
        logging.getLogger("resilient").removeHandler(handler)
        unsubscribe()
        one.follower.stop()
