"""What a process takes in of the store, and what it says that it has applied."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilient.flags.flip import Flip
from resilient.flags.stores.memory import MemoryStore
from tests.kit.followers import Make
from tests.unit.flags.kit import counted, flip, states


def test_a_flip_of_its_own_hides_no_other(hand: Make) -> None:
    """A process that flips one flag still sees another's flip from just before its own."""
    store = MemoryStore()
    one = hand(lambda: store, "own", "other", directory=None)
    flip(store, "more")
    one.turn()
    theirs, mine = flip(store, "other"), flip(store, "own")
    one.state.adopt([mine], time.time())
    assert (one.says("own"), one.says("other")) == (False, True)
    assert counted(store, theirs) == counted(store, mine) == (0, 1)
    one.turn()
    assert (one.says("own"), one.says("other")) == (False, False)
    assert counted(store, theirs) == counted(store, mine) == (1, 1)


@pytest.mark.parametrize("how", ["running", "begun anew"])
def test_a_flip_that_was_refused_is_not_acknowledged(
    hand: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A store that lost everything, with its clock back: something newer is known here."""
    stores = [MemoryStore()]
    one = hand(lambda: stores[0], "recs", directory=tmp_path / "state")
    known = flip(stores[0], "recs", "on")
    one.turn()
    stores[0] = MemoryStore()
    if how == "running":
        one.follower._store = stores[0]
    else:
        one = hand(lambda: stores[0], "recs", directory=tmp_path / "state")
        one.load()
    wall = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: wall() - 3600)
        older = flip(stores[0], "recs", "off")
        one.turn()
    assert older.version < known.version
    assert one.says("recs")
    assert one.follower.process.applied == 0  # nor counts what it had applied of the life before
    assert counted(stores[0], older)[0] == 0
    one.turn()
    assert one.follower.process.applied == known.version
    assert [each.version for each in stores[0].read("", -1).flips or []] == [known.version]


@pytest.mark.parametrize("how", ["stopped", "forgotten"])
def test_a_follower_of_the_past_changes_nothing(hand: Make, how: str) -> None:
    """Stopped, or forgotten by configure, amid a reading: it takes in and restores nothing."""
    amid: list[Callable[[], object]] = []

    class Slow(MemoryStore):
        def read(self, incarnation: str, version: int) -> Any:
            reading = super().read(incarnation, version)
            for each in amid:
                each()
            return reading

    store = Slow()
    one = hand(lambda: store, "recs", "new", directory=None)
    one.turn()
    flip(store, "recs")
    if how == "stopped":
        amid.append(one.follower.stop)
    else:
        amid.append(one.state.forget)
    elsewhere = Flip("flag/new", "off", version=7)
    amid.append(lambda: one.state.adopt([elsewhere], 0.0))
    one.turn()
    assert (one.says("recs"), one.says("new")) == (True, False)
    assert list(one.state.flips) == ["flag/new"]
    assert [each.lever for each in store.log(None, 9)] == ["flag/recs"]


def test_a_bad_variable_swallows_no_flip() -> None:
    """Set at run time to what it can't say, it counts as unset, and all other flags obey."""
    environ: dict[str, str] = {}
    state = states(environ)
    every = [state.flags.declare(f"y{number}") for number in range(8)]
    environ["RESILIENT_FLAG_Y3"] = "on"
    state.adopt([Flip(f"flag/y{n}", "off", version=n + 1) for n in range(8)], 0.0)
    assert [bool(each) for each in every] == [False] * 8
    environ["RESILIENT_FLAG_Y3"] = "off"
    state.adopt([Flip(f"flag/y{n}", "on", version=n + 9) for n in range(8)], 0.0)
    assert [bool(each) for each in every] == [n != 3 for n in range(8)]
