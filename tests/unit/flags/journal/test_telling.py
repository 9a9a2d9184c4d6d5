"""A process's news: kept back for a moment, bounded, and given to a store once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient import Policy, circuit_breaker, registry
from resilient.cli.timeline import told as timeline
from resilient.errors import StoreError
from resilient.events import Event, bus
from resilient.flags import journal as module
from resilient.flags.follower import Follower
from resilient.flags.journal import Journal
from resilient.flags.stores.base import Process
from resilient.flags.stores.memory import MemoryStore
from resilient.flags.stores.redis import RedisStore
from resilient.flags.stores.sqlite import SQLiteStore
from resilient.testing import ManualClock
from tests.kit.followers import Hand, Make, off
from tests.kit.proxy import Proxy
from tests.kit.servers.redis_server import RedisServer
from tests.kit.waiting import until

BACKLOG = 1000


class Time:
    """A clock in place of the module's."""

    def __init__(self) -> None:
        self.now = 5000.0

    def time(self) -> float:
        return 1e9 + self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    """A clock that only the test moves."""
    made = Time()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def journal() -> Journal:
    """The news of one process."""
    return Journal(Process("aa", host="web1", pid=7, program="gunicorn"))


def moved(policy: str = "shop", after: str = "open", *, cause: Any = "auto", **more: Any) -> Event:
    """Return a move of a circuit."""
    kind: Any = {"open": "opened", "closed": "closed", "half_open": "half_open"}[after]
    return Event(
        kind, guard="circuit_breaker", at=1.0, reason="5 of 5 calls failed", before="closed",
        after=after, cause=cause, policy=policy, evidence={"calls": 5, "failures": 5}, **more,
    )  # fmt: skip


def told(journal: Journal, store: Any) -> list[dict[str, Any]]:
    """Have a journal tell all it knows; return what the store has."""
    journal.tell(store, now=True)
    found: list[dict[str, Any]] = store.journal(0.0, 100_000)
    return found


# -- what is told ------------------------------------------------------------------


def test_an_event_is_told_with_all_it_says(journal: Journal, clock: Time) -> None:
    """Who, when, what, why, and the evidence; numbered in their order."""
    store = MemoryStore()
    journal.heard(moved())
    clock.now += 0.5
    journal.add("process_left")
    first, second = told(journal, store)
    assert first == {
        "process": "aa", "host": "web1", "pid": 7, "program": "gunicorn", "number": 1,
        "at": 1e9 + 5000.0, "times": 1, "kind": "opened", "policy": "shop", "flag": "",
        "key": "", "guard": "circuit_breaker", "cause": "auto", "reason": "5 of 5 calls failed",
        "before": "closed", "after": "open", "evidence": {"calls": 5, "failures": 5},
    }  # fmt: skip
    assert (second["kind"], second["number"], second["at"]) == ("process_left", 2, 1e9 + 5000.5)


def test_which_events_are_told(journal: Journal) -> None:
    """Every change of a state is; the refusals are in the metrics."""
    store = MemoryStore()
    kinds: list[Any] = ["opened", "half_open", "closed", "would_open", "forced", "released",
                        "updated", "flipped", "abandoned", "refused"]  # fmt: skip
    for kind in kinds:
        journal.heard(Event(kind, guard="policy", at=1.0, policy="shop"))
    assert [each["kind"] for each in told(journal, store)] == kinds[:-1]


def test_texts_are_bounded(journal: Journal) -> None:
    """A long reason costs the store no more than a short paragraph."""
    event = Event("updated", guard="policy", at=1.0, reason="r" * 9999, before="b" * 9999,
                  after="a" * 9999)  # fmt: skip
    journal.heard(event)
    (entry,) = told(journal, MemoryStore())
    assert [len(entry[word]) for word in ("reason", "before", "after")] == [500, 500, 500]


# -- when it is told ------------------------------------------------------------------


def test_in_one_go_once_a_second(journal: Journal, clock: Time) -> None:
    """Nothing is told twice, nothing sooner than a second after the last time."""
    store = MemoryStore()
    journal.add("process_started")
    journal.tell(store)
    journal.add("process_left")
    journal.tell(store)
    assert len(store.journal(0, 10)) == 1
    clock.now += 1.0
    journal.tell(store)
    clock.now += 1.0
    journal.tell(store)
    assert [each["number"] for each in store.journal(0, 10)] == [1, 2]


