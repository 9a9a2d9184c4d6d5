"""A timed flip ends when it said it would, also where the host was suspended meanwhile."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from resilient import FlagOffError, flag_handle, kill_switch
from resilient.flags.declarations import Flags
from resilient.flags.flip import Flip
from resilient.flags.local_copy import LocalCopy
from resilient.flags.state import State, boot
from resilient.flags.stores.memory import MemoryStore
from resilient.testing import ManualClock
from tests.kit.followers import Make, off
from tests.kit.policies import policy

linux = pytest.mark.skipif(
    flag_handle.BOOT_CLOCK is None, reason="only Linux has a clock that counts a suspend"
)


class Suspend:
    """Hours in which the host sleeps: the boot clock and the date go on, the monotonic one not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        wall, boottime = time.time, time.clock_gettime

        def clock(which: int) -> float:
            return boottime(which) + self.seconds * (which == flag_handle.BOOT_CLOCK)

        monkeypatch.setattr(time, "clock_gettime", clock)
        monkeypatch.setattr(time, "time", lambda: wall() + self.seconds)


@pytest.fixture
def suspend(monkeypatch: pytest.MonkeyPatch) -> Suspend:
    """A host that can be suspended."""
    return Suspend(monkeypatch)


def clocked() -> tuple[State, Any]:
    """Return a state by the clock that it has in a process, and a flag."""
    flags = Flags(environ={})
    state = State(flags)
    flags.on_declared = state.declared
    flag = flags.declare("recs")
    state.read(fresh=False)
    return state, flag


@linux
def test_it_ends_during_a_suspend(suspend: Suspend) -> None:
    """The first look after the host is awake again ends it."""
    state, flag = clocked()
    flip = Flip("flag/recs", "off", version=1, at=time.time(), until=time.time() + 1800)
    state.adopt([flip], time.time())
    assert not flag
    assert 1790 < (flag.left() or 0) <= 1800
    suspend.seconds = 1000.0
    assert state.expire() == []
    assert 790 < (flag.left() or 0) <= 800
    assert state.holding("flag/recs") is not None
    suspend.seconds = 1801.0
    assert state.holding("flag/recs") is None
    assert flag.left() == 0
    assert state.expire() == ["flag/recs"]
    assert flag


@linux
def test_a_follower_ends_it_at_its_first_turn(suspend: Suspend, hand: Make) -> None:
    """Also where the store is away."""
    store = MemoryStore()
    one = hand(lambda: store, "recs", directory=None, now=flag_handle.since_boot)
    store.flip(off("recs"), 600, None)
    one.turn()
    assert not one.says("recs")
    suspend.seconds = 601.0
    one.turn()
    assert one.says("recs")


def test_a_jump_of_the_date_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forth or back, by hours: the end is not told by the date."""
    state, flag = clocked()
    state.adopt([Flip("flag/recs", "off", version=1, until=time.time() + 600)], time.time())
    wall = time.time
    for jump in (7200, -7200):
        monkeypatch.setattr(time, "time", lambda jump=jump: wall() + jump)
        assert state.expire() == []
        assert not flag


@linux
def test_an_end_by_the_clock_of_an_older_version_is_told_anew(tmp_path: Path) -> None:
    """In a local copy it is on a clock that a suspend stops: the date is what both know."""
    copy = LocalCopy(tmp_path / "state")
    old = boot().removesuffix(" boottime")
    assert old != boot()
    flip = Flip("flag/recs", "off", version=1, until=time.time() + 600, boot=old, due=1.0)
    assert copy.save("life", [flip], time.time())
    state, flag = clocked()
    there = copy.load()
    assert there is not None
    state.adopt(there.flips, time.time())
    assert not flag
    assert 590 < (flag.left() or 0) <= 600
    assert state.flips["flag/recs"].boot == boot()


def test_without_such_a_clock_it_is_the_monotonic_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows."""
    monkeypatch.setattr(flag_handle, "BOOT_CLOCK", None)
    before = time.monotonic()
    assert before <= flag_handle.since_boot() <= time.monotonic()


def test_a_flip_ends_by_the_systems_clock(hand: Make) -> None:
    """Whoever is refused is told the seconds that are left, whatever the policy's clock shows."""
    store = MemoryStore()
    one = hand(lambda: store, "recs", directory=None)
    shop = policy(kill_switch(one.made["recs"]), clock=ManualClock())
    store.flip(off("recs"), 30, None)
    one.turn()
    with pytest.raises(FlagOffError) as caught:
        shop.call(int)
    assert caught.value.retry_after is not None
    assert 20 < caught.value.retry_after <= 30
