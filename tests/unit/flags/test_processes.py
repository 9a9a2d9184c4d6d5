"""Real processes that follow a store: forks, kills, freezes, exits and restarts."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from resilient.flags.flip import Flip
from resilient.flags.operations import Acknowledgement, acknowledged, is_young, living, order
from resilient.flags.presence import Presence
from resilient.flags.stores.urls import directory_for, opener_of
from tests.kit.servers.redis_server import RedisServer
from tests.kit.waiting import WAIT, until
from tests.unit.flags.process_kit import Following, looked

Start = Callable[..., Following]
pytestmark = pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="POSIX alone")


@contextmanager
def opened(setting: str) -> Iterator[Any]:
    """Give the store of a setting."""
    store = opener_of(setting)()
    yield store
    store.close()


def flip(setting: str, value: str = "off", lever: str = "flag/recs", lasts: Any = None) -> Flip:
    """Flip a lever, as an operator does."""
    with opened(setting) as store:
        return order(store, lever, value, by="ann", reason="test", lasts=lasts).flip


def host(setting: str, tmp_path: Path) -> Presence:
    """Return who can look at the locks of this host."""
    return Presence(directory_for(setting, str(tmp_path), {}))


def counted(setting: str, tmp_path: Path) -> set[str]:
    """Return the ids of the processes that are not proved dead."""
    with opened(setting) as store:
        return {process.id for process in living(store, host(setting, tmp_path))[0]}


def followed(worker: Following) -> str:
    """Wait until a process has read the store; return its id."""
    worker.ask("read")
    until(lambda: worker.about().get("synced"))
    return str(worker.about()["id"])


def grown_up(shared: str) -> None:
    """Wait until a new store is old enough to be trusted to know every process."""
    with opened(shared) as store:
        until(lambda: not is_young(store))


def test_a_flip_is_seen_and_acknowledged(worker: Start, shared: str, tmp_path: Path) -> None:
    """Three processes obey, and whoever flipped knows that all have."""
    every = [worker(shared) for _ in range(3)]
    for each in every:
        followed(each)
    until(lambda: len(counted(shared, tmp_path)) == 3)
    grown_up(shared)
    flipped = flip(shared)
    with opened(shared) as store:
        seen = acknowledged(store, flipped, host(shared, tmp_path), WAIT)
    assert seen.complete
    assert len(seen.applied) == 3
    assert [each.ask("read") for each in every] == ["False"] * 3
    assert every[0].ask("call") == "FlagOffError"


@pytest.mark.parametrize("first", [False, True], ids=["before the first read", "after it"])
def test_a_forked_child_follows_by_itself(
    worker: Start, shared: str, tmp_path: Path, first: bool
) -> None:
    """Parent and child both see a flip; the child's end disturbs neither lock nor connection."""
    parent = worker(shared)
    if first:
        followed(parent)
    parent.ask("fork", tmp_path / "child")
    assert looked(tmp_path / "child", whole=False) == ["True"]
    name = followed(parent)
    until(lambda: len(counted(shared, tmp_path)) == 2)
    flip(shared)
    seen = looked(tmp_path / "child")
    assert seen[:2] == ["True", "False"]
    parent.says(False)
    until(lambda: counted(shared, tmp_path) == {name})  # the child ended without a goodbye
    flip(shared, "on")
    parent.says(True)
    assert parent.about()["error"] == ""


def test_a_forked_child_that_only_calls_follows_too(
    worker: Start, shared: str, tmp_path: Path
) -> None:
    """A child that reads no flag obeys an order for its policy, forked after the first call."""
    parent = worker(shared)
    assert parent.ask("call") == "ok"
    followed(parent)
    parent.ask("fork", tmp_path / "child", "call")
    assert looked(tmp_path / "child", whole=False) == ["ok"]
    flip(shared, "forced_open", "forced/shop")
    assert looked(tmp_path / "child")[:2] == ["ok", "CircuitOpenError"]
    until(lambda: parent.ask("call") == "CircuitOpenError")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_multiprocessing_follows(worker: Start, tmp_path: Path, method: str) -> None:
    """It sees what holds when it begins, and the flip after."""
    setting = f"sqlite:///{tmp_path / 'flags.db'}"
    flip(setting)
    parent = worker(setting)
    parent.says(False)
    parent.ask("start", method, tmp_path / "child")
    assert looked(tmp_path / "child", whole=False) == ["False"]
    flip(setting, "on")
    assert looked(tmp_path / "child")[1] == "True"
    parent.says(True)


def test_children_forked_amid_flips_all_follow(worker: Start, shared: str, tmp_path: Path) -> None:
    """Twelve forks while another lever is flipped without a pause: no child and no parent hangs."""
    parent = worker(shared)
    followed(parent)
    stop = threading.Event()

    def load() -> None:
        with opened(shared) as store:
            while not stop.is_set():
                store.flip(Flip("flag/other", "off", by="x", reason="y"), None, None)
                stop.wait(0.002)

    loading = threading.Thread(target=load, daemon=True)
    loading.start()
    paths = [tmp_path / f"child{number}" for number in range(12)]
    for path in paths:
        parent.ask("fork", path)
    assert [looked(path, whole=False)[0] for path in paths] == ["True"] * 12
    flip(shared)
    assert [looked(path)[1] for path in paths] == ["False"] * 12
    stop.set()
    loading.join(WAIT)
    parent.says(False)
    until(lambda: not parent.about()["unsaved"])
    assert parent.about()["copy_error"] == ""