class Down:
    """A store that can't be reached, for so many times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.store = MemoryStore()

    def record(self, entries: list[dict[str, Any]], most: int) -> None:
        self.times -= 1
        if self.times >= 0:
            raise StoreError("down")
        self.store.record(entries, most)


def test_a_store_that_is_down(journal: Journal, clock: Time) -> None:
    """What was not told is told later, in its order; the newest thousand, and how many are lost."""
    down: Any = Down(5)
    for turn in range(6):
        for _ in range(300):
            journal.add("process_started")
        clock.now += 1.0
        if turn < 5:
            with pytest.raises(StoreError):
                journal.tell(down)
        else:
            journal.tell(down)
    found = [each["number"] for each in down.store.journal(0, 10_000)]
    assert found == list(range(1800 - BACKLOG + 1, 1801))
    assert journal.dropped == 800
    assert next(e["at"] for e in down.store.journal(0, 10_000)) < 1e9 + clock.now - 3


def test_what_comes_while_it_is_told(journal: Journal) -> None:
    """News that come while the store is being written are told the next time."""
    store = MemoryStore()
    record = store.record

    def slow(entries: list[dict[str, Any]], most: int) -> None:
        record(entries, most)
        if len(entries) == 3:
            journal.add("process_left")

    store.record = slow  # type: ignore[method-assign]
    for _ in range(3):
        journal.add("process_started")
    told(journal, store)
    assert [each["number"] for each in told(journal, store)] == [1, 2, 3, 4]


def full_and_more(journal: Journal) -> list[int]:
    """Have ten more come while a full backlog is told; return the numbers of all that arrive."""
    store = MemoryStore()
    record = store.record

    def slow(entries: list[dict[str, Any]], most: int) -> None:
        record(entries, most)
        if len(entries) == BACKLOG:
            for _ in range(10):
                journal.add("process_left")

    store.record = slow  # type: ignore[method-assign]
    for _ in range(BACKLOG):
        journal.add("process_started")
    told(journal, store)
    return [each["number"] for each in told(journal, store)]


def test_what_comes_while_a_full_backlog_is_told(journal: Journal) -> None:
    """The same, after an outage: nothing is lost."""
    assert full_and_more(journal) == list(range(1, BACKLOG + 11))


def test_what_was_told_is_not_lost(journal: Journal) -> None:
    """Only what nobody was told counts as lost."""
    full_and_more(journal)
    assert journal.dropped == 0


def test_what_goes_while_a_store_fails_is_lost(journal: Journal) -> None:
    """What was being told when the store failed, and is gone since, was told to nobody."""

    class Failing(MemoryStore):
        def record(self, entries: list[dict[str, Any]], most: int) -> None:
            for _ in range(10):
                journal.add("process_left")
            raise OSError("down")

    for _ in range(BACKLOG):
        journal.add("process_started")
    with pytest.raises(OSError):
        journal.tell(Failing(), now=True)
    assert journal.dropped == 10
    assert [each["number"] for each in told(journal, MemoryStore())] == list(
        range(11, BACKLOG + 11)
    )


class Foreign:
    """A store of another package, made for a version without a journal."""

    writable = True

    def __init__(self) -> None:
        self._inner = MemoryStore()

    def __getattr__(self, name: str) -> Any:
        if name in ("record", "journal"):
            raise AttributeError(name)
        return getattr(self._inner, name)


def test_a_store_without_a_journal(journal: Journal) -> None:
    """Nothing is told, nothing is kept, and nothing is wrong."""
    for _ in range(3):
        journal.add("process_started")
        journal.tell(Foreign(), now=True)  # type: ignore[arg-type]
    assert len(told(journal, MemoryStore())) == 0
    assert journal.dropped == 0


# -- flapping ------------------------------------------------------------------


def flap(journal: Journal, clock: Time, number: int, every: float, *policies: str) -> None:
    """Have circuits move back and forth."""
    for turn in range(number):
        for policy in policies:
            journal.heard(moved(policy, "open" if turn % 2 == 0 else "closed"))
        clock.now += every


@pytest.mark.parametrize("every", [0.001, 0.1, 2.0])
def test_flapping_is_told_once_with_how_often(journal: Journal, clock: Time, every: float) -> None:
    """Two hundred moves make few entries, and their number is right."""
    store = MemoryStore()
    for _ in range(20):
        flap(journal, clock, 10, every, "shop")
        journal.tell(store)
    found = told(journal, store)
    assert sum(each["times"] for each in found) == 200
    assert len(found) <= 4 + 200 * every / 30 + 2
    assert [each["kind"] for each in found[:4]] == ["opened", "closed", "opened", "closed"]
    assert {each["kind"] for each in found[4:]} == {"flapped"}
    assert found[-1]["after"] == "closed"
    assert found[4]["evidence"] == {"calls": 5, "failures": 5}


def test_two_that_flap_are_told_apart(journal: Journal, clock: Time) -> None:
    """Each with its own number; a third that moves now and then is told each time."""
    store = MemoryStore()
    for _ in range(5):
        flap(journal, clock, 10, 0.1, "one", "other")
        journal.heard(moved("third"))
        clock.now += 11
    found = told(journal, store)
    for name, number in (("one", 50), ("other", 50), ("third", 5)):
        assert sum(each["times"] for each in found if each["policy"] == name) == number
    assert {each["kind"] for each in found if each["policy"] == "third"} == {"opened"}


def test_slow_moves_are_no_flapping(journal: Journal, clock: Time) -> None:
    """Four moves in half a minute, again and again, are told one by one."""
    flap(journal, clock, 40, 8.0, "shop")
    found = told(journal, MemoryStore())
    assert [each["times"] for each in found] == [1] * 40


def test_an_operator_does_not_flap(journal: Journal, clock: Time) -> None:
    """What a person orders is told each time, twenty times in half a minute."""
    for _ in range(20):
        journal.heard(moved(cause="operator"))
    assert len(told(journal, MemoryStore())) == 20


def test_after_it_has_calmed_down(journal: Journal, clock: Time) -> None:
    """Moves are told one by one again, and nothing is remembered of a policy for ever."""
    store = MemoryStore()
    for number in range(300):
        flap(journal, clock, 6, 0.1, f"p{number}")
    clock.now += 100
    journal.tell(store)
    assert not journal._folds.seen
    assert not journal._folds.floods
    flap(journal, clock, 4, 0.1, "p1")
    assert [each["kind"] for each in told(journal, store)[-4:]] == ["opened", "closed"] * 2


def test_flapping_is_told_while_it_lasts(journal: Journal, clock: Time) -> None:
    """At the latest half a minute after it began, also where it never ends."""
    store = MemoryStore()
    for _ in range(40):
        flap(journal, clock, 10, 0.1, "shop")
        journal.tell(store)
    flapped = [each for each in store.journal(0, 100) if each["kind"] == "flapped"]
    assert flapped
    assert flapped[0]["times"] > 250


def test_moves_from_many_threads_are_all_counted(journal: Journal) -> None:
    """While the follower tells, calls go on: no move is lost, and nobody gets an error."""
    store, over = MemoryStore(), threading.Event()
    errors: list[BaseException] = []

    def tell() -> None:
        while not over.is_set():
            try:
                journal._next = 0.0
                journal.tell(store)
            except Exception as error:
                errors.append(error)

    teller = threading.Thread(target=tell)
    teller.start()
    for number in range(3000):
        journal.heard(moved(f"p{number % 200}"))
    over.set()
    teller.join()
    assert not errors, errors[0]
    assert sum(each["times"] for each in told(journal, store)) == 3000


# -- the follower ------------------------------------------------------------------


@pytest.fixture
def hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make followers that the test drives; all are closed at its end."""
    monkeypatch.setattr(registry, "_entries", {})
    monkeypatch.setattr("resilient.flags.heartbeat.BEAT", 0.0)
    monkeypatch.setattr(module, "EVERY", 0.0)
    made: list[Hand] = []

    def make(opener: Callable[[], Any], *names: str) -> Hand:
        made.append(Hand(opener, tmp_path / "state", *names))
        return made[-1]

    yield make
    for each in made:
        each.close()


