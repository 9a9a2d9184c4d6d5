"""The follower, turn by turn, against real stores that fail in every way."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilient.flags.flip import Flip
from resilient.flags.stores.base import StoreError
from resilient.flags.stores.memory import MemoryStore
from resilient.flags.stores.redis import RedisStore
from resilient.flags.stores.sqlite import SQLiteStore
from tests.kit.followers import Make, off, open_files
from tests.kit.proxy import GARBAGE, Proxy
from tests.kit.servers.redis_server import RedisServer
from tests.kit.waiting import WAIT, until


def flip(store: Any, name: str = "recs", value: str = "off", lasts: float | None = None) -> Flip:
    """Flip a flag in a store."""
    made: Flip = store.flip(off(name, value=value), lasts, None)
    return made


def redis_flip(server: RedisServer, **more: Any) -> Flip:
    """Flip a flag through a connection of its own, when the machine lets it in a second."""
    made: list[Flip] = []

    def done() -> bool:
        store = RedisStore(server.url)
        try:
            made.append(flip(store, **more))
        except StoreError:
            return False
        finally:
            store.close()
        return True

    until(done)
    return made[-1]


def test_declared_then_local_copy_then_store(hand: Make, tmp_path: Path) -> None:
    """Each goes over the one before: nothing known, what this host knew, what the store says."""
    path = str(tmp_path / "flags.db")
    store = SQLiteStore(path)
    flip(store)
    first = hand(lambda: SQLiteStore(path), "recs")
    assert first.says("recs")
    first.turn()
    assert not first.says("recs")
    flip(store, value="on")
    second = hand(lambda: SQLiteStore(path), "recs")
    second.load()
    assert not second.says("recs")
    second.turn()
    assert second.says("recs")
    store.close()


def test_a_dead_store_changes_nothing_and_comes_back(hand: Make, redis_server: RedisServer) -> None:
    """What is known stands, the error says why, and the next turn after the outage ends it."""
    redis_flip(redis_server)
    one = hand(lambda: RedisStore(redis_server.url), "recs")
    one.turn()
    redis_server.kill()
    for _ in range(3):
        one.turn()
        assert "127.0.0.1" in one.follower.error
        assert not one.says("recs")
    redis_server.start()
    until(lambda: one.turn() or not one.follower.error)
    assert not one.says("recs")
    redis_flip(redis_server, value="on")
    one.turn()
    assert one.says("recs")


def test_a_redis_that_lost_everything_gets_it_back(hand: Make, redis_server: RedisServer) -> None:
    """No flag turns on, and a host that knew nothing learns what the others know."""
    redis_flip(redis_server)
    redis_flip(redis_server, name="more", lasts=500)
    one = hand(lambda: RedisStore(redis_server.url), "recs", "more")
    one.turn()
    due = one.state.flips["flag/more"].due
    redis_server.restart()
    for _ in range(4):
        one.turn()
        assert not one.says("recs")
        assert not one.says("more")
    assert one.follower.error == ""
    assert one.state.flips["flag/more"].due == due
    other = hand(lambda: RedisStore(redis_server.url), "recs", "more", directory=None)
    other.turn()
    assert not other.says("recs")
    assert not other.says("more")
    assert redis_flip(redis_server, value="on").version > one.state.flips["flag/recs"].version
    one.turn()
    assert one.says("recs")


@pytest.mark.parametrize("mode", [*GARBAGE, "blackhole", "reset", "endless"])
def test_a_redis_that_answers_badly_costs_one_turn_a_second(
    hand: Make, redis_server: RedisServer, proxy: Proxy, mode: str
) -> None:
    """On an open connection and on a new one: bounded, known, nothing flips, and it recovers."""
    redis_flip(redis_server)
    one = hand(lambda: RedisStore(proxy.url), "recs")
    one.turn()
    opened = open_files()
    proxy.set(mode)
    for _ in range(2):
        one.turn()
        assert one.follower.error, mode
        assert not one.says("recs")
    one.follower._store.hint(0.05)  # type: ignore[union-attr]
    proxy.set("pass")
    redis_flip(redis_server, value="on")
    until(lambda: one.turn() or one.says("recs"))
    assert one.follower.error == ""
    assert open_files() < opened + 40


@pytest.mark.parametrize(
    ("mode", "number"), [("delay", 3.0), ("drip", 0.05), ("cut", 3), ("cut", 60)]
)
def test_a_slow_redis_costs_one_turn_a_second(
    hand: Make, redis_server: RedisServer, proxy: Proxy, mode: str, number: float
) -> None:
    """However slowly it drips, and wherever it stops: the operation has one deadline."""
    for place in range(20):
        redis_flip(redis_server, name=f"f{place}")
    one = hand(lambda: RedisStore(proxy.url), "recs")
    proxy.set(mode, number)
    for _ in range(2):
        one.turn()
        assert one.follower.error
    proxy.set("pass")
    redis_flip(redis_server)
    until(lambda: one.turn() or not one.says("recs"))


def test_a_frozen_redis_costs_one_turn_a_second(hand: Make, redis_server: RedisServer) -> None:
    """Stopped between two turns, and going on as if nothing had been."""
    redis_flip(redis_server)
    one = hand(lambda: RedisStore(redis_server.url), "recs")
    one.turn()
    redis_server.stop()
    for _ in range(2):
        one.turn()
        assert one.follower.error
        assert not one.says("recs")
    redis_server.cont()
    redis_flip(redis_server, value="on")
    until(lambda: one.turn() or one.says("recs"))


def test_a_name_with_many_dead_addresses_costs_one_turn_a_second(
    hand: Make, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each address is tried within the one deadline, not for a deadline each."""
    import socket

    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    port, waiting = full.getsockname()[1], []
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
        waiting.append(sock)
    found = socket.getaddrinfo("127.0.0.1", port, 0, socket.SOCK_STREAM)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found * 60)
    one = hand(lambda: RedisStore(f"redis://127.0.0.1:{port}/0"), "recs")
    try:
        one.turn()
    finally:
        for sock in [full, *waiting]:
            sock.close()
    assert one.follower.error


