"""redis.asyncio.Redis, bare and wrapped."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import redis
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.transparency.harness import (
    Operations,
    Side,
    aplay,
    few,
    inspect_pair,
    policy_of,
    run,
    same,
)
from tests.integration.transparency.test_redis import errors, fields, keys, scrub, values, world
from tests.kit.servers.redis_server import RedisServer

operation = Operations()


@operation(key=keys, value=values)
async def set_(side: Side, key: str, value: Any) -> Any:
    return await side.client.set(key, value)


@operation(key=keys)
async def get(side: Side, key: str) -> Any:
    called = side.client.get(key)
    shape = hasattr(called, "__await__"), hasattr(called, "send"), type(called).__name__
    return shape, await called


@operation(key=keys)
async def never_awaited(side: Side, key: str) -> Any:
    side.client.get(key).close()


@operation(key=keys, by=st.sampled_from([1, "x"]))
async def incr(side: Side, key: str, by: Any) -> Any:
    return await side.client.incr(key, by)


@operation(key=keys, more=st.lists(values, max_size=3))
async def lpush(side: Side, key: str, more: list[Any]) -> Any:
    return await side.client.lpush(key, *more)


@operation(key=keys, field=fields, value=values)
async def hset(side: Side, key: str, field: str, value: Any) -> Any:
    return await side.client.hset(key, field, value), await side.client.hgetall(key)


@operation()
async def unknown(side: Side) -> Any:
    return await side.client.execute_command("NOT-A-COMMAND", "x")


@operation()
async def no_such_attribute(side: Side) -> Any:
    return side.client.there_is_no_such_name


@operation()
async def wrong_arguments(side: Side) -> Any:
    return await side.client.set()


@operation(key=keys)
async def through_the_class(side: Side, key: str) -> Any:
    return await redis.asyncio.Redis.get(side.client, key)


@operation(key=keys, value=values, transaction=st.booleans(), raises=st.booleans())
async def pipeline(side: Side, key: str, value: Any, transaction: bool, raises: bool) -> Any:
    pipe = side.client.pipeline(transaction=transaction)
    chained = pipe.set(key, value).incr(key).get(key)
    seen = chained is pipe, len(pipe), bool(pipe), isinstance(pipe, redis.asyncio.client.Pipeline)
    return seen, await pipe.execute(raise_on_error=raises), len(pipe)


@operation(key=keys, error=errors)
async def pipeline_block(side: Side, key: str, error: Any) -> Any:
    async with side.client.pipeline() as pipe:
        pipe.set(key, "2")
        if error is not None:
            raise error.with_traceback(None)
        return await pipe.execute()


@operation(key=keys)
async def awaited_pipeline(side: Side, key: str) -> Any:
    pipe = await side.client.pipeline().set(key, "awaited")
    return isinstance(pipe, redis.asyncio.client.Pipeline), len(pipe), await pipe.execute()


@operation(key=keys, touch=st.booleans())
async def watch(side: Side, key: str, touch: bool) -> Any:
    async with side.client.pipeline() as pipe:
        await pipe.watch(key)
        before = await pipe.get(key)
        if touch:
            await side.client.set(key, "touched")
        pipe.multi()
        pipe.set(key, "watched")
        return before, await pipe.execute()


@operation(key=keys)
async def transaction(side: Side, key: str) -> Any:
    async def work(pipe: Any) -> Any:
        pipe.multi()
        pipe.set(key, "3")
        pipe.get(key)
        return "value"

    return (
        await side.client.transaction(work, key),
        await side.client.transaction(work, key, value_from_callable=True),
    )


@operation()
async def pubsub(side: Side) -> Any:
    async with side.client.pubsub() as sub:
        said = [sub.subscribed, await sub.subscribe("ch")]
        said.append(await sub.get_message(timeout=1))
        said.append(await side.client.publish("ch", "hello"))
        said.append(await sub.get_message(timeout=1))
        said += [await sub.get_message(timeout=0.001), sub.subscribed, sub.channels]
        return said


@operation()
async def listen(side: Side) -> Any:
    sub = side.client.pubsub(ignore_subscribe_messages=True)
    await sub.subscribe("l")
    await sub.get_message(timeout=1)
    for number in range(3):
        await side.client.publish("l", str(number))
    heard = sub.listen()
    got = [await anext(heard), await anext(heard)]
    await heard.aclose()
    await sub.aclose()
    return got, sub.subscribed, [each async for each in heard]


@operation(key=keys, error=errors)
async def lock(side: Side, key: str, error: Any) -> Any:
    made = side.client.lock(f"lock-{key}", timeout=5, blocking_timeout=0.01)
    async with made as held:
        inner = await made.locked(), await made.owned(), held is made
        again = await side.client.lock(f"lock-{key}", blocking=False).acquire()
        if error is not None:
            raise error.with_traceback(None)
    return inner, again, await made.locked(), made.name, made.timeout


@operation(key=keys)
async def lock_by_hand(side: Side, key: str) -> Any:
    made = side.client.lock(key, timeout=5, sleep=0.001)
    got = await made.acquire(blocking=False), await made.extend(1), await made.owned()
    await made.release()
    return got, made.local.token, await made.release()


@operation(key=keys)
async def lock_lost(side: Side, key: str) -> Any:
    async with side.client.lock(f"lost-{key}"):
        await side.client.delete(f"lost-{key}")


@operation(count=st.integers(1, 3), stop=st.integers(0, 4))
async def scan(side: Side, count: int, stop: int) -> Any:
    found = side.client.scan_iter("*", count=count)
    got = [await anext(found, "no more") == "no more" for _ in range(stop)]
    shape = aiter(found) is found, hasattr(found, "asend")
    await found.aclose()
    return got, shape, [each async for each in found]


@operation()
async def scan_all(side: Side) -> Any:
    return sorted(
        [each async for each in side.client.scan_iter(count=2)]
    ), await side.client.dbsize()


@operation()
async def scan_thrown(side: Side) -> Any:
    found = side.client.scan_iter()
    await anext(found, None)
    return await found.athrow(KeyError("thrown in"))


@operation(value=values)
async def script(side: Side, value: Any) -> Any:
    made = side.client.register_script("return {ARGV[1], redis.call('DBSIZE')}")
    pipe = side.client.pipeline()
    queued = await made(args=["queued"], client=pipe)
    return (
        made.sha, made.registered_client is side.client, await made(args=[value]), queued is pipe,
        await pipe.execute(), await made(args=["other"], client=side.client),
    )  # fmt: skip


@operation(key=keys)
async def one_connection(side: Side, key: str) -> Any:
    async with side.client.client() as one:
        kept = one.connection is not None
        return (
            kept,
            await one.set(key, "one"),
            await one.get(key),
            isinstance(one, redis.asyncio.Redis),
        )


@operation()
async def module_commands(side: Side) -> Any:
    return await side.client.json().get("a")


@operation(key=keys)
async def callbacks(side: Side, key: str) -> Any:
    side.client.set_response_callback("GET", lambda value, **_: ("called back", value))
    return await side.client.get(key)


@operation(value=values)
async def attributes(side: Side, value: Any) -> Any:
    side.client.mine = value
    seen = side.client.mine is value, hasattr(side.client, "mine"), vars(side.client)["mine"]
    del side.client.mine
    return seen, hasattr(side.client, "mine")


@operation()
async def identity(side: Side) -> Any:
    client, pool = side.client, side.client.connection_pool
    return (
        client == client, client in [client], {client: 1}[client], pool is client.connection_pool,
        isinstance(pool, redis.asyncio.ConnectionPool), isinstance(client, redis.asyncio.Redis),
        bool(client), client.get == client.get, client.pipeline() == client.pipeline(),
    )  # fmt: skip


@operation()
async def awaited_client(side: Side) -> Any:
    return (await side.client) is side.client


@operation(key=keys, error=errors)
async def entered(side: Side, key: str, error: Any) -> Any:
    async with side.client as inside:
        if error is not None:
            raise error.with_traceback(None)
        return inside is side.client, await inside.get(key)


@operation()
async def copied(side: Side) -> Any:
    twin = copy.copy(side.client)
    return isinstance(twin, redis.asyncio.Redis), twin == side.client, await twin.get("a")


@operation()
async def from_url(side: Side) -> Any:
    made = side.client.from_url(side.more.url)
    seen = await made.get("a"), isinstance(made, redis.asyncio.Redis)
    await made.aclose()
    return seen


@operation()
async def pickled(side: Side) -> Any:
    return type(pickle.loads(pickle.dumps(side.client)))


@operation()
async def closed(side: Side) -> Any:
    return await side.client.aclose(), await side.client.aclose(), await side.client.ping()


@operation()
async def at_once(side: Side) -> Any:
    import asyncio

    said = await asyncio.gather(*(side.client.incr("n") for _ in range(5)))
    return sorted(said)


@operation()
async def pool_state(side: Side) -> Any:
    return state_of(side.client)


def state_of(client: Any) -> Any:
    pool = client.connection_pool
    return (
        len(pool._available_connections), len(pool._in_use_connections),
        sorted(vars(client)), client.connection is None,
    )  # fmt: skip


def played(server: RedisServer, steps: Any, wrapped: bool, decode: bool) -> Any:
    server.clear()

    async def main() -> Any:
        client = redis.asyncio.Redis(port=server.port, decode_responses=decode, socket_timeout=5)
        used = policy_of("redis").wrap(client) if wrapped else client
        side = Side(used, wrapped, more=server)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            log = await aplay(side, steps, scrub)
        log.append(("at the end", {}, state_of(client), world(server)))
        await client.aclose()
        return log

    return run(main)


@few(max_examples=25)
@given(steps=operation.sequences(), decode=st.booleans())
def test_a_sequence_comes_to_the_same(redis_server: RedisServer, steps: Any, decode: bool) -> None:
    bare = played(redis_server, steps, False, decode)
    same("redis-asyncio", bare, played(redis_server, steps, True, decode))


def test_it_looks_the_same(redis_server: RedisServer) -> None:
    async def main() -> list[str]:
        bare = redis.asyncio.Redis(port=redis_server.port)
        inner = redis.asyncio.Redis(port=redis_server.port)
        wrapped = policy_of("redis").wrap(inner)
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
            "method get": lambda client: client.get,
            "method hscan_iter": lambda client: client.hscan_iter,
            "connection_pool": lambda client: client.connection_pool,
        }.items():
            found += inspect_pair("redis-asyncio", get(bare), get(wrapped), name)
        await bare.aclose()
        await inner.aclose()
        return found

    found = run(main)
    assert not found, "\n".join(found)
