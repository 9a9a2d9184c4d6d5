"""`policies set`: checked before it is recorded, and several options as one."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from resilient.flags.flip import Flip
from resilient.flags.operations import order_all
from resilient.flags.stores.base import ConflictError
from resilient.flags.stores.memory import MemoryStore
from resilient.flags.stores.redis import RedisStore
from resilient.flags.stores.sqlite import SQLiteStore
from tests.kit.command import Cli
from tests.kit.servers.redis_server import RedisServer
from tests.kit.waiting import until
from tests.kit.workers import Worker

A, B = "option/shop/bulkhead.max_concurrent", "option/shop/bulkhead.max_waiting"


def unrecorded(cli: Cli) -> None:
    """Check that nothing was recorded."""
    assert cli("flags", "log", "--json").said(0).json == []


def test_several_at_once(cli: Cli, worker: Worker) -> None:
    """Options that mean nothing without each other are set in one command, and taken back so."""
    words = ("bulkhead.max_concurrent=3", "bulkhead.max_waiting=5", "bulkhead.max_wait=0.5")
    done = cli.flip("policies", "set", "shop", *words)
    done.said(0, *(f"{word.replace('=', ' = ')} by ana" for word in words), "applied by 1 of 1")
    said = worker.ask("bulkhead")
    assert all(each in said for each in ("'max_concurrent': 3", "'max_waiting': 5", "0.5"))
    assert len(cli("flags", "log", "--json").json) == 3
    names = [word.partition("=")[0] for word in words]
    cli.flip("policies", "unset", "shop", *names).said(0)
    assert "'max_concurrent': 10" in worker.ask("bulkhead")
    again = cli.flip("policies", "set", "shop", *words, "--json").said(0).json
    assert [flip["value"] for flip in again["flips"]] == [3, 5, 0.5]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("bulkhead.max_wait=1", "max_waiting must be at least 1 where max_wait is given"),
        ("bulkhead.max_concurrent=none", "max_concurrent must be an int"),
        ("bulkhead.order=random", "order must be"),
        ("bulkhead.max_concurent=1", "did you mean 'max_concurrent'"),
        ("bulkhed.max_concurrent=1", "did you mean 'bulkhead'"),
        ("circuit_breaker.window=-1", "window must be"),
        ("circuit_breaker.on=x", "on can't change at run time"),
        ("circuit_breaker.metrics_only=perhaps", "metrics_only must be"),
        ("kill_switch.flag=x", "shop has no guard 'kill_switch'"),
    ],
)
def test_one_that_is_wrong_stops_all(cli: Cli, worker: Worker, bad: str, why: str) -> None:
    """Name, value and bounds are checked by the guard itself; nothing of the command is recorded."""
    for words in ((bad,), ("bulkhead.max_concurrent=3", bad), (bad, "bulkhead.max_concurrent=3")):
        if len({word.partition("=")[0] for word in words}) == len(words):
            cli.flip("policies", "set", "shop", *words).said(2, "nothing was recorded", why)
    unrecorded(cli)
    assert "'max_concurrent': 10" in worker.ask("bulkhead")


def test_what_is_set_already_counts(cli: Cli, worker: Worker) -> None:
    """An option is checked beside those that hold now."""
    cli.flip("policies", "set", "shop", "bulkhead.max_waiting=5").said(2, "max_wait")
    cli.flip("policies", "set", "shop", "bulkhead.max_waiting=5", "bulkhead.max_wait=1").said(0)
    until(lambda: "'max_waiting': 5" in worker.ask("bulkhead"))
    until(lambda: cli.flip("policies", "set", "shop", "bulkhead.max_waiting=6").code == 0)


def test_twice_the_same_is_refused(cli: Cli, worker: Worker) -> None:
    """Which one is meant can't be known."""
    words = ("bulkhead.max_concurrent=3", "bulkhead.max_concurrent=4")
    cli.flip("policies", "set", "shop", *words).said(2, "bulkhead.max_concurrent is given twice")
    unrecorded(cli)


def test_every_process_is_asked(cli: Cli, make: Callable[..., Worker], worker: Worker) -> None:
    """What one of them could not obey is not ordered, whoever else could."""
    make(WORKER_BULKHEAD="")
    cli.applied_by(2)
    done = cli.flip("policies", "set", "shop", "bulkhead.max_concurrent=3")
    done.said(2, "nothing was recorded: shop has no guard 'bulkhead'")


# -- stores ------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest) -> object:
    """Each store that can be written to."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "sqlite":
        return SQLiteStore(str(request.getfixturevalue("database")))
    server: RedisServer = request.getfixturevalue("redis_server")
    return RedisStore(server.url)


def levers(store: object) -> dict[str, object]:
    """Return what holds."""
    flips = store.read("", -1).flips  # type: ignore[attr-defined]
    return {flip.lever: flip.value for flip in flips or []}


def test_all_or_none(store: MemoryStore) -> None:
    """Where somebody was quicker with one of them, none is recorded."""
    first, second = (Flip(lever, 1, request=uuid4().hex) for lever in (A, B))
    made = store.flip_all([first, second], 60.0, [0, 0])
    assert made[1].version > made[0].version
    assert all(flip.until is not None for flip in made)
    assert [flip.version for flip in store.flip_all([first, second], 60.0, [0, 0])] == [
        flip.version for flip in made  # the same request again: recorded once
    ]  # fmt: skip
    later = [Flip(A, 2, request=uuid4().hex), Flip(B, 2, request=uuid4().hex)]
    with pytest.raises(ConflictError) as caught:
        store.flip_all(later, None, [made[0].version, 7])
    assert caught.value.now.lever == B
    assert levers(store) == {A: 1, B: 1}
    assert len(store.log(None, 10)) == 2
    store.flip_all(later, None, [flip.version for flip in made])
    assert levers(store) == {A: 2, B: 2}
    assert [flip.lever for flip in store.log(None, 10)] == [B, A, B, A]
    store.close()


def test_only_what_changes_is_recorded(store: MemoryStore) -> None:
    """Of several that are ordered, those that hold already are left as they are."""
    order_all(store, {A: 1}, by="ana", reason="one")
    done = order_all(store, {A: 1, B: 2}, by="bob", reason="two")
    assert [(each.changed, each.flip.by) for each in done] == [(False, "ana"), (True, "bob")]
    assert len(store.log(None, 10)) == 2
    store.close()
