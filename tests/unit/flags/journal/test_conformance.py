"""What every store promises of its journal, of each store that there is."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from resilient.errors import StoreError
from resilient.flags.flip import Flip
from resilient.flags.journal import LONGEST
from resilient.flags.stores.file import FileStore
from resilient.flags.stores.redis import RedisStore
from resilient.flags.stores.sqlite import SQLiteStore
from tests.kit.servers.redis_server import RedisServer
from tests.unit.flags.journal.kit import Kind, entry


def numbers(found: list[dict[str, Any]]) -> list[int]:
    """Return the numbers of some entries."""
    return [each["number"] for each in found]


def test_nothing_was_ever_told(kind: Kind) -> None:
    """A new store has an empty journal, and looking at it writes nothing."""
    assert kind.open().journal(0.0, 100) == []
    assert kind.name != "sqlite" or not kind.path.exists()


def test_no_entry_is_no_fault(kind: Kind) -> None:
    """To tell nothing does nothing."""
    kind.open().record([], 10)
    assert kind.open().journal(0.0, 100) == []


def test_entries_are_kept_as_they_are(kind: Kind) -> None:
    """All that was told is there, for every handle, oldest first."""
    told = [
        entry(n, at=1000.0 + n, evidence={"calls": n, "exceptions": {"Ä'\"\n": 1}, "x": None})
        for n in range(5)
    ]
    kind.open().record(told[:2], 100)
    kind.open().record(told[2:], 100)
    assert kind.open().journal(0.0, 100) == told


def test_since_and_most(kind: Kind) -> None:
    """From a moment on, that one included, and of them the newest."""
    kind.open().record([entry(n, at=1000.0 + n) for n in range(10)], 100)
    store = kind.open()
    assert numbers(store.journal(1004.0, 100)) == [4, 5, 6, 7, 8, 9]
    assert numbers(store.journal(1004.5, 3)) == [7, 8, 9]
    assert numbers(store.journal(0.0, 1)) == [9]
    assert store.journal(1009.5, 100) == []


def test_the_newest_are_kept(kind: Kind) -> None:
    """Ten thousand, and not many more; what goes is the oldest."""
    store = kind.open()
    for first in range(0, LONGEST + 1500, 500):
        store.record([entry(n, at=1000.0 + n) for n in range(first, first + 500)], LONGEST)
    found = numbers(kind.open().journal(0.0, LONGEST))
    assert found == list(range(1500, LONGEST + 1500))
    assert LONGEST <= kind.length() <= LONGEST + 200


def test_two_at_once(kind: Kind) -> None:
    """Handles that write in turns lose nothing, and each one's order stays."""
    one, other = kind.open(), kind.open()
    for n in range(20):
        (one, other)[n % 2].record([entry(n, at=1000.0, process=str(n % 2))], 100)
    found = kind.open().journal(0.0, 100)
    assert sorted(numbers(found)) == list(range(20))
    for process in "01":
        mine = [each["number"] for each in found if each["process"] == process]
        assert mine == sorted(mine)


def test_what_comes_late_is_in_its_place(kind: Kind) -> None:
    """A process that could not reach the store tells what happened before."""
    kind.open().record([entry(n, at=1000.0 + n) for n in (5, 6)], 100)
    kind.open().record([entry(n, at=1000.0 + n) for n in (1, 2)], 100)
    assert numbers(kind.open().journal(0.0, 100)) == [1, 2, 5, 6]
    if kind.name != "redis":  # which finds the newest by when they came
        assert numbers(kind.open().journal(0.0, 1)) == [6]


def test_what_was_given_is_a_copy(kind: Kind) -> None:
    """Who changes what was told, or what was read, changes nothing there."""
    told = entry(1)
    kind.open().record([told], 100)
    kept = json.loads(json.dumps(told))
    told["kind"] = "changed"
    kind.open().journal(0.0, 100)[0]["kind"] = "changed"
    assert kind.open().journal(0.0, 100) == [kept]


GARBAGE: dict[str, str | bytes] = {
    "no json": "nonsense", "empty": "", "not utf-8": b"\xff\xfe", "a list": "[1]", "a number": "5",
    "null": "null", "nested": "[" * 100_000, "no time": '{"kind": "opened"}',
    "no kind": '{"at": 1.0}', "a kind that is none": '{"at": 1.0, "kind": 5}',
    "a time that is none": '{"at": "noon", "kind": "opened"}',
    "null as time": '{"at": null, "kind": "opened"}',
}  # fmt: skip
STRANGE: dict[str, str] = {
    "the end of time": json.dumps(entry(at=1e300)),
    "infinity": json.dumps(entry(at=float("inf"))),
    "not a number": json.dumps(entry(at=float("nan"))),
    "before all": json.dumps(entry(at=-1e18)),
    "a long number": '{"at": 1' + "0" * 400 + ', "kind": "opened"}',
}


