"""What every store promises, of each store that there is."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient.flags.flip import Flip
from resilient.flags.operations import current, order
from resilient.flags.stores.base import ConflictError, Process
from resilient.flags.stores.memory import MemoryStore
from resilient.flags.stores.redis import RedisStore
from resilient.flags.stores.sqlite import SQLiteStore
from tests.kit.followers import off
from tests.kit.servers.redis_server import RedisServer
from tests.kit.threads import in_threads
from tests.kit.waiting import WAIT, until

ABOUT: Any = {
    "flags": {
        "x": {"on": True, "source": "store", "default": True, "owner": "", "impact": "",
              "review": None}
    }
}  # fmt: skip


class Kind:
    """One kind of store: how it is opened again and again, emptied, and spoilt."""

    def __init__(self, name: str, path: Path, redis: RedisServer | None) -> None:
        self.name = name
        self.path = str(path / "flags.db")
        self.redis = redis
        self._memory = MemoryStore()
        self._made: list[Any] = []

    def open(self) -> Any:
        """Return another handle on the same store."""
        if self.name == "memory":
            return self._memory
        made = SQLiteStore(self.path) if self.redis is None else RedisStore(self.redis.url)
        self._made.append(made)
        return made

    def empty(self) -> None:
        """Have the store lose everything."""
        if self.redis is not None:
            self.redis.clear()
        elif self.name == "sqlite":
            for end in ("", "-wal", "-shm"):
                Path(self.path + end).unlink(missing_ok=True)
        else:
            self._memory = MemoryStore()

    def spoil(self, lever: str) -> None:
        """Put a record there that is none."""
        if self.redis is not None:
            self.redis.send("HSET", "{resilient}:levers", lever, b"\xff no flip")
        elif self.name == "sqlite":
            with sqlite3.connect(self.path) as db:
                db.execute("INSERT OR REPLACE INTO levers VALUES (?, 1, '', 'no flip')", (lever,))
            db.close()

    def spoil_process(self, id: str, about: str) -> None:
        """Put a process there that nobody understands."""
        if self.redis is not None:
            self.redis.send("HSET", "{resilient}:processes", id, f"{time.time()} 1")
            self.redis.send("HSET", "{resilient}:about", id, about)
        elif self.name == "sqlite":
            with sqlite3.connect(self.path) as db:
                db.execute(
                    "INSERT INTO processes VALUES (?, ?, 1, ?, ?)", (id, time.time(), about, about)
                )
            db.close()

    def close(self) -> None:
        """Close every handle."""
        for made in self._made:
            made.close()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    """Every store that can be written."""
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None
    made = Kind(request.param, tmp_path, server)
    yield made
    made.close()


def flips_of(store: Any) -> dict[str, Flip]:
    """Return the newest flip of every lever."""
    return current(store)[0]


def test_nothing_was_ever_written(kind: Kind) -> None:
    """A new store has version 0 and no flips, and looking at it is no fault."""
    store = kind.open()
    seen = store.read("", -1)
    assert (seen.version, seen.flips, seen.whole) == (0, [], False)
    assert store.log(None, 10) == []
    assert store.processes()[0] == []
    assert store.leave("nobody") is False


def test_a_flip_is_recorded_with_all_that_was_said(kind: Kind) -> None:
    """Another handle reads the lever, value, actor and reason, and times by the store's clock."""
    before = time.time()
    made = kind.open().flip(off("recs"), None, 0)
    seen = kind.open().read("", -1)
    after = time.time()
    (there,) = seen.flips
    assert there.as_data() == made.as_data()
    assert (there.value, there.by, there.reason, there.until) == ("off", "ann", "vendor down", None)
    assert before - 1 <= there.at <= after + 1
    assert seen.version == there.version > 0
    assert before - 1 <= seen.now <= after + 1


def test_versions_rise_also_over_a_new_life(kind: Kind) -> None:
    """Each flip has a larger version than all before it, whatever its lever, also once emptied."""
    seen: list[int] = []
    for number in range(6):
        store = kind.open()
        seen.append(store.flip(off(f"flag-{number % 2}"), None, None).version)
        if number == 3:
            time.sleep(0.005)  # a store does not lose everything within the millisecond
            kind.empty()
    assert seen == sorted(set(seen))


def test_an_expected_version_that_is_not_there_changes_nothing(kind: Kind) -> None:
    """Compare-and-set: the error has the flip that came before, and the log has no entry more."""
    store = kind.open()
    first = store.flip(off("recs"), None, 0)
    for expected in (0, first.version - 1, first.version + 1):
        with pytest.raises(ConflictError) as caught:
            kind.open().flip(off("recs", by="bob", value="on"), None, expected)
        assert caught.value.now.as_data() == first.as_data()
    with pytest.raises(ConflictError):
        store.flip(off("other"), None, 5)
    assert [flip.version for flip in store.log(None, 10)] == [first.version]
    assert store.flip(off("recs", value="on"), None, first.version).version > first.version


