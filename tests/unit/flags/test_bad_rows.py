"""One bad row holds up no other: whatever stands in a store, and wherever."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient.flags.flip import Flip
from resilient.flags.journal import LONGEST
from resilient.flags.operations import living, order
from resilient.flags.presence import Presence
from resilient.flags.stores.base import Process
from resilient.flags.stores.records import process_of, read_json
from resilient.flags.stores.redis import RedisStore
from resilient.flags.stores.sqlite import SQLiteStore
from tests.kit.followers import Make, off
from tests.kit.servers.redis_server import RedisServer

DEEP = b"[" * 200_000
FLIP = b'{"lever":"flag/bad","value":"off","version":1}'
HUGE = b"9" * 5000

# What may stand where a flip is to be, in JSON; none of them is one of flag/bad.
FLIPS: dict[str, Any] = {
    "deep": DEEP, "deep in a field": FLIP[:-1] + b',"by":' + b'{"a":' * 100_000,
    "a list": b"[]", "null": b"null", "nothing": b"", "no keys": b"{}", "no text": b"\xff\xfe",
    "cut": FLIP[:-1], "of another": FLIP.replace(b"flag/bad", b"flag/good"),
    "a lever that is a number": FLIP.replace(b'"flag/bad"', b"5"),
    "a value that is a list": FLIP.replace(b'"off"', b"[1]"),
    "until NaN": FLIP[:-1] + b',"until":NaN}', "until infinity": FLIP[:-1] + b',"until":1e999}',
    "a huge number": FLIP[:-1] + b',"until":' + HUGE + b"}",
    "a surrogate for a lever": FLIP.replace(b"flag/bad", b"flag/\\ud800"),
    "a reason that is a number": FLIP[:-1] + b',"reason":7}',
}  # fmt: skip
OF_SQLITE: dict[str, Any] = {
    "a version of NaN": FLIP.replace(b"1}", b"NaN}"),
    "a huge version": FLIP.replace(b"1}", HUGE + b"}"),
    "a version below zero": FLIP.replace(b"1}", b"-1}"),
    "a number": 5, "a fraction": 1.5, "a blob": memoryview(b"\x00\x01\x02"),
}  # fmt: skip
OF_REDIS: dict[str, bytes] = {
    "no head": FLIP, "short": b"1", "at NaN": b"1 nan - " + FLIP, "at x": b"1 x - " + FLIP,
    "a huge version": HUGE + b" 1.000 - " + FLIP, "version x": b"x 1.000 - " + FLIP,
    "till infinity": b"1 1.000 inf " + FLIP, "till NaN": b"1 1.000 nan " + FLIP,
    "a version below zero": b"-5 1.000 - " + FLIP, "version inf": b"inf 1 - " + FLIP,
}  # fmt: skip


class Spoilt:
    """A store in which anything may be put."""

    def __init__(self, path: Path, redis: RedisServer | None) -> None:
        self.redis = redis
        self.path = str(path / "flags.db")
        self.store: Any = SQLiteStore(self.path) if redis is None else RedisStore(redis.url)

    def sql(self, statement: str, *values: Any) -> None:
        """Change the file by other means."""
        db = sqlite3.connect(self.path)
        with db:
            db.execute(statement, values)
        db.close()

    def put(self, raw: Any) -> None:
        """Put something in the place of the flip of flag/bad."""
        if self.redis is not None:
            self.redis.send("HSET", "{resilient}:levers", "flag/bad", raw)
            newest = str(int(time.time() * 1000) + 10**6)
            self.redis.send("HSET", "{resilient}:meta", "version", newest)
        else:
            text = "CAST(? AS TEXT)" if type(raw) is bytes else "?"
            self.sql(f"INSERT OR REPLACE INTO levers VALUES ('flag/bad', 7, '', {text})", raw)  # noqa: S608 - nothing but the test writes it
            self.sql(f"INSERT INTO log (lever, flip) VALUES ('flag/bad', {text})", raw)  # noqa: S608 - nothing but the test writes it

    def join(self, id: Any, seen: Any, applied: Any, who: Any, about: Any) -> None:
        """Put a process there."""
        if self.redis is None:
            row = id, seen, applied, who, about
            self.sql("INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?, ?)", *row)
            return
        name = id if isinstance(id, bytes) else str(id)
        self.redis.send("HSET", "{resilient}:processes", name, f"{seen} {applied}")
        whole = who if not who.startswith("{") else f'{who[:-1]},"about":{about}}}'
        self.redis.send("HSET", "{resilient}:about", name, whole)


@pytest.fixture(params=["sqlite", "redis"])
def spoilt(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Spoilt]:
    """Every store that others can write, with one flip in it."""
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None
    made = Spoilt(tmp_path, server)
    made.store.flip(off("good"), None, None)
    yield made
    made.store.close()


def in_both(spoilt: Spoilt, raw: Any) -> Any:
    """Return a row as the store in hand would have it."""
    return raw if spoilt.redis is None else b"1 1.000 - " + raw


@pytest.mark.parametrize("what", FLIPS)
def test_a_flip_that_is_none(spoilt: Spoilt, hand: Make, what: str) -> None:
    """The others are read and obeyed; the lever is told of, can be flipped, and is well again."""
    spoilt.put(in_both(spoilt, FLIPS[what]))
    check(spoilt, hand)


@pytest.mark.parametrize("what", [*OF_SQLITE, *OF_REDIS])
def test_a_row_that_is_none(
    request: pytest.FixtureRequest, tmp_path: Path, hand: Make, what: str
) -> None:
    """The same of what only one of the stores can have."""
    server = None if what in OF_SQLITE else request.getfixturevalue("redis_server")
    spoilt = Spoilt(tmp_path, server)
    spoilt.store.flip(off("good"), None, None)
    spoilt.put((OF_SQLITE if server is None else OF_REDIS)[what])
    check(spoilt, hand)
    spoilt.store.close()


def check(spoilt: Spoilt, hand: Make) -> None:
    """See that flag/good is obeyed, flag/bad told of, and that it can be put right."""
    one = hand(lambda: spoilt.store, "good", "bad", "more")
    one.turn()
    assert not one.follower.error
    assert (one.says("good"), one.says("bad")) == (False, True)
    assert list(one.follower.unread) == ["flag/bad"]
    assert "flag/bad" in one.follower.about()["faults"]
    assert any("flag/bad" in each for each in spoilt.store.unreadable())
    assert "flag/good" in {flip.lever for flip in spoilt.store.log(None, 10)}
    order(spoilt.store, "flag/more", "off", by="ann", reason="r")
    order(spoilt.store, "flag/bad", "off", by="ann", reason="r")
    one.turn()
    assert (one.says("more"), one.says("bad")) == (False, False)
    assert one.follower.unread == {}
    assert "faults" in one.follower.about()
    assert not one.follower.about()["faults"]


WHO = json.dumps({"host": "h", "pid": 1, "program": "p"})
PROCESSES: dict[str, tuple[Any, ...]] = {
    "deep": ("2b", 1.0, 1, DEEP.decode(), DEEP.decode()),
    "a list": ("2b", 1.0, 1, "[]", "[]"),
    "seen never": ("2b", "nan", 1, WHO, "{}"),
    "seen for ever": ("2b", "inf", 1, WHO, "{}"),
    "seen before time": ("2b", -5.0, 1, WHO, "{}"),
    "applied nothing": ("2b", 1.0, "x", WHO, "{}"),
    "applied infinity": ("2b", 1.0, "inf", WHO, "{}"),
    "applied too much": ("2b", 1.0, 10**16, WHO, "{}"),
    "a pid that is none": ("2b", 1.0, 1, WHO.replace("1", '"1"'), "{}"),
    "a name that is no text": (b"\xff", 1.0, 1, WHO, "{}"),
    "NaN": ("2b", 1.0, 1, WHO, '{"flags": NaN}'),
    "a huge number": ("2b", 1.0, 1, WHO, '{"tier":' + "9" * 5000 + "}"),
}


@pytest.mark.parametrize("what", PROCESSES)
def test_a_process_that_is_none(spoilt: Spoilt, tmp_path: Path, what: str) -> None:
    """The others are counted, with what they say; that one is told of."""
    spoilt.store.beat(Process("1a", host="h", pid=7), about=True)
    spoilt.join(*PROCESSES[what])
    assert [each.id for each in living(spoilt.store, Presence(tmp_path))[0]] == ["1a"]
    assert any("process" in each for each in spoilt.store.unreadable())


@pytest.mark.parametrize(
    "about",
    [
        {"policies": {"p": {"state": "closed", "owner": "", "impact": "", "tier": None,
                            "patches": [1]}}},
        {"policies": {"p": {"state": "closed", "owner": "", "impact": "", "tier": None,
                            "patches": {"x": {"y": []}}}}},
        {"faults": {"flag/a": {"deep": [1]}}, "unmatched": [{"a": 1}], "copy_error": [3]},
        {"flags": {"f": 5, "g": {"on": "yes"}}, "policies": [], "faults": 7, "unmatched": "x"},
    ],
)  # fmt: skip
def test_what_a_process_says_is_of_the_type_that_is_read(about: Any) -> None:
    """Whatever the shape, what is taken of it is text where text is printed."""
    made = process_of("1a", json.loads(WHO), about, applied=1, seen=1.0)
    assert made is not None
    assert all(type(each) is str for each in made.about["unmatched"])
    assert all(type(each) is str for each in made.about["faults"].values())
    assert type(made.about["copy_error"]) is str
    for row in made.about["policies"].values():
        assert all(type(each) is str for each in row["patches"].values())


ENTRIES = {
    "deep": DEEP, "a list": b"[]", "no time": b'{"kind":"opened"}', "no text": b"\xff",
    "NaN": b'{"kind":"opened","at":NaN}', "evidence of infinity":
    b'{"kind":"opened","at":5,"evidence":{"rate":Infinity}}', "at 1e999":
    b'{"kind":"opened","at":1e999}', "a huge number": b'{"kind":"opened","at":' + HUGE + b"}",
    "no kind": b'{"kind":5,"at":5}',
}  # fmt: skip


@pytest.mark.parametrize("what", ENTRIES)
def test_an_entry_of_the_journal_that_is_none(spoilt: Spoilt, what: str) -> None:
    """The others are told."""
    now = time.time()
    spoilt.store.record([{"kind": "opened", "at": now, "policy": "p"}], LONGEST)
    if spoilt.redis is not None:
        spoilt.redis.send("XADD", "{resilient}:journal", "*", "entry", ENTRIES[what])
        spoilt.redis.send("XADD", "{resilient}:journal", "*", "other", "x")
    else:
        spoilt.sql(
            "INSERT INTO journal (at, entry) VALUES (?, CAST(? AS TEXT))", now, ENTRIES[what]
        )
        spoilt.sql("INSERT INTO journal (at, entry) VALUES (?, 5)", now)
    assert [entry["policy"] for entry in spoilt.store.journal(0.0, 100)] == ["p"]


META = [("version", each) for each in (b"abc", b"1e400", b"9" * 400, b"-5", b"nan", b"inf", b"",
                                       b"999999999999999999", b"1.5", b"\xff")]  # fmt: skip
META += [("incarnation", b"\xff"), ("born", b"nan"), ("born", b"x"), ("born", b"9" * 400)]


@pytest.mark.parametrize(("field", "raw"), META)
def test_what_redis_notes_of_itself_is_none(
    redis_server: RedisServer, hand: Make, field: str, raw: bytes
) -> None:
    """Flips are read, made, and given back all the same, and versions go on."""
    store = RedisStore(redis_server.url)
    known = store.flip(off("good"), None, None)
    redis_server.send("HSET", "{resilient}:meta", field, raw)
    one = hand(lambda: store, "good", "more")
    one.turn()
    assert not one.follower.error
    assert not one.says("good")
    made = store.flip(off("more"), None, None)
    assert made.version >= known.version
    redis_server.send("HSET", "{resilient}:meta", field, raw)
    store.restore([Flip("flag/back", "off", version=made.version + 5)])
    assert {flip.lever for flip in store.read("", -1).flips or []} == {
        "flag/good", "flag/more", "flag/back",
    }  # fmt: skip
    one.turn()
    assert not one.says("more")
    store.close()


@pytest.mark.parametrize("key", ["processes", "about"])
def test_a_key_of_redis_that_is_of_another_kind(
    redis_server: RedisServer, tmp_path: Path, key: str
) -> None:
    """Levers are read and flipped; what is amiss is told."""
    redis_server.send("SET", f"{{resilient}}:{key}", "x")
    store = RedisStore(redis_server.url)
    order(store, "flag/a", "off", by="ann", reason="r")
    assert living(store, Presence(tmp_path))[0] == []
    assert "WRONGTYPE" in " ".join(store.unreadable())
    store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE levers SET version = 'x'", "UPDATE levers SET version = 1e300",
        "UPDATE levers SET version = -4", "UPDATE about SET incarnation = x'ff'",
        "UPDATE about SET incarnation = CAST(x'ff' AS TEXT)", "DELETE FROM about",
        "INSERT INTO about VALUES ('another')", "UPDATE levers SET request = x'00'",
    ],
)  # fmt: skip
def test_a_column_of_another_kind(tmp_path: Path, hand: Make, statement: str) -> None:
    """SQLite keeps any kind in any column: flips are read and made all the same."""
    spoilt = Spoilt(tmp_path, None)
    spoilt.store.flip(off("good"), None, None)
    spoilt.sql(statement)
    one = hand(lambda: spoilt.store, "good", "more")
    one.turn()
    assert not one.follower.error
    assert not one.says("good")
    spoilt.store.flip(off("more"), None, None)
    one.turn()
    assert not one.says("more")
    spoilt.store.close()


@pytest.mark.parametrize("text", [DEEP, b"NaN", b"[1e999]", b"\xff", 5, None, b"-Infinity"])
def test_json_that_anybody_wrote(text: Any) -> None:
    """It is a plain value, or a ValueError."""
    with pytest.raises(ValueError):
        read_json(text)