@pytest.mark.parametrize("what", GARBAGE)
@pytest.mark.parametrize("kind", ["sqlite", "redis"], indirect=True)
def test_garbage_is_left_out(kind: Kind, what: str) -> None:
    """What is no entry hides none that is, and is no reason for anything."""
    store = kind.open()
    store.record([entry(1)], 100)
    kind.spoil(GARBAGE[what])
    store.record([entry(2)], 100)
    assert numbers(kind.open().journal(0.0, 100)) == [1, 2]


@pytest.mark.parametrize(
    ("kind", "what"),
    [*(("sqlite", what) for what in STRANGE), ("redis", "a long number"), ("redis", "infinity")],
    indirect=["kind"],
)
def test_a_time_that_no_clock_shows_is_left_out(kind: Kind, what: str) -> None:
    """It would break whoever turns it into words."""
    store = kind.open()
    store.record([entry(1)], 100)
    kind.spoil(STRANGE[what])
    assert numbers(kind.open().journal(0.0, 100)) == [1]


@pytest.mark.parametrize("kind", ["redis"], indirect=True)
def test_a_store_that_is_another_kind_of_thing(kind: Kind) -> None:
    """A key of another type is an error of the store's, and not of Python's."""
    assert kind.redis is not None
    kind.redis.send("SET", "{resilient}:journal", "x")
    with pytest.raises(StoreError):
        kind.open().record([entry()], 100)
    with pytest.raises(StoreError):
        kind.open().journal(0.0, 100)
    made = kind.open().flip(Flip("flag/x", "off", by="a", reason="b"), None, None)
    assert made.version > 0


def test_redis_that_is_down(redis_server: RedisServer) -> None:
    """Each call raises what a store raises, and waits for no Redis to come."""
    store = RedisStore(redis_server.url)
    redis_server.kill()
    for act in (lambda: store.record([entry()], 100), lambda: store.journal(0.0, 100)):
        with pytest.raises(StoreError):
            act()
    store.close()


OLD = """
CREATE TABLE about (incarnation TEXT NOT NULL);
CREATE TABLE levers (
  lever TEXT PRIMARY KEY, version INTEGER NOT NULL, request TEXT NOT NULL, flip TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX levers_version ON levers (version);
CREATE TABLE log (
  number INTEGER PRIMARY KEY AUTOINCREMENT, lever TEXT NOT NULL, flip TEXT NOT NULL
);
CREATE TABLE processes (
  id TEXT PRIMARY KEY, seen REAL NOT NULL, applied INTEGER NOT NULL, who TEXT NOT NULL,
  about TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO about VALUES ('old');
PRAGMA user_version = 1;
"""


def test_a_file_that_an_older_version_made(tmp_path: Path) -> None:
    """It has no table yet: reading finds nothing, the first entry makes it, the version stays."""
    path = tmp_path / "flags.db"
    with sqlite3.connect(path) as db:
        db.executescript(OLD)
    db.close()
    old, store = SQLiteStore(str(path)), SQLiteStore(str(path))
    old.read("", -1)
    assert store.journal(0.0, 10) == []
    store.record([entry(1)], 10)
    assert numbers(store.journal(0.0, 10)) == [1]
    old.flip(Flip("flag/x", "off", by="a", reason="b"), None, None)  # open since before
    assert [flip.lever for flip in old.read("", -1).flips or []] == ["flag/x"]
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()
    old.close()
    store.close()


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """Reading goes on; telling is an error of the store's."""
    path = tmp_path / "flags.db"
    store = SQLiteStore(str(path))
    store.record([entry(1)], 10)
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE journal")
        db.execute("CREATE VIEW journal AS SELECT 1 AS number")
    db.close()
    other = SQLiteStore(str(path))
    for act in (lambda: other.record([entry()], 10), lambda: other.journal(0.0, 10)):
        with pytest.raises(StoreError):
            act()
    other.close()


def test_a_store_of_a_file_keeps_none(tmp_path: Path) -> None:
    """It is read and never written: telling it is no error, and nothing comes back."""
    path = tmp_path / "flags.toml"
    path.write_text("")
    store = FileStore(str(path))
    store.record([entry()], 10)
    assert store.journal(0.0, 10) == []
    assert path.read_text() == ""
