"""redis.Redis, bare and wrapped."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
import warnings
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.transparency.harness import (
    MODES,
    Operations,
    Side,
    few,
    inspect_pair,
    play,
    policy_of,
    same,
)
from tests.kit.servers.redis_server import RedisServer

operation = Operations()
keys = st.sampled_from(["a", "b", "c"])
values = st.sampled_from(["1", "x", b"\xff", 7, 1.5, "", [1], None, object])
fields = st.sampled_from(["f", "g"])
errors = st.sampled_from([ValueError("in the body"), redis.ConnectionError("in the body"), None])


@operation(key=keys, value=values)
def set_(side: Side, key: str, value: Any) -> Any:
    return side.client.set(key, value)


@operation(key=keys)
def get(side: Side, key: str) -> Any:
    return side.client.get(key)


@operation(key=keys, by=st.sampled_from([1, "x"]))
def incr(side: Side, key: str, by: Any) -> Any:
    return side.client.incr(key, by)


@operation(key=keys, more=st.lists(values, max_size=3))
def lpush(side: Side, key: str, more: list[Any]) -> Any:
    return side.client.lpush(key, *more)


@operation(key=keys, field=fields, value=values)
def hset(side: Side, key: str, field: str, value: Any) -> Any:
    return side.client.hset(key, field, value)


@operation(key=keys)
def typed(side: Side, key: str) -> Any:
    return side.client.type(key), side.client.exists(key), side.client.ttl(key)


@operation(key=keys)
def reads(side: Side, key: str) -> Any:
    return side.client.hgetall(key), side.client.hkeys(key), side.client.hmget(key, ["f", "z"])


@operation(key=keys)
def ranged(side: Side, key: str) -> Any:
    return side.client.lrange(key, 0, -1)


@operation(key=keys)
def item(side: Side, key: str) -> Any:
    return side.client[key]


@operation(key=keys, value=values)
def set_item(side: Side, key: str, value: Any) -> Any:
    side.client[key] = value


@operation(key=keys)
def del_item(side: Side, key: str) -> Any:
    del side.client[key]


@operation(key=keys)
def contains(side: Side, key: str) -> Any:
    return key in side.client, 5 in side.client


@operation()
def not_iterable(side: Side) -> Any:
    return list(itertools.islice(iter(side.client), 2))


@operation()
def unknown(side: Side) -> Any:
    return side.client.execute_command("NOT-A-COMMAND", "x")


@operation()
def no_such_attribute(side: Side) -> Any:
    return side.client.there_is_no_such_name


@operation()
def wrong_arguments(side: Side) -> Any:
    return side.client.set()


@operation(key=keys)
def wrong_keyword(side: Side, key: str) -> Any:
    return side.client.get(key, nothing_such=1)


@operation(key=keys)
def through_the_class(side: Side, key: str) -> Any:
    return redis.Redis.get(side.client, key)


@operation(key=keys)
def kept_method(side: Side, key: str) -> Any:
    kept = side.client.get
    return kept == side.client.get, kept.__name__, kept.__self__ is side.client, kept(key)


@operation(key=keys, value=values, transaction=st.booleans(), raises=st.booleans())
def pipeline(side: Side, key: str, value: Any, transaction: bool, raises: bool) -> Any:
    pipe = side.client.pipeline(transaction=transaction)
    chained = pipe.set(key, value).incr(key).get(key)
    seen = chained is pipe, len(pipe), bool(pipe), isinstance(pipe, redis.client.Pipeline)
    return seen, pipe.execute(raise_on_error=raises), len(pipe), list(pipe.command_stack)


@operation(key=keys, error=errors)
def pipeline_block(side: Side, key: str, error: Any) -> Any:
    with side.client.pipeline() as pipe:
        pipe.set(key, "2")
        if error is not None:
            raise error.with_traceback(None)
        return pipe.execute()


@operation(key=keys, touch=st.booleans())
def watch(side: Side, key: str, touch: bool) -> Any:
    with side.client.pipeline() as pipe:
        pipe.watch(key)
        before = pipe.get(key)
        if touch:
            side.client.set(key, "touched")
        pipe.multi()
        pipe.set(key, "watched")
        return before, pipe.execute()


@operation()
def watch_wrongly(side: Side) -> Any:
    with side.client.pipeline() as pipe:
        pipe.multi()
        pipe.multi()


@operation(key=keys)
def transaction(side: Side, key: str) -> Any:
    def work(pipe: Any) -> Any:
        pipe.multi()
        pipe.set(key, "3")
        pipe.get(key)
        return "value", isinstance(pipe, redis.client.Pipeline)

    return (
        side.client.transaction(work, key),
        side.client.transaction(work, key, value_from_callable=True),
    )


@operation(key=keys)
def transaction_fails(side: Side, key: str) -> Any:
    def work(pipe: Any) -> Any:
        raise LookupError(key)

    return side.client.transaction(work, key)


@operation(patterns=st.booleans())
def pubsub(side: Side, patterns: bool) -> Any:
    with side.client.pubsub() as sub:
        said = [sub.subscribed, (sub.psubscribe if patterns else sub.subscribe)("ch*")]
        said.append(sub.get_message(timeout=1))
        said.append(side.client.publish("ch*", "hello"))
        said.append(sub.get_message(timeout=1))
        said += [sub.get_message(timeout=0.001), sub.subscribed, sub.channels, sub.patterns]
        return said


@operation(stop=st.integers(1, 3))
def listen(side: Side, stop: int) -> Any:
    sub = side.client.pubsub(ignore_subscribe_messages=True)
    sub.subscribe("l")
    sub.get_message(timeout=1)
    for number in range(3):
        side.client.publish("l", str(number))
    heard = sub.listen()
    got = list(itertools.islice(heard, stop))
    heard.close()
    sub.close()
    return got, [next(heard, "over")], sub.subscribed


@operation()
def handlers(side: Side) -> Any:
    seen: list[Any] = []
    sub = side.client.pubsub()
    sub.subscribe(h=seen.append)
    sub.get_message(timeout=1)
    side.client.publish("h", "for the handler")
    got = sub.get_message(timeout=1)
    sub.unsubscribe()
    sub.close()
    return got, seen


@operation()
def unsubscribed(side: Side) -> Any:
    return side.client.pubsub().parse_response()


@operation(key=keys, error=errors)
def lock(side: Side, key: str, error: Any) -> Any:
    made = side.client.lock(f"lock-{key}", timeout=5, blocking_timeout=0.01)
    with made as held:
        inner = made.locked(), made.owned(), held is made, held == made
        again = side.client.lock(f"lock-{key}", blocking=False).acquire()
        if error is not None:
            raise error.with_traceback(None)
    return inner, again, made.locked(), made.name, made.timeout


@operation(key=keys)
def lock_by_hand(side: Side, key: str) -> Any:
    made = side.client.lock(key, timeout=5, sleep=0.001)
    got = made.acquire(blocking=False), made.extend(1), made.reacquire(), made.owned()
    made.release()
    return got, made.local.token, made.release()


@operation(key=keys)
def lock_lost(side: Side, key: str) -> Any:
    with side.client.lock(f"lost-{key}"):
        side.client.delete(f"lost-{key}")


@operation(key=keys)
def lock_taken(side: Side, key: str) -> Any:
    with side.client.lock("taken", blocking_timeout=0.001), \
            side.client.lock("taken", blocking_timeout=0.001):  # fmt: skip
        return "never here"


@operation(count=st.integers(1, 3), stop=st.integers(0, 6))
def scan(side: Side, count: int, stop: int) -> Any:
    found = side.client.scan_iter("*", count=count)
    got = sorted(itertools.islice(found, stop))
    shape = iter(found) is found, hasattr(found, "send"), hasattr(found, "gi_frame"), type(got)
    found.close()
    return len(got), shape, list(found)


@operation()
def scan_all(side: Side) -> Any:
    return sorted(side.client.scan_iter(count=2)), side.client.dbsize()


@operation()
def scan_thrown(side: Side) -> Any:
    found = side.client.scan_iter()
    next(found, None)
    return found.throw(KeyError("thrown in"))


@operation(key=keys)
def scans(side: Side, key: str) -> Any:
    return sorted(side.client.hscan_iter(key)), sorted(side.client.sscan_iter("not there"))


@operation(value=values)
def script(side: Side, value: Any) -> Any:
    made = side.client.register_script("return {ARGV[1], redis.call('DBSIZE')}")
    pipe = side.client.pipeline()
    queued = made(args=["queued"], client=pipe)
    return (
        made.sha, made.registered_client is side.client, made(args=[value]), queued is pipe,
        pipe.execute(), made(args=["other"], client=side.client),
    )  # fmt: skip


@operation()
def script_fails(side: Side) -> Any:
    return side.client.eval("return redis.error_reply('MINE no')", 0)


@operation(key=keys)
def one_connection(side: Side, key: str) -> Any:
    with side.client.client() as one:
        kept = one.connection is not None
        return kept, one.set(key, "one"), one.get(key), isinstance(one, redis.Redis)


@operation()
def module_commands(side: Side) -> Any:
    return side.client.json().get("a")


@operation(key=keys)
def callbacks(side: Side, key: str) -> Any:
    side.client.set_response_callback("GET", lambda value, **_: ("called back", value))
    return side.client.get(key), sorted(side.client.response_callbacks)[:3]


@operation(value=values)
def attributes(side: Side, value: Any) -> Any:
    side.client.mine = value
    seen = side.client.mine is value, hasattr(side.client, "mine"), vars(side.client)["mine"]
    del side.client.mine
    return seen, hasattr(side.client, "mine")


@operation()
def del_nothing(side: Side) -> Any:
    del side.client.there_is_no_such_name


@operation(key=keys)
def replaced_method(side: Side, key: str) -> Any:
    side.client.get = lambda name: f"mine {name}"
    seen = side.client.get(key)
    del side.client.get
    return seen, side.client.get(key)


@operation()
def identity(side: Side) -> Any:
    client, pool, bare = side.client, side.client.connection_pool, side.bag["bare"]
    return (
        client == bare, bare == client, client != bare, bare in [client], {bare: 1}[client],
        client == client, client != client, client in [client], {client: 1}[client],
        pool is client.connection_pool, pool == client.get_connection_kwargs,
        isinstance(pool, redis.ConnectionPool), isinstance(client, redis.Redis), bool(client),
        client.get == client.get, client.get != client.set, client.pipeline() == client.pipeline(),
    )  # fmt: skip


@operation(key=keys)
def entered(side: Side, key: str) -> Any:
    with side.client as inside:
        return inside is side.client, inside.get(key)


@operation(error=errors)
def entered_fails(side: Side, error: Any) -> Any:
    with side.client:
        raise error or (KeyboardInterrupt and OSError("x"))


@operation()
def copied(side: Side) -> Any:
    twin = copy.copy(side.client)
    return (
        isinstance(twin, redis.Redis),
        twin == side.client,
        twin.get("a"),
        twin.connection_pool is side.client.connection_pool,
    )


@operation()
def from_url(side: Side) -> Any:
    made = side.client.from_url(side.more.url)
    seen = (
        made.get("a"),
        isinstance(made, redis.Redis),
        made.connection_pool is side.client.connection_pool,
    )
    made.close()
    return seen


@operation()
def pickled(side: Side) -> Any:
    return type(pickle.loads(pickle.dumps(side.client)))


@operation()
def closed(side: Side) -> Any:
    return side.client.close(), side.client.close(), side.client.ping()


@operation()
def pool_state(side: Side) -> Any:
    return state_of(side.client)


@operation()
def nowhere(side: Side) -> Any:
    kwargs = side.client.connection_pool.connection_kwargs
    client = (
        redis.Redis(port=1, socket_connect_timeout=1, retry=None)
        if not side.wrapped
        else policy_of("redis", "cooperative").wrap(
            redis.Redis(port=1, socket_connect_timeout=1, retry=None)
        )
    )
    return sorted(kwargs)[:2], client.get("a")


@operation()
def info(side: Side) -> Any:
    said = side.client.info("server")
    return sorted(said)[:5], side.client.config_get("maxmemory"), side.client.command_count() > 100


def state_of(client: Any) -> Any:
    pool = client.connection_pool
    return (
        len(pool._available_connections), len(pool._in_use_connections),
        sorted(vars(client)), client.connection is None,
    )  # fmt: skip


def scrub(text: str) -> str:
    text = re.sub(r"[0-9a-f]{32}", "<token>", text)
    return re.sub(r"127.0.0.1:\d+", "<peer>", text)


def world(server: RedisServer) -> Any:
    """Return all that the server holds."""
    with redis.Redis(port=server.port) as control:
        return {
            key: (control.type(key), _value(control, key), control.ttl(key) > 0)
            for key in sorted(control.keys())
        }


def _value(control: Any, key: bytes) -> Any:
    if control.type(key) != b"string":
        return control.dump(key)
    value = control.get(key)
    return "a lock's token" if re.fullmatch(b"[0-9a-f]{32}", value) else value


def played(server: RedisServer, steps: Any, mode: str | None, decode: bool) -> Any:
    server.clear()
    client = redis.Redis(port=server.port, decode_responses=decode, socket_timeout=5)
    used = client if mode is None else policy_of("redis", mode).wrap(client)
    side = Side(used, mode is not None, bag={"bare": client}, more=server)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log = play(side, steps, scrub)
    log.append(("at the end", {}, state_of(client), world(server)))
    client.close()
    return log


@pytest.mark.parametrize("mode", MODES)
@few(max_examples=25)
@given(steps=operation.sequences(), decode=st.booleans())
def test_a_sequence_comes_to_the_same(
    redis_server: RedisServer, mode: str, steps: Any, decode: bool
) -> None:
    bare = played(redis_server, steps, None, decode)
    same("redis", bare, played(redis_server, steps, mode, decode))


@pytest.mark.parametrize("mode", MODES)
def test_it_looks_the_same(redis_server: RedisServer, mode: str) -> None:
    bare = redis.Redis(port=redis_server.port)
    wrapped = policy_of("redis", mode).wrap(redis.Redis(port=redis_server.port))
    found = []
    for name, get in {
        "Redis": lambda client: client,
        "Pipeline": lambda client: client.pipeline(),
        "PubSub": lambda client: client.pubsub(),
        "Lock": lambda client: client.lock("a"),
        "Script": lambda client: client.register_script("return 1"),
        "stream": lambda client: client.scan_iter("a"),
        "Monitor": lambda client: client.monitor(),
        "client": lambda client: client.client(),
        "JSON": lambda client: client.json(),
        "Search": lambda client: client.ft(),
        "method get": lambda client: client.get,
        "method hscan_iter": lambda client: client.hscan_iter,
        "connection_pool": lambda client: client.connection_pool,
    }.items():
        found += inspect_pair("redis", get(bare), get(wrapped), name)
    assert not found, "\n".join(found)
    bare.close()
    wrapped.close()