def test_a_request_sent_twice_is_recorded_once(kind: Kind) -> None:
    """The second sending returns what the first recorded, whatever version it expects."""
    first = kind.open().flip(off("recs", request="r1"), None, 0)
    for expected in (0, None, first.version):
        again = kind.open().flip(off("recs", request="r1"), None, expected)
        assert again.as_data() == first.as_data()
    assert len(kind.open().log(None, 10)) == 1
    assert kind.open().flip(off("recs", request="r2"), None, None).version > first.version


def test_what_the_reader_has_already_is_not_sent_again(kind: Kind) -> None:
    """The same life and version: no flips; another life or version: all of them."""
    store = kind.open()
    store.flip(off("recs"), None, None)
    seen = store.read("", -1)
    assert store.read(seen.incarnation, seen.version).flips is None
    assert len(store.read("another", seen.version).flips) == 1
    assert len(store.read(seen.incarnation, seen.version - 1).flips) == 1
    kind.open().flip(off("more"), None, None)
    assert len(store.read(seen.incarnation, seen.version).flips) == 2


def test_the_end_is_told_by_the_clock_of_the_store(kind: Kind) -> None:
    """`lasts` becomes `until`, so many seconds after `at`."""
    made = kind.open().flip(off("recs"), 90.5, None)
    (there,) = kind.open().read("", -1).flips
    assert there.until == made.until
    assert there.until == pytest.approx(there.at + 90.5, abs=0.01)


def test_the_log_is_newest_first_and_bounded(kind: Kind) -> None:
    """Every flip ever made is there; of one lever, or of all."""
    store = kind.open()
    made = [store.flip(off(f"f{number % 2}"), None, None).version for number in range(6)]
    assert [flip.version for flip in kind.open().log(None, 100)] == made[::-1]
    assert [flip.version for flip in kind.open().log("flag/f1", 2)] == [made[5], made[3]]
    assert kind.open().log("flag/none", 5) == []


