"""The command line on Redis: a smoke set, outages, passwords, and answers that never come."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.command import Cli
from tests.kit.servers.redis_server import RedisServer, redis_program
from tests.kit.waiting import until
from tests.kit.workers import Worker
from tests.unit.cli.silencer import Silencer

SECRET = "Hunter2secret"


@pytest.fixture
def one(fleet: Cli, make: Callable[..., Worker]) -> Worker:
    """One process that follows the Redis, and is known there."""
    worker = make(fleet)
    fleet.applied_by(1)
    return worker


def test_every_command_works_on_redis(fleet: Cli, one: Worker) -> None:
    """The same commands do the same on Redis."""
    fleet.flip("flags", "off", "recs", "--for", "1h").said(0, "off until ", "applied by 1 of 1")
    assert one.ask("read") == "False"
    fleet.flip("flags", "off", "recs", "--for", "2h", "--json", reason="longer").said(0)
    row = fleet.flag("recs")
    assert row["until"] - row["since"] == pytest.approx(7200, abs=0.01)
    fleet.flip("policies", "force-open", "shop").said(0, "applied by 1 of 1")
    fleet.flip("policies", "set", "shop", "bulkhead.max_concurrent=3").said(0)
    assert "'max_concurrent': 3" in one.ask("bulkhead")
    fleet("status").said(1, "off: recs", "forced or changed: shop", "1 process; all in step")
    fleet.flip("flags", "on", "recs").said(0)
    fleet.flip("flags", "on", "recs").said(0, "already, since")
    log = fleet("flags", "log", "recs", "--json").said(0).json
    assert [(flip["value"], flip["reason"]) for flip in log] == [
        ("on", "because"), ("off", "longer"), ("off", "because"),
    ]  # fmt: skip
    assert len(fleet("flags", "log", "--json", "--most", "2").json) == 2
    fleet("flags", "show", "recs").said(0, "team-recs", str(one.pid))
    fleet("policies").said(0, "FORCED_OPEN", "bulkhead.max_concurrent=3")
    fleet("processes").said(0, str(one.pid))
    fleet("doctor").said(0, "nothing to complain of")
    fleet("flags", "log", "--most=0").said(2, "--most")


def test_a_timed_flip_lifts_with_the_store_down(
    fleet: Cli, one: Worker, redis_server: RedisServer
) -> None:
    """A flip with an end is over in time, also where Redis is gone meanwhile."""
    fleet.flip("flags", "off", "recs", "--for", "5s").said(0)
    redis_server.kill()
    assert one.ask("read") == "False"
    until(lambda: one.ask("read") == "True")


def test_a_process_that_begins_anew_gives_back_what_redis_lost(
    fleet: Cli, one: Worker, redis_server: RedisServer, make: Callable[..., Worker]
) -> None:
    """Redis loses everything while nobody runs: whoever begins with a local copy gives it back."""
    fleet.flip("flags", "off", "recs", "--by", "ana", reason="INC-1").said(0)
    one.quit()
    redis_server.send("FLUSHALL")
    again = make(fleet)
    assert again.ask("read") == "False"
    fleet.applied_by(1)
    until(lambda: fleet.flag("recs")["state"] == "off")
    row = fleet.flag("recs")
    assert (row["by"], row["reason"], row["applied"]) == ("ana", "INC-1", 1)


def test_a_process_that_died_on_this_host_is_not_counted(fleet: Cli, one: Worker) -> None:
    """On Redis too a lock of this host proves a death, and silence proves none."""
    one.kill()
    assert fleet("processes", "--json").said(0).json == []
    fleet.flip("flags", "off", "recs").said(2, "no process declares")


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_redis_that_is_away(fleet: Cli, one: Worker, redis_server: RedisServer, how: str) -> None:
    """With Redis dead or frozen each command ends with 4, and the process keeps its flags."""
    fleet.flip("flags", "off", "recs").said(0)
    if how == "killed":
        redis_server.kill()
    else:
        redis_server.stop()
    for words in (("flags",), ("status",), ("doctor",), ("flags", "log"), ("forget", "abcd")):
        fleet(*words).said(4, "the store can't be used: ", str(redis_server.port))
    fleet.flip("flags", "on", "recs").said(4)
    assert one.ask("read") == "False"
    redis_server.cont()
    if how == "killed":
        redis_server.start()
    fleet.applied_by(1)
    assert fleet.flag("recs")["state"] == "off", "a store that lost everything is given it back"
    fleet.flip("flags", "on", "recs").said(0, "applied by 1 of 1")
    assert one.ask("read") == "True"


@pytest.mark.parametrize(("lost", "code"), [(1, 0), (2, 6)])
def test_an_answer_that_never_comes(
    fleet: Cli, one: Worker, redis_server: RedisServer, lost: int, code: int
) -> None:
    """A flip whose answer is lost is sent once more, recorded once; lost twice, it exits with 6."""
    silencer = Silencer(redis_server.port, lost)
    try:
        store = f"redis://127.0.0.1:{silencer.port}/0"
        state = str(fleet.home / "state")
        done = fleet.flip("flags", "off", "recs", RESILIENT_STORE=store, RESILIENT_STATE_DIR=state)
    finally:
        silencer.close()
    assert silencer.silenced == lost
    done.said(code, "may or may not" if code else "applied by 1 of 1 process")
    assert len(fleet("flags", "log", "--json").json) == 1
    until(lambda: one.ask("read") == "False")


def test_a_wrong_password_is_refused_and_not_printed(tmp_path: Path) -> None:
    """A password that is wrong, missing or right is never printed."""
    with RedisServer("--requirepass", SECRET) as server:
        port = server.port
        right = Cli(f"redis://:{SECRET}@127.0.0.1:{port}/0", tmp_path)
        done = right.flip("flags", "off", "x", "--declare").said(0)
        seen = right("doctor")
        listed = right("doctor", "--json")
        assert SECRET not in done.out + seen.out + listed.out
        assert "***" in listed.json["store"]
        wrong = Cli(f"redis://:{SECRET}x@127.0.0.1:{port}/0", tmp_path)
        for words in (("flags",), ("flags", "on", "x", "--reason", "x"), ("doctor", "--json")):
            refused = wrong(*words).said(4, "***@127.0.0.1")
            assert SECRET not in refused.out + refused.err
        Cli(f"redis://127.0.0.1:{port}/0", tmp_path)("flags").said(4, "uthent")
        assert right.flag("x")["state"] == "off"


def test_two_prefixes_are_two_stores(fleet: Cli, one: Worker) -> None:
    """?prefix= keeps two applications on one Redis apart."""
    other = Cli(fleet.store + "?prefix=other", fleet.home)
    assert other("flags", "--json").said(0).json == []
    other.flip("flags", "off", "recs", "--declare").said(0)
    assert one.ask("read") == "True"
    assert fleet.flag("recs")["since"] is None


def test_what_is_no_store_of_ours(fleet: Cli, redis_server: RedisServer) -> None:
    """Keys of another kind under our names are an error, not a crash."""
    redis_server.send("SET", "{resilient}:levers", "not a hash")
    fleet("flags").said(4, "WRONGTYPE")
    fleet.flip("flags", "off", "x", "--declare").said(4, "WRONGTYPE")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("processes", "nonsense"),
        ("processes", "now 1"),
        ("processes", "1.0 1 2"),
        ("processes", "nan 1"),
        ("about", "nonsense"),
        ("about", '{"host": "h", "new": 1}'),
        ("about", '{"about": {"flags": []}}'),
        ("levers", "nonsense"),
    ],
)
def test_a_row_that_is_none_breaks_no_command(
    fleet: Cli, one: Worker, redis_server: RedisServer, key: str, value: str
) -> None:
    """Beside a row of another version, or of nobody's, the lists work and flags can be flipped."""
    name = "d" * 32
    if key == "about":
        redis_server.send("HSET", "{resilient}:processes", name, "1.0 1")
    redis_server.send("HSET", f"{{resilient}}:{key}", name, value)
    for words in (("flags",), ("policies",), ("status",), ("doctor",), ("processes",)):
        assert fleet(*words).code in (0, 1, 3), words
    assert fleet.flip("flags", "off", "recs").code in (0, 3)
    assert one.ask("read") == "False"


def test_redis_is_asked_for_where_it_is_needed() -> None:
    """Where RESILIENT_NEED_REDIS=1, these tests do not skip."""
    if os.environ.get("RESILIENT_NEED_REDIS") == "1":
        assert redis_program()