def follow(follower: Follower) -> Callable[[], None]:
    """Have a follower's journal hear, as its thread does."""
    return bus.subscribe(follower.journal.heard)


def fail() -> None:
    raise ConnectionError("down")


def test_calls_notice_nothing_of_a_store_that_is_down(
    hand: Make, redis_server: RedisServer
) -> None:
    """Circuits open without a word to it, and all of that is in the store when it is back."""
    asked: list[str] = []

    class Watched(RedisStore):
        def __getattribute__(self, name: str) -> Any:
            asked.append(name)
            return super().__getattribute__(name)

    one = hand(lambda: Watched(redis_server.url), "recs")
    one.turn()
    forget = follow(one.follower)
    try:
        redis_server.kill()
        clock = ManualClock()
        policies = [Policy(f"p{n}", circuit_breaker(failure_threshold=1), clock=clock)
                    for n in range(50)]  # fmt: skip
        one.turn()
        asked.clear()
        for policy in policies:
            policy.try_call(fail)
        assert asked == []
        one.turn()
        assert one.follower.error
        redis_server.restart()
        until(lambda: one.turn() or _all_told(redis_server))
    finally:
        forget()
    store = RedisStore(redis_server.url)
    found = [each for each in store.journal(0, 1000) if each["kind"] == "opened"]
    store.close()
    assert [each["policy"] for each in found] == [f"p{n}" for n in range(50)]
    assert found[0]["evidence"]["exceptions"] == {"ConnectionError": 1}


