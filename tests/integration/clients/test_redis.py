"""redis-py, sync and asyncio, wrapped: a real redis-server is frozen, killed and brought back."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
import redis.asyncio

import resilient
from tests.integration.clients.kit import (
    LIMIT,
    MODES,
    AsyncLoad,
    Left,
    Load,
    check_at_rest,
    check_released,
    counted,
    interrupted,
    life_story,
    make_policy,
    outcome,
    plain,
    timed,
)
from tests.kit.servers.process import HOST
from tests.kit.servers.redis_server import RedisServer
from tests.kit.waiting import until

SLACK = {"cooperative": 0.5, "thread": 0.5, "async": 0.5}  # seconds over a call's limit

mode = pytest.mark.parametrize("mode", MODES)


def connections(server: RedisServer) -> Callable[[], int]:
    """Return what counts the connections of others to a server."""
    return lambda: server.send("CLIENT", "LIST").count(b"id=") - 1


def make(server: RedisServer, **options: Any) -> redis.Redis:
    """Return a client of the sort that people have."""
    return redis.Redis(host=HOST, port=server.port, decode_responses=True, **options)


# -- the life story ---------------------------------------------


@mode
def test_life_story(redis_server: RedisServer, mode: str) -> None:
    left = Left(connections(redis_server))
    policy = make_policy(mode, name="redis")
    bare = make(redis_server)
    client = policy.wrap(bare)
    life_story(
        redis_server, policy, Load(lambda: client.get("key")), slack=SLACK[mode],
        allowed=(redis.ConnectionError, redis.TimeoutError),
    )  # fmt: skip
    client.close()
    left.check()


def test_life_story_of_asyncio(redis_server: RedisServer) -> None:
    left = Left(connections(redis_server))
    policy = make_policy(name="redis")

    @asynccontextmanager
    async def calls() -> Any:
        async with redis.asyncio.Redis(host=HOST, port=redis_server.port) as bare:
            client = policy.wrap(bare)
            yield lambda: client.get("key")

    life_story(
        redis_server, policy, AsyncLoad(calls), slack=SLACK["async"],
        allowed=(redis.ConnectionError, redis.TimeoutError),
    )  # fmt: skip
    left.check()


# -- what is whose fault ---------------------------------------------


def wrong_type(client: redis.Redis) -> object:
    return client.lpush("text", "x")


def no_such_command(client: redis.Redis) -> object:
    return client.execute_command("NOSUCH")


def bad_data(client: redis.Redis) -> object:
    return client.set("key", object())


def no_script(client: redis.Redis) -> object:
    return client.evalsha("0" * 40, 0)


def script_error(client: redis.Redis) -> object:
    return client.eval("return redis.call('LPUSH', 'text', 'x')", 0)


def lost_race(client: redis.Redis) -> object:
    with client.pipeline() as pipe:
        pipe.watch("text")
        client.set("text", "changed")
        pipe.multi()
        pipe.get("text")
        return pipe.execute()


def not_my_lock(client: redis.Redis) -> object:
    lock = client.lock("lock", timeout=10)
    client.set("lock", "of another")
    lock.local.token = b"mine"
    return lock.release()


def lock_not_held(client: redis.Redis) -> object:
    return client.lock("nobody").release()


OWN = {
    wrong_type: redis.ResponseError,
    no_such_command: redis.ResponseError,
    bad_data: redis.DataError,
    no_script: redis.exceptions.NoScriptError,
    script_error: redis.ResponseError,
    lost_race: redis.WatchError,
    not_my_lock: redis.exceptions.LockNotOwnedError,
    lock_not_held: redis.exceptions.LockError,
}


@mode
@pytest.mark.parametrize("ask", OWN, ids=lambda ask: ask.__name__)
def test_the_callers_own_errors(redis_server: RedisServer, mode: str, ask: Any) -> None:
    policy, bare = make_policy(mode), make(redis_server)
    client = policy.wrap(bare)
    client.set("text", "x")
    with pytest.raises(OWN[ask]) as alone:
        ask(bare)
    with counted(policy) as found:
        for _ in range(20):
            with pytest.raises(OWN[ask]) as raised:
                ask(client)
            assert (type(raised.value), str(raised.value)) == (type(alone.value), str(alone.value))
    assert not {"failure", "refused"} & set(found), found
    assert policy.state == "closed"
    bare.close()


def test_a_full_server_fails(redis_server: RedisServer) -> None:
    policy, bare = make_policy("cooperative"), make(redis_server)
    client = policy.wrap(bare)
    bare.config_set("maxmemory", "1")
    try:
        for _ in range(4):
            found, error = outcome(policy, lambda: client.set("key", "x" * 1000))
            assert (found, type(error)) == ({"failure": 1}, redis.OutOfMemoryError)
        assert policy.state == "open"
    finally:
        bare.config_set("maxmemory", "0")
    bare.close()


@pytest.mark.parametrize("raw", [False, True])
def test_a_busy_server_fails(redis_server: RedisServer, raw: bool) -> None:
    # BUSY: a script runs for longer than the server bears.
    policy, bare = make_policy("cooperative", limit=2.0), make(redis_server)
    client = policy.wrap(bare)
    bare.config_set("busy-reply-threshold", "50")

    def busy() -> bool:
        try:
            return not bare.ping()
        except redis.ResponseError as error:
            return "BUSY" in str(error)

    other = socket.create_connection((HOST, redis_server.port))
    other.sendall(b'EVAL "while true do end" 0\r\n')
    other.close()
    until(busy)
    try:
        ask = (
            client.pipeline(transaction=False).get("a").execute if raw else lambda: client.get("a")
        )
        found, error = outcome(policy, ask)
        assert (found, type(error).__name__) == ({"failure": 1}, type(error).__name__), error
        assert "BUSY" in str(error)
    finally:
        redis_server.send("SCRIPT", "KILL")
        redis_server.send("CONFIG", "SET", "busy-reply-threshold", "5000")
    bare.close()


def test_a_replica_that_can_not_be_written_fails(redis_server: RedisServer) -> None:
    policy, bare = make_policy("cooperative"), make(redis_server)
    client = policy.wrap(bare)
    bare.replicaof("127.0.0.1", "1")
    try:
        found, error = outcome(policy, lambda: client.set("key", "x"))
        assert (found, type(error)) == ({"failure": 1}, redis.ReadOnlyError)
        bare.config_set("replica-serve-stale-data", "no")
        found, error = outcome(policy, lambda: client.get("key"))
        assert found == {"failure": 1}, error
        assert "MASTER" in str(error)
    finally:
        bare.config_set("replica-serve-stale-data", "yes")
        bare.replicaof("NO", "ONE")
    bare.close()


@pytest.mark.parametrize("transaction", [False, True])
def test_an_error_within_a_pipeline_is_judged_as_alone(
    redis_server: RedisServer, transaction: bool
) -> None:
    policy, bare = make_policy("cooperative"), make(redis_server)
    client = policy.wrap(bare)
    bare.set("text", "x")
    pipe = client.pipeline(transaction=transaction)
    found, error = outcome(policy, pipe.set("other", 1).lpush("text", 1).execute)
    assert (found, type(error)) == ({"ignored": 1}, redis.ResponseError)
    bare.config_set("maxmemory", "1")
    try:
        pipe = client.pipeline(transaction=transaction)
        found, error = outcome(policy, pipe.set("other", 1).set("more", 2).execute)
        assert found == {"failure": 1}, error
    finally:
        bare.config_set("maxmemory", "0")
    bare.close()


# -- deadlines, the library's own limits, its retries ---------------------------------------------


@mode
def test_an_enclosing_deadline_is_kept(redis_server: RedisServer, mode: str) -> None:
    outer, policy = make_policy("cooperative", limit=0.2), make_policy(mode, limit=5.0)
    bare = make(redis_server)
    client = policy.wrap(bare)
    client.get("key")
    redis_server.stop()
    with timed(0.2 + SLACK[mode], 0.15), pytest.raises(resilient.CallTimeoutError) as raised:
        outer.call(lambda: client.get("key"))
    assert raised.value.policy == outer.name
    redis_server.cont()
    check_released(policy)
    assert client.get("key") is None
    bare.close()


@mode
def test_a_shorter_limit_of_its_own_stays(redis_server: RedisServer, mode: str) -> None:
    policy = make_policy(mode, limit=3.0)
    bare = make(
        redis_server, socket_timeout=0.2, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    )
    client = policy.wrap(bare)
    client.get("key")
    redis_server.stop()
    with timed(0.2 + SLACK[mode], 0.15):
        found, error = outcome(policy, lambda: client.get("key"))
    assert (found, type(error)) == ({"failure": 1}, redis.TimeoutError)
    redis_server.cont()
    assert client.get("key") is None
    bare.close()


@mode
@pytest.mark.parametrize("harm", ["stop", "kill"])
def test_its_retries_end_with_the_deadline(redis_server: RedisServer, mode: str, harm: str) -> None:
    policy = make_policy(mode)
    retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 100)
    bare = make(redis_server, socket_timeout=0.1, retry=retry)
    client = policy.wrap(bare)
    client.get("key")
    getattr(redis_server, harm)()
    for _ in range(2):
        with timed(LIMIT + SLACK[mode]):
            found, error = outcome(policy, lambda: client.get("key"))
        assert found == {"failure": 1}
        theirs = redis.TimeoutError if harm == "stop" else redis.ConnectionError
        assert isinstance(error, (resilient.CallTimeoutError, theirs)), error
    redis_server.revive()
    check_released(policy)
    assert client.get("key") is None
    bare.close()


@mode
def test_a_blocking_command_longer_than_the_limit(redis_server: RedisServer, mode: str) -> None:
    left = Left(connections(redis_server))
    policy, bare = make_policy(mode), make(redis_server)
    client = policy.wrap(bare)
    assert client.blpop("list", 0.1) is None
    for _ in range(2):
        with timed(LIMIT + SLACK[mode], 0.25):
            found, error = outcome(policy, lambda: client.blpop("list", 5))
        assert (found, plain(error)) == ({"failure": 1}, resilient.CallTimeoutError)
        check_released(policy)
    bare.rpush("list", "1")
    assert client.blpop("list", 5) == ("list", "1")
    assert client.get("key") is None  # no answer of another call
    client.close()
    left.check()


@mode
@pytest.mark.parametrize("blocking", [False, True])
def test_a_pool_of_one(redis_server: RedisServer, mode: str, blocking: bool) -> None:
    kind = redis.BlockingConnectionPool if blocking else redis.ConnectionPool
    more = {"timeout": 2.0} if blocking else {}
    pool = kind(host=HOST, port=redis_server.port, max_connections=1, **more)
    policy, bare = make_policy(mode), redis.Redis(connection_pool=pool)
    client = policy.wrap(bare)
    assert client.set("key", "1")
    for harm in ("stop", "kill"):
        getattr(redis_server, harm)()
        with (
            timed(LIMIT + SLACK[mode]),
            pytest.raises((resilient.CallTimeoutError, redis.ConnectionError)),
        ):
            client.get("key")
        redis_server.revive()
        check_released(policy)
        until(
            lambda: outcome(policy, client.ping)[1] is True
        )  # its connection is in the pool again
    pool.disconnect()


@mode
def test_waiting_for_the_only_connection_ends_with_the_deadline(
    redis_server: RedisServer, mode: str
) -> None:
    pool = redis.BlockingConnectionPool(
        host=HOST, port=redis_server.port, max_connections=1, timeout=1.5
    )
    policy, bare = make_policy(mode), redis.Redis(connection_pool=pool)
    client = policy.wrap(bare)
    taken = pool.get_connection()
    # The pool of redis-py waits by a limit of its own, which only a worker thread cuts short.
    with (
        timed((LIMIT if mode == "thread" else 1.5) + SLACK[mode]),
        pytest.raises((resilient.CallTimeoutError, redis.ConnectionError)),
    ):
        client.get("key")
    pool.release(taken)
    check_released(policy)
    assert client.get("key") is None
    pool.disconnect()


# -- release ---------------------------------------------


def test_the_worker_of_an_interrupted_caller_ends_at_once(redis_server: RedisServer) -> None:
    # Its own limits are far away: only that its socket was shut down can end it.
    policy = make_policy("thread", limit=30.0)
    bare = make(redis_server)
    client = policy.wrap(bare)
    client.ping()
    interrupted(lambda: client.blpop("list", 30))
    with timed(2.0):
        check_released(policy)
    bare.close()


def test_abandoned_workers_end_while_the_server_is_frozen(redis_server: RedisServer) -> None:
    left = Left()
    policy, bare = make_policy("thread", failures=100), make(redis_server)
    client = policy.wrap(bare)
    with Load(client.ping, 6) as load:
        until(lambda: load.good(0) >= 12)
        redis_server.stop()
        until(lambda: load.kinds()["CallTimeoutError"] >= 6)
    check_released(policy)  # the server is still frozen
    redis_server.cont()
    assert client.ping()
    client.close()
    left.check()


def test_a_worker_in_connect_ends_too(redis_server: RedisServer) -> None:
    policy, bare = make_policy("thread", failures=100), make(redis_server)
    client = policy.wrap(bare)
    redis_server.stop()
    for _ in range(3):
        with timed(LIMIT + SLACK["thread"]), pytest.raises(resilient.CallTimeoutError):
            client.ping()
    check_released(policy)
    redis_server.cont()
    bare.close()


# -- pipelines, scans, subscriptions, locks ---------------------------------------------


@mode
def test_pipelines(redis_server: RedisServer, mode: str) -> None:
    policy, bare = make_policy(mode), make(redis_server)
    client = policy.wrap(bare)
    for transaction in (True, False):
        with client.pipeline(transaction=transaction) as pipe:
            with counted(policy) as found:
                pipe.set("a", 1).incr("a")
                pipe.get("a")
                assert len(pipe) == 3
            assert not found  # nothing was sent
            assert outcome(policy, pipe.execute) == ({"success": 1}, [True, 2, "2"])
    with client.pipeline() as pipe:
        pipe.watch("a")
        value = pipe.get("a")  # at once: it is watched
        pipe.multi()
        pipe.set("a", int(value) + 1)
        assert pipe.execute() == [True]
    assert client.transaction(lambda pipe: pipe.multi() or pipe.incr("a"), "a") == [4]
    check_at_rest(policy)
    bare.close()


@mode
def test_a_pipeline_under_freeze(redis_server: RedisServer, mode: str) -> None:
    policy, bare = make_policy(mode), make(redis_server)
    client = policy.wrap(bare)
    client.ping()
    pipe = client.pipeline()
    pipe.set("a", 1).get("a")
    redis_server.stop()
    with timed(LIMIT + SLACK[mode]):
        assert outcome(policy, pipe.execute)[0] == {"failure": 1}
    redis_server.cont()
    check_released(policy)
    pipe.reset()
    pipe.set("a", 2).get("a")
    assert pipe.execute() == [True, "2"]
    bare.close()


@mode
def test_a_read_of_a_watched_key_has_the_deadline(redis_server: RedisServer, mode: str) -> None:
    policy, bare = make_policy(mode), make(redis_server)
    client = policy.wrap(bare)
    with client.pipeline() as pipe:
        pipe.watch("a")
        redis_server.stop()
        try:
            with timed(LIMIT + SLACK[mode]):
                found, error = outcome(policy, lambda: pipe.get("a"))
            assert isinstance(error, resilient.CallTimeoutError), error
            assert found == {"failure": 1}
        finally:
            redis_server.cont()
        check_released(policy)
    assert client.ping()
    bare.close()


@mode
def test_scan_iter(redis_server: RedisServer, mode: str) -> None:
    policy, bare = make_policy(mode), make(redis_server)
    client = policy.wrap(bare)
    bare.mset({f"key{n}": n for n in range(50)})
    with counted(policy) as found:
        assert set(client.scan_iter("key*", count=10)) == set(bare.keys("key*"))
    assert set(found) <= {"success", "ignored"}  # with "thread" the end of the iterator is a call
    items = client.scan_iter("key*", count=5)
    next(items)
    redis_server.stop()
    with timed(LIMIT + SLACK[mode]), pytest.raises(resilient.CallTimeoutError):
        list(items)
    redis_server.cont()
    check_released(policy)
    items = client.scan_iter("key*", count=5)
    next(items)
    items.close()
    del items
    check_at_rest(policy)
    bare.close()


@mode
def test_pubsub(redis_server: RedisServer, mode: str) -> None:
    left = Left(connections(redis_server))
    policy, bare = make_policy(mode), make(redis_server)
    client = policy.wrap(bare)
    with client.pubsub() as hears:
        hears.subscribe("news")
        assert until(lambda: hears.get_message(timeout=0.1))["type"] == "subscribe"
        assert client.publish("news", "hello") == 1
        assert until(lambda: hears.get_message(timeout=0.1))["data"] == "hello"
        assert hears.get_message(timeout=0.05) is None  # nothing is no failure
        redis_server.stop()
        with timed(LIMIT + SLACK[mode]):
            hears.get_message(timeout=0.1)  # it does not ask the server anything
        redis_server.cont()
        client.publish("news", "again")
        assert until(lambda: hears.get_message(timeout=0.1))["data"] == "again"
    check_at_rest(policy)
    client.close()
    left.check()


def in_a_thread(call: Callable[[], Any]) -> Any:
    """Return what a call gives or raises in another thread."""
    seen: list[Any] = []

    def run() -> None:
        try:
            seen.append(call())
        except Exception as error:
            seen.append((type(error), str(error)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(5)
    return seen[0]


@mode
def test_locks(redis_server: RedisServer, mode: str) -> None:
    # A lock keeps its token for each thread: it must not be set in a worker.
    policy, bare = make_policy(mode), make(redis_server)
    client = policy.wrap(bare)
    lock = client.lock("lock", timeout=10)
    assert lock.acquire(blocking=False)
    assert lock.owned()
    assert lock.locked()
    assert not client.lock("lock").acquire(blocking=False)
    assert lock.extend(5)
    assert lock.reacquire()
    lock.release()
    with client.lock("lock", timeout=10) as held:
        assert held.owned()
    assert client.get("lock") is None
    # One thread's token is not another's, with a limit or without.
    assert lock.acquire()
    alone = bare.lock("lock")
    alone.local.token = lock.local.token
    assert in_a_thread(lock.owned) == in_a_thread(alone.owned)
    lock.release()
    check_at_rest(policy)
    bare.close()


@mode
def test_a_lock_that_another_holds_is_waited_for_until_the_deadline(
    redis_server: RedisServer, mode: str
) -> None:
    policy, bare = make_policy(mode), make(redis_server)
    client = policy.wrap(bare)
    assert bare.lock("lock", timeout=10).acquire()
    with timed(LIMIT + SLACK[mode], 0.25):
        _found, answer = outcome(policy, lambda: client.lock("lock").acquire(blocking_timeout=3))
    assert isinstance(answer, resilient.CallTimeoutError), answer
    assert bare.get("lock")  # still of the other
    check_released(policy)
    bare.close()


@mode
def test_the_release_of_a_lock_is_never_refused(redis_server: RedisServer, mode: str) -> None:
    policy, bare = make_policy(mode), make(redis_server)
    client = policy.wrap(bare)
    lock = client.lock("lock", timeout=10)
    assert lock.acquire()
    policy.force_open()
    lock.release()
    policy.release()
    assert bare.get("lock") is None
    redis_server.stop()
    with timed(LIMIT + SLACK[mode]):
        client.close()
    redis_server.cont()


@mode
def test_two_policies_on_one_client_and_clients_on_one_pool(
    redis_server: RedisServer, mode: str
) -> None:
    bare = make(redis_server)
    bare.ping()  # a connection that was made before the client was wrapped
    one, two = make_policy(mode, limit=LIMIT), make_policy(mode, limit=2 * LIMIT)
    first, second = one.wrap(bare), two.wrap(redis.Redis(connection_pool=bare.connection_pool))
    assert first.ping()
    assert second.ping()
    assert bare.ping()
    redis_server.stop()
    with timed(LIMIT + SLACK[mode]), pytest.raises(resilient.CallTimeoutError):
        first.get("key")
    with timed(2 * LIMIT + SLACK[mode], 0.5), pytest.raises(resilient.CallTimeoutError):
        second.get("key")
    redis_server.cont()
    check_released(one)
    check_released(two)
    assert bare.connection_pool.get_connection().socket_timeout == make(
        redis_server
    ).get_connection_kwargs().get("socket_timeout")
    bare.close()


# -- asyncio ---------------------------------------------


async def in_asyncio(server: RedisServer) -> None:
    policy = make_policy()
    async with redis.asyncio.Redis(host=HOST, port=server.port, decode_responses=True) as bare:
        client = policy.wrap(bare)
        await client.set("text", "x")
        with counted(policy) as found:
            for _ in range(20):
                with pytest.raises(redis.ResponseError):
                    await client.lpush("text", 1)
                with pytest.raises(redis.exceptions.LockError):
                    await client.lock("nobody").release()
        assert set(found) <= {"ignored", "success"}, found
        async with client.pipeline() as pipe:
            pipe.set("a", 1).incr("a")
            assert await pipe.execute() == [True, 2]
        async with client.pipeline() as pipe:
            await pipe.watch("a")
            assert await pipe.get("a") == "2"
            pipe.multi()
            pipe.set("a", 5)
            await client.set("a", 3)
            with pytest.raises(redis.WatchError):
                await pipe.execute()
        assert await client.transaction(lambda pipe: pipe.multi() or pipe.incr("a"), "a") == [4]
        assert [key async for key in client.scan_iter("te*")] == ["text"]
        async with client.lock("lock", timeout=5) as lock:
            assert await lock.owned()
        async with client.pubsub() as hears:
            await hears.subscribe("news")
            assert (await hears.get_message(timeout=1))["type"] == "subscribe"
            await client.publish("news", "hello")
            assert (await hears.get_message(timeout=1))["data"] == "hello"
        with timed(LIMIT + SLACK["async"], 0.25), pytest.raises(resilient.CallTimeoutError):
            await client.blpop("list", 5)
        await bare.rpush("list", "1")
        assert await client.blpop("list", 5) == ("list", "1")
        server.stop()
        pipe = client.pipeline().get("a")
        scan = client.scan_iter()
        for ask in (pipe.execute, scan.__anext__, lambda: client.get("text")):
            with timed(LIMIT + SLACK["async"], 0.25), pytest.raises(resilient.CallTimeoutError):
                await ask()
        server.cont()
        assert await client.get("text") == "x"
    check_at_rest(policy)


def test_asyncio(redis_server: RedisServer) -> None:
    left = Left(connections(redis_server))
    asyncio.run(in_asyncio(redis_server))
    left.check()