def test_a_killed_process_leaves_the_count(worker: Start, shared: str, tmp_path: Path) -> None:
    """Its lock is free: that proves it dead, and a flip does not wait for it."""
    one, two = worker(shared), worker(shared)
    names = {followed(one), followed(two)}
    until(lambda: counted(shared, tmp_path) == names)
    dead = one.about()["id"]
    one.kill()
    until(lambda: counted(shared, tmp_path) == names - {dead})
    grown_up(shared)
    with opened(shared) as store:
        seen = acknowledged(store, flip(shared), host(shared, tmp_path), WAIT)
    assert seen.complete
    assert seen.known == 1


def test_a_new_process_buries_one_that_was_killed(
    worker: Start, shared: str, tmp_path: Path
) -> None:
    """Nobody has to look: whoever follows on the host finds the free lock."""
    one = worker(shared)
    name = followed(one)
    one.kill()
    other = followed(worker(shared))
    with opened(shared) as store:
        until(lambda: {each.id for each in store.processes()[0]} == {other})
    kept: Any = host(shared, tmp_path)._directory
    until(lambda: name not in {each.name for each in kept.iterdir()})


def test_a_stopped_process_stays_in_the_count(worker: Start, shared: str, tmp_path: Path) -> None:
    """It may wake and call on, so it is behind, later silent, and never left out."""
    one, two = worker(shared), worker(shared)
    name = followed(one)
    followed(two)
    until(lambda: len(counted(shared, tmp_path)) == 2)
    one.stop()
    flipped = flip(shared)
    with opened(shared) as store:
        seen = acknowledged(store, flipped, host(shared, tmp_path), 1)
        later = Acknowledgement(flipped, *_later(store))
    assert [each.id for each in seen.behind] == [name]
    assert len(seen.applied) == 1
    assert not seen.complete
    assert name in [each.id for each in later.silent]
    assert not later.complete
    one.cont()
    one.says(False)


def _later(store: Any) -> tuple[Any, float]:
    processes, now = store.processes()
    return processes, now + 6


def test_a_normal_exit_says_goodbye(worker: Start, shared: str, tmp_path: Path) -> None:
    """It is gone from the store by then, without a word on stderr."""
    one = worker(shared)
    followed(one)
    until(lambda: len(counted(shared, tmp_path)) == 1)
    one.quit()
    assert one.errors.read_text() == ""
    with opened(shared) as store:
        assert store.processes()[0] == []


@pytest.mark.parametrize("fault", ["frozen", "killed"])
def test_an_exit_does_not_wait_for_a_dead_redis(
    worker: Start, redis_server: RedisServer, fault: str
) -> None:
    """It ends while Redis is away, and says nothing of that."""
    one = worker(redis_server.url)
    followed(one)
    redis_server.stop() if fault == "frozen" else redis_server.kill()
    time.sleep(0.3)
    one.quit()
    assert "Traceback" not in one.errors.read_text()


@pytest.mark.parametrize("fault", ["frozen", "killed"])
def test_a_restart_during_an_outage_keeps_every_flip(
    worker: Start, redis_server: RedisServer, fault: str
) -> None:
    """The local copy says what holds; without one the first read waits for the store, and not for long."""
    flip(redis_server.url)
    flip(redis_server.url, "forced_open", "forced/shop")
    one = worker(redis_server.url)
    one.says(False)
    until(lambda: not one.about()["unsaved"])
    one.kill()
    redis_server.stop() if fault == "frozen" else redis_server.kill()
    two = worker(redis_server.url)
    assert two.ask("read") == "False"
    until(lambda: two.about()["error"])
    assert two.ask("read") == "False"
    three = worker(redis_server.url, RESILIENT_STATE_DIR=str(one.errors.parent / "elsewhere"))
    assert three.ask("read") == "True"


def test_threads_that_read_first_at_once_see_the_same(worker: Start, shared: str) -> None:
    """A host that knows nothing yet: the second thread waits as the first one does."""
    flip(shared)
    for _ in range(3):
        one = worker(shared)
        assert one.ask("threads", 8) == str([False] * 8).lower()
        one.close()
        for each in (one.errors.parent).glob("*/flips"):
            each.unlink()


def test_flips_of_one_store_are_not_given_to_another(worker: Start, tmp_path: Path) -> None:
    """Who is told to follow another store obeys that one, and leaves it as it is."""
    first, second = (f"sqlite:///{tmp_path / name}.db" for name in ("a", "b"))
    flip(first)
    flip(second, lever="flag/other")
    one = worker(first)
    one.says(False)
    one.ask("configure", second)
    followed(one)
    one.says(True)
    with opened(second) as store:
        assert [each.lever for each in store.read("", -1).flips] == ["flag/other"]


@pytest.mark.parametrize("fault", ["frozen", "killed"])
def test_calls_and_reads_are_as_fast_without_redis(
    worker: Start, redis_server: RedisServer, fault: str
) -> None:
    """The median and the 99th percentile of a read and a call, before and while it is away."""
    one = worker(redis_server.url)
    followed(one)
    before = [int(each) for each in one.ask("times", 1.5).split()]
    redis_server.stop() if fault == "frozen" else redis_server.kill()
    after = [int(each) for each in one.ask("times", 2.5).split()]
    assert after[0] < 5 * before[0] + 200_000, (before, after)
    assert after[1] < 5 * before[1] + 300_000_000, (before, after)  # who asks it waits longer
    assert one.about()["error"]