def test_a_flip_that_nobody_announced_is_seen_by_the_next_look(
    hand: Make, redis_server: RedisServer, proxy: Proxy
) -> None:
    """Published while the connection for hints is down: the keys are the truth."""
    one = hand(lambda: RedisStore(proxy.url), "recs")
    one.turn()
    store: Any = one.follower._store
    store.hint(0.05)
    proxy.set("reset")
    store.hint(0.05)
    redis_flip(redis_server)
    proxy.set("pass")
    until(lambda: one.turn() or not one.says("recs"))


def test_a_timed_flip_lifts_while_the_store_is_down(hand: Make, redis_server: RedisServer) -> None:
    """Its end is on this host's clock since it was first seen."""
    times = [time.monotonic()]
    redis_flip(redis_server, lasts=60)
    one = hand(lambda: RedisStore(redis_server.url), "recs", now=lambda: times[0])
    one.turn()
    redis_server.kill()
    one.turn()
    times[0] += 59
    one.turn()
    assert not one.says("recs")
    times[0] += 1.1
    one.turn()
    assert one.says("recs")
    assert one.follower.error
    redis_server.start()
    one.turn()
    assert one.says("recs")


def test_a_locked_sqlite_costs_one_turn_a_second(hand: Make, tmp_path: Path) -> None:
    """While another writes for long: flips are read all the same, and only the sign of life waits."""
    path = str(tmp_path / "flags.db")
    store = SQLiteStore(path)
    one = hand(lambda: SQLiteStore(path), "recs")
    one.turn()
    flip(store)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    one.turn()
    assert not one.says("recs")
    assert one.follower.error == ""
    assert "locked" in one.follower.beat_error
    db.execute("ROLLBACK")
    db.close()
    one.turn()
    assert one.follower.beat_error == ""
    store.close()


def _corrupt(path: Path) -> None:
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    path.write_bytes(b"no database at all" * 500)


def _replace(path: Path) -> None:
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    path.with_suffix(".other").write_bytes(b"SQLite format 3\0" + b"\xff" * 9000)
    os.replace(path.with_suffix(".other"), path)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [_corrupt, _replace, _directory])
def test_a_sqlite_file_that_is_none_changes_nothing(
    hand: Make, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """What is known stands, no descriptor is lost, and a file that is one again gets it back."""
    path = tmp_path / "flags.db"
    store = SQLiteStore(str(path))
    flip(store)
    one = hand(lambda: SQLiteStore(str(path)), "recs")
    one.turn()
    store.close()
    one.opened[-1].close()  # what it holds open it may read on
    harm(path)
    one.turn()
    before = open_files()
    for _ in range(20):
        one.turn()
        assert one.follower.error
        assert not one.says("recs")
    assert open_files() <= before
    path.rmdir() if path.is_dir() else path.unlink()
    one.turn()
    one.turn()
    assert one.follower.error == ""
    assert not one.says("recs")
    again = SQLiteStore(str(path))
    assert [each.lever for each in again.read("", -1).flips or []] == ["flag/recs"]
    again.close()


def test_a_sqlite_file_that_was_deleted_gets_its_flips_back(hand: Make, tmp_path: Path) -> None:
    """As a Redis that was emptied does."""
    path = tmp_path / "flags.db"
    store = SQLiteStore(str(path))
    flip(store)
    one = hand(lambda: SQLiteStore(str(path)), "recs")
    one.turn()
    store.close()
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    for _ in range(3):
        one.turn()
        assert not one.says("recs")
    again = SQLiteStore(str(path))
    assert [each.value for each in again.read("", -1).flips or []] == ["off"]
    again.close()


@pytest.mark.parametrize("error", [RuntimeError("own"), KeyError("own"), ArithmeticError("own")])
def test_a_store_of_somebodys_own_that_raises_is_a_store_that_fails(
    hand: Make, error: Exception
) -> None:
    """It is recorded as why the store can't be read; flips go on ending in time."""

    class Broken(MemoryStore):
        def read(self, incarnation: str, version: int) -> Any:
            raise error

    one = hand(Broken, "recs")
    one.turn()
    assert "own" in one.follower.error


def test_a_jump_of_the_date_over_a_restart_moves_no_end(
    hand: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways: what the copy knows is counted on the clock of this boot."""
    path = str(tmp_path / "flags.db")
    store = SQLiteStore(path)
    flip(store, lasts=100)
    one = hand(lambda: SQLiteStore(path), "recs")
    one.turn()
    due = one.state.flips["flag/recs"].due
    wall = time.time
    for jump in (3600, -3600, 1e9):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda jump=jump: wall() + jump)
            other = hand(lambda: SQLiteStore(path), "recs")
            other.load()
            other.turn()
        assert other.state.flips["flag/recs"].due == due
        assert not other.says("recs")
    store.close()


def test_the_end_of_a_process_waits_for_no_store(hand: Make) -> None:
    """One of somebody's own that hangs: the thread is left behind."""
    go = threading.Event()

    class Hanging(MemoryStore):
        def read(self, incarnation: str, version: int) -> Any:
            go.wait(WAIT)
            return super().read(incarnation, version)

    one = hand(Hanging, "recs")
    one.follower.start()
    one.follower.stop()
    assert one.follower._thread.is_alive(), "it was waited for"  # type: ignore[union-attr]
    go.set()
    until(lambda: not one.follower._thread.is_alive())  # type: ignore[union-attr]