def _all_told(server: RedisServer) -> bool:
    return server.send("XLEN", "{resilient}:journal").startswith(b":50\r")


def test_an_answer_that_was_lost_tells_nothing_twice(hand: Make, redis_server: RedisServer) -> None:
    """Redis has taken the entries in, and the connection breaks before it says so."""
    proxy = Proxy(redis_server.port)
    try:
        store = RedisStore(proxy.url)
        store.journal(0, 1)
        journal = Journal(Process("aa"))
        for _ in range(3):
            journal.add("process_started")
        proxy.set("cut", 0)
        with pytest.raises(StoreError):
            journal.tell(store, now=True)
        proxy.set("pass")
        until(lambda: redis_server.send("XLEN", "{resilient}:journal").startswith(b":3"))
        journal.tell(store, now=True)
        assert [each["number"] for each in timeline(store, 0.0)] == [1, 2, 3]
        store.close()
    finally:
        proxy.close()


def test_a_journal_that_cannot_be_written_holds_nothing_up(hand: Make, tmp_path: Path) -> None:
    """Flips are followed, the process is known, and its beat is no fault, whatever becomes of news."""
    path = tmp_path / "flags.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE VIEW journal AS SELECT 1 AS number")
    db.close()
    one = hand(lambda: SQLiteStore(str(path)), "recs")
    one.follower.journal.add("process_started")
    one.turn()
    store = SQLiteStore(str(path))
    assert len(store.processes()[0]) == 1
    store.flip(off("recs"), None, None)
    one.turn()
    assert not one.says("recs")
    assert [each.applied for each in store.processes()[0]] == [store.read("", -1).version]
    store.close()


def test_an_old_process_beside_a_new_one(hand: Make, tmp_path: Path) -> None:
    """A store object that knows no journal shares the file with one that does."""

    class Old:
        writable = True

        def __init__(self) -> None:
            self._inner = SQLiteStore(str(tmp_path / "flags.db"))

        def __getattr__(self, name: str) -> Any:
            if name in ("record", "journal"):
                raise AttributeError(name)
            return getattr(self._inner, name)

    old, new = hand(Old, "recs"), hand(lambda: SQLiteStore(str(tmp_path / "flags.db")), "recs")
    for each in (old, new):
        each.follower.journal.add("process_started")
        each.turn()
        assert each.follower.beat_error == ""
    store = SQLiteStore(str(tmp_path / "flags.db"))
    assert [each["process"] for each in store.journal(0, 10)] == [new.follower.process.id]
    assert len(store.processes()[0]) == 2
    store.close()


def test_what_a_flag_says_is_told(hand: Make) -> None:
    """A flip that reaches the process is in its journal, with who and why."""
    store = MemoryStore()
    one = hand(lambda: store, "recs")
    forget = follow(one.follower)
    try:
        one.turn()
        store.flip(off("recs"), None, None)
        one.turn()
        until(lambda: one.turn() or store.journal(0, 10))
    finally:
        forget()
    (entry,) = store.journal(0, 10)
    assert (entry["kind"], entry["flag"], entry["after"]) == ("flipped", "recs", "off")
    assert "vendor down" in entry["reason"]
