"""What a review found in the state and the follower, each as it was proved."""

from __future__ import annotations

import itertools
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from resilient import flag, flags
from resilient.events import bus
from resilient.flags.declared import Flags
from resilient.flags.flipping import Acknowledgement, order
from resilient.flags.flips import Flip
from resilient.flags.state import State
from resilient.flags.stores.memory import MemoryStore
from resilient.flags.stores.redis import RedisStore
from resilient.reading import Flag
from tests.kit.followers import Hand, off
from tests.kit.servers.redis_server import RedisServer
from tests.kit.waiting import WAIT, until

Make = Callable[..., Hand]
LISTED = flag("reviewed-listed")


def flip(store: Any, name: str, value: str = "off", lasts: float | None = None) -> Flip:
    """Flip a flag in a store, as somebody else does."""
    made: Flip = store.flip(off(name, value=value), lasts, None)
    return made


def states(environ: Mapping[str, str]) -> State:
    """Return a state of no process."""
    state = State(Flags(environ=environ))
    state.flags.on_declared = state.declared
    state.read(fresh=False)
    return state


def counted(store: Any, made: Flip) -> tuple[int, int]:
    """Return how many processes have applied a flip, and how many it is for."""
    seen = Acknowledgement(made, *store.processes())
    return len(seen.applied), seen.known


# -- what is taken in ----------------------------------------------------------------


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


# -- snapshots -----------------------------------------------------------------------


def test_a_snapshot_knows_a_flag_declared_later() -> None:
    """It gives what the flag says then, not its default."""
    state = states({"RESILIENT_FLAG_PINNED": "off"})
    state.adopt([Flip("flag/flipped", "off", version=1)], 0.0)
    view = state.snapshot()
    for name in ("pinned", "flipped"):
        late = state.flags.declare(name)
        assert not late
        assert view[late] is False
        assert view[name] is False
    assert view[state.flags.declare("plain")] is True


def test_a_snapshot_is_a_mapping() -> None:
    """What it does not have is a KeyError to look up, and nothing else."""
    state = states({})
    state.flags.declare("recs")
    view = state.snapshot()
    assert "nope" not in view
    assert view.get("nope") is None
    assert view.get("recs") is True
    with pytest.raises(KeyError, match="no flag is named 'nope'"):
        view["nope"]


def test_a_snapshot_in_memory_settles_no_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view at the beginning of each request costs nothing for each flag."""
    flags.snapshot()
    settled: list[Flag] = []
    real = Flag.settle
    monkeypatch.setattr(Flag, "settle", lambda self: settled.append(self) or real(self))
    for _ in range(3):
        assert flags.snapshot()[LISTED]
    assert not settled


# -- stores that misbehave -----------------------------------------------------------


def commands(server: RedisServer) -> int:
    """Return how many commands a Redis has carried out."""
    found = re.search(rb"total_commands_processed:(\d+)", server.send("INFO", "stats"))
    assert found
    return int(found[1])


def test_a_spoilt_field_in_redis_can_be_flipped(redis_server: RedisServer) -> None:
    """What can't be read is at no version, for reading and for flipping alike."""
    store = RedisStore(redis_server.url)
    made = flip(store, "recs")
    redis_server.send("HSET", "{resilient}:levers", "flag/recs", f"{made.version} nonsense")
    done = order(store, "flag/recs", "on", by="ann", reason="again")
    assert done.changed
    assert [each.value for each in store.read("", -1).flips or []] == ["on"]
    store.close()


def test_a_spoilt_field_in_redis_is_healed_once(hand: Make, redis_server: RedisServer) -> None:
    """A process that knows what stood there gives it back, and does so no more."""
    store = RedisStore(redis_server.url)
    made = flip(store, "recs")
    one = hand(lambda: RedisStore(redis_server.url), "recs")
    one.follower.start()
    until(lambda: not one.says("recs"))
    redis_server.send("HSET", "{resilient}:levers", "flag/recs", f"{made.version} nonsense")
    flip(store, "more")
    until(lambda: len(store.read("", -1).flips or []) == 2)
    before = commands(redis_server)
    time.sleep(0.5)
    assert commands(redis_server) - before < 30
    assert not one.says("recs")
    one.follower.stop()
    store.close()


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