def test_the_log_of_sqlite_is_append_only(tmp_path: Path) -> None:
    """Its rows can be neither changed nor removed, also by other means."""
    path = str(tmp_path / "flags.db")
    store = SQLiteStore(path)
    store.flip(off("recs"), None, None)
    db = sqlite3.connect(path)
    for statement in ("UPDATE log SET flip = 'x'", "DELETE FROM log"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(statement)
    db.close()
    assert len(store.log(None, 5)) == 1
    store.close()


def test_what_is_given_back_never_lowers_a_lever(kind: Kind) -> None:
    """Restoring keeps the newer flip of each lever, and rises the store's version over all."""
    store = kind.open()
    old = store.flip(off("a"), None, None)
    new = store.flip(off("a", value="on"), None, None)
    gone = Flip(
        "flag/gone", "off", by="x", reason="y", at=5.0, version=new.version + 1000, until=9.0
    )
    kind.open().restore([old, gone])
    there = flips_of(kind.open())
    assert there["flag/a"].as_data() == new.as_data()
    kept = there["flag/gone"]
    assert (kept.version, kept.at, kept.until) == (gone.version, 5.0, 9.0)
    assert kind.open().read("", -1).version == gone.version
    assert store.flip(off("a"), None, None).version > gone.version


def test_what_is_given_back_to_an_empty_store_is_all_there(kind: Kind) -> None:
    """A store that lost everything has it again, in a new life, for everybody."""
    store = kind.open()
    for name in ("a", "b"):
        store.flip(off(name), None, None)
    before = store.read("", -1)
    kind.empty()
    kind.open().restore(before.flips)
    after = kind.open().read(before.incarnation, before.version)
    assert after.incarnation not in ("", before.incarnation)
    assert after.version == before.version
    assert {flip.lever for flip in after.flips} == {"flag/a", "flag/b"}


def test_an_open_handle_notices_that_the_store_was_emptied(kind: Kind) -> None:
    """The life has another name, so the reader knows that it has to look at everything."""
    if kind.name == "memory":
        pytest.skip("this process's own ends with it")
    store = kind.open()
    store.flip(off("a"), None, None)
    before = store.read("", -1)
    kind.empty()
    kind.open().flip(off("b"), None, None)
    after = store.read(before.incarnation, before.version)
    assert after.incarnation != before.incarnation
    assert [flip.lever for flip in after.flips] == ["flag/b"]


def test_processes_are_known_until_they_leave(kind: Kind) -> None:
    """A beat tells what is applied; what a process is about stays as it was last told."""
    store = kind.open()
    one = Process("1a", host="h", pid=7, program="gunicorn", applied=3, about=ABOUT)
    store.beat(one, about=True)
    (seen,), now = kind.open().processes()
    assert (seen.id, seen.host, seen.pid, seen.program) == ("1a", "h", 7, "gunicorn")
    assert (seen.applied, seen.about["flags"]) == (3, ABOUT["flags"])
    assert abs(now - seen.seen) < 1
    one.applied = 9
    store.beat(one, about=False)
    (seen,), _ = kind.open().processes()
    assert (seen.applied, seen.about["flags"]) == (9, ABOUT["flags"])
    assert kind.open().leave("1a") is True
    assert kind.open().processes()[0] == []
    store.beat(one, about=False)  # one that somebody thought dead, and that lives
    assert kind.open().processes()[0][0].about["flags"] == ABOUT["flags"]


def test_a_hint_comes_early_on_a_flip_by_another(kind: Kind) -> None:
    """Who waits for ten minutes hears of a flip long before."""
    store = kind.open()
    store.flip(off("a"), None, None)
    store.read("", -1)
    store.hint(0.01)  # subscribes
    seen: list[bool] = []
    waiting = threading.Thread(target=lambda: seen.append(bool(store.hint(600))), daemon=True)
    waiting.start()
    time.sleep(0.05)
    kind.open().flip(off("b"), None, None)
    waiting.join(WAIT)
    assert seen == [True]


def test_without_news_a_hint_lasts_as_long_as_it_was_given(kind: Kind) -> None:
    """It does not return at once, which would be a busy loop, and does return."""
    store = kind.open()
    store.flip(off("a"), None, None)
    store.read("", -1)
    store.hint(0.01)
    began = time.monotonic()
    store.hint(0.2)
    assert time.monotonic() - began >= 0.15


def test_a_record_that_is_none_is_passed_over(kind: Kind) -> None:
    """What cannot be read is no flip, and holds no other lever up, nor its own next flip."""
    if kind.name == "memory":
        pytest.skip("nobody else writes there")
    store = kind.open()
    store.flip(off("good"), None, None)
    kind.spoil("flag/bad")
    assert set(flips_of(kind.open())) == {"flag/good"}
    assert kind.open().flip(off("good", value="on"), None, None).value == "on"


def test_a_lever_whose_record_is_none_can_be_flipped(kind: Kind) -> None:
    """An operator who needs a feature off gets it off, whatever stands there."""
    if kind.name == "memory":
        pytest.skip("nobody else writes there")
    kind.open().flip(off("good"), None, None)
    kind.spoil("flag/bad")
    done = order(kind.open(), "flag/bad", "off", by="ann", reason="broken")
    assert done.changed
    assert flips_of(kind.open())["flag/bad"].value == "off"


def test_a_lever_whose_record_is_none_can_be_given_back(kind: Kind) -> None:
    """A follower that knows the lever puts it right, and every other lever with it."""
    if kind.name == "memory":
        pytest.skip("nobody else writes there")
    known = kind.open().flip(off("bad"), None, None)
    kind.spoil("flag/bad")
    kind.open().restore([known, Flip("flag/more", "off", version=known.version + 1)])
    assert set(flips_of(kind.open())) == {"flag/bad", "flag/more"}


@pytest.mark.parametrize("about", ["no json", "[1]", '{"host": "h", "of a later version": 1}'])
def test_a_process_that_nobody_understands_hides_no_other(kind: Kind, about: str) -> None:
    """The others are listed: who waits for their acknowledgement needs them."""
    if kind.name == "memory":
        pytest.skip("nobody else writes there")
    kind.open().beat(Process("1a", host="h", pid=7), about=True)
    kind.spoil_process("2b", about)
    assert "1a" in [process.id for process in kind.open().processes()[0]]


def test_of_those_who_expect_one_version_exactly_one_wins(kind: Kind) -> None:
    """Eight flip at once, round after round: one is recorded, seven are told of it."""
    handles = [kind.open() for _ in range(8)]
    version = 0
    for _ in range(5):

        def flip(place: int, expected: int = version) -> Flip:
            flipped: Flip = handles[place].flip(off("recs", by=f"op{place}"), None, expected)
            return flipped

        ends = in_threads(8, flip)
        (won,) = [end for end in ends if isinstance(end, Flip)]
        assert all(isinstance(end, ConflictError) for end in ends if end is not won), ends
        assert flips_of(handles[0])["flag/recs"].as_data() == won.as_data()
        version = won.version
    assert len(handles[0].log(None, 100)) == 5


def test_flips_at_once_are_all_recorded(kind: Kind) -> None:
    """Six handles flip without an expectation: every version is its own, and none is lost."""
    handles = [kind.open() for _ in range(6)]
    handles[0].flip(off("first"), None, None)

    def flip(place: int) -> list[int]:
        return [handles[place].flip(off(f"f{place}"), None, None).version for _ in range(10)]

    made = in_threads(6, flip)
    assert all(isinstance(each, list) for each in made), made
    versions = [version for each in made for version in each]
    assert len(set(versions)) == 60
    logged = [flip.version for flip in kind.open().log(None, 100)]
    assert set(versions) < set(logged)
    assert logged == sorted(logged, reverse=True)
    there = flips_of(kind.open())
    assert [there[f"flag/f{place}"].version for place in range(6)] == [each[-1] for each in made]


@pytest.mark.parametrize("round", range(4))
def test_those_who_open_a_new_store_at_once_all_flip(kind: Kind, round: int) -> None:
    """Who makes the file of a new host does not fail for others who make it too."""
    ends = in_threads(8, lambda place: kind.open().flip(off(f"f{place}"), None, 0))
    assert [type(end) for end in ends] == [Flip] * 8, ends
    lives = {kind.open().read("", -1).incarnation for _ in range(3)}
    assert len(lives) == 1
    until(lambda: len(flips_of(kind.open())) == 8)
