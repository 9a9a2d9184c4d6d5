"""Nothing is retained: not by calls, not by what is handed out, not by clients that went away."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import anyio.lowlevel
import pytest

from resilient import bulkhead, circuit_breaker, timeout
from tests.kit.policies import policy
from tests.kit.waiting import until
from tests.kit.worlds import BACKENDS, run

ROOM = 4096  # bytes
PARTS = 3


class Part:
    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def find(self) -> int:
        return 1

    async def afind(self) -> int:
        return 1


class Client:
    """Small, so that only the proxies cost anything."""

    def __init__(self) -> None:
        self.sub = Part(self)

    def find(self, title: int) -> int:
        return title

    def part(self) -> Part:
        return Part(self)

    def items(self) -> Iterator[int]:
        yield 1

    @contextlib.contextmanager
    def lent(self) -> Iterator[Part]:
        yield Part(self)

    @classmethod
    def named(cls) -> int:
        return 1

    def fails(self) -> None:
        raise KeyError("x")

    def __getattr__(self, name: str) -> Any:
        if name == "dynamic":
            return lambda: 1
        raise AttributeError(name)

    async def afind(self, title: int) -> int:
        return title

    async def apart(self) -> Part:
        return Part(self)

    async def aitems(self) -> Any:
        yield 1

    @contextlib.asynccontextmanager
    async def alent(self) -> Any:
        yield Part(self)

    def later(self) -> Any:
        return self.afind(1)


def handed_out(client: Any) -> None:
    client.part().find()
    client.sub.find()
    client.named()
    client.dynamic()
    hasattr(client, "nothing")
    for _ in client.items():
        pass
    for _ in client.items():
        break
    with client.lent() as part:
        part.find()
    try:
        client.fails()
    except KeyError:
        pass


async def ahanded_out(client: Any) -> None:
    await (await client.apart()).afind()
    await client.sub.afind()
    await client.later()
    async for _ in client.aitems():
        pass
    async with client.alent() as part:
        await part.afind()


def grown(many: Callable[[int], object], number: int, warm: int) -> tuple[int, int]:
    """Return by how many bytes and objects that many calls grow the process.

    The runner's own threads may make a few objects meanwhile: of three parts, each of a third of
    the calls, the one that grew least is taken three times. What calls retain grows in each.
    """
    many(warm)
    gc.collect()
    tracemalloc.start()
    try:
        many(warm)
        marks = [measured()]
        for _ in range(PARTS):
            many(number // PARTS)
            marks.append(measured())
        return least_growth(marks)
    finally:
        tracemalloc.stop()


def measured() -> tuple[int, int]:
    gc.collect()
    return tracemalloc.get_traced_memory()[0], len(gc.get_objects())


def least_growth(marks: list[tuple[int, int]]) -> tuple[int, int]:
    steps = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(marks)]
    return PARTS * min(size for size, _ in steps), PARTS * min(objects for _, objects in steps)


@pytest.mark.parametrize("limit", [None, "cooperative"])
def test_100_000_sync_calls(limit: Any) -> None:
    more = [timeout(60, sync=limit)] if limit else []
    client = policy(circuit_breaker(), bulkhead(10), *more).wrap(Client())

    def many(number: int) -> None:
        for place in range(number):
            client.find(place)
            if place % 100 == 0:
                handed_out(client)

    size, objects = grown(many, 100_000 if limit is None else 10_000, 1000)
    assert size <= ROOM
    assert objects <= 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_100_000_async_calls(backend: str) -> None:
    client = policy(circuit_breaker(), bulkhead(10)).wrap(Client())

    async def body() -> None:
        async def many(number: int) -> None:
            for place in range(number):
                await client.afind(place)
                if place % 100 == 0:
                    await ahanded_out(client)
                    await anyio.lowlevel.checkpoint()

        await many(1000)
        gc.collect()
        tracemalloc.start()
        try:
            await many(1000)
            marks = [measured()]
            for _ in range(PARTS):
                await many((100_000 if backend == "asyncio" else 10_000) // PARTS)
                marks.append(measured())
            size, objects = least_growth(marks)
            assert size <= ROOM
            assert objects <= 0
        finally:
            tracemalloc.stop()

    asyncio.run(body()) if backend == "asyncio" else run(backend, body)


def test_worker_threads_are_few_and_go_away() -> None:
    before = threading.active_count()
    client = policy(circuit_breaker(), bulkhead(4), timeout(60, sync="thread")).wrap(Client())

    def many(number: int) -> None:
        for place in range(number):
            client.find(place)
            if place % 20 == 0:
                handed_out(client)

    size, _ = grown(many, 2000, 300)
    assert size <= ROOM
    assert threading.active_count() <= before + 4


@pytest.mark.parametrize(
    "options", [{}, {"only": ["find", "part", "sub"]}, {"ignore": KeyError}], ids=str
)
def test_a_new_client_for_each_request_leaves_nothing(options: dict[str, Any]) -> None:
    of = policy(circuit_breaker(), bulkhead(10))

    def many(number: int) -> None:
        for place in range(number):
            client = of.wrap(Client(), **options)
            client.find(place)
            if place % 20 == 0:
                handed_out(client)

    size, objects = grown(many, 300 if options else 2000, 100)
    assert size <= ROOM
    assert objects < 100


def test_wraps_with_limits_of_their_own_leave_nothing() -> None:
    of = policy(circuit_breaker(), bulkhead(10), timeout(60, sync="cooperative"))

    def many(number: int) -> None:
        for place in range(number):
            client = of.wrap(Client(), per_call={"find": 5.0})
            client.find(place)

    size, objects = grown(many, 300, 50)
    assert size <= ROOM
    assert objects < 100


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Only reference counts free anything."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Acyclic:
    """A client without cycles of its own."""

    def find(self) -> int:
        return 1

    def part(self) -> Part:
        return Part(self)

    def items(self) -> Iterator[int]:
        yield 1

    @contextlib.contextmanager
    def lent(self) -> Iterator[Part]:
        yield Part(self)

    @classmethod
    def named(cls) -> int:
        return 1

    def fails(self) -> None:
        raise KeyError("x")

    def __getattr__(self, name: str) -> Any:
        if name == "dynamic":
            return lambda: 1
        raise AttributeError(name)

    def __iter__(self) -> Iterator[int]:
        yield 1

    async def afind(self) -> int:
        return 1

    def later(self) -> Any:
        return self.afind()


USES: dict[str, Callable[[Any], object]] = {
    "find": lambda c: c.find(),
    "kept method": lambda c: [c.find, c.find()],
    "part": lambda c: c.part().find(),
    "items": lambda c: list(c.items()),
    "left items": lambda c: next(c.items()),
    "lent": lambda c: c.lent().__enter__(),
    "class method": lambda c: c.named(),
    "dynamic": lambda c: c.dynamic(),
    "missing": lambda c: hasattr(c, "nothing"),
    "iter": lambda c: list(c),
    "set": lambda c: setattr(c, "x", 1),
    "set function": lambda c: (setattr(c, "fn", lambda: 1), c.fn()),
    "later": lambda c: asyncio.run(_awaits(c.later)),
    "afind": lambda c: asyncio.run(_awaits(c.afind)),
    "fails": lambda c: _fails(c),
    "words": lambda c: (repr(c), dir(c), vars(c), hash(c), c == c),
}


async def _awaits(fn: Any) -> Any:
    return await fn()


def _fails(client: Any) -> None:
    try:
        client.fails()
    except KeyError:
        pass


@pytest.mark.parametrize("how", USES)
@pytest.mark.parametrize("options", [{}, {"ignore": ValueError}], ids=str)
def test_a_proxy_and_its_client_die_with_their_last_reference(
    how: str, options: dict[str, Any], no_gc: None
) -> None:
    of = policy(circuit_breaker(), bulkhead(10))
    bare = Acyclic()
    client = of.wrap(bare, **options)
    for _ in range(2):
        USES[how](client)
    both = weakref.ref(bare), weakref.ref(client)
    del bare, client
    assert [ref() for ref in both] == [None, None]


def test_a_part_lives_as_long_as_it_is_used_and_no_longer(no_gc: None) -> None:
    client = policy(circuit_breaker()).wrap(Acyclic())
    part = client.part()
    part.find()
    ref, bare = weakref.ref(part), weakref.ref(part.__wrapped__)
    kept = part.find
    del part
    assert kept() == 1
    del kept
    assert (ref(), bare()) == (None, None)


def test_a_policy_keeps_few_classes_of_clients_alive() -> None:
    of = policy(circuit_breaker())
    refs = []
    for _ in range(300):

        class Local:
            def __init__(self) -> None:
                super().__init__()

            def find(self) -> int:
                return 1

            def __call__(self) -> int:
                return 2

        client = of.wrap(Local())
        client.find()
        client()
        refs.append(weakref.ref(Local))
        del Local, client
    gc.collect()
    assert sum(ref() is not None for ref in refs) <= 128


def test_an_abandoned_call_lets_its_client_go() -> None:
    go = threading.Event()

    class Slow:
        def find(self) -> None:
            go.wait(10)

    of = policy(timeout(0.2, sync="thread"), bulkhead(1))
    bare = Slow()
    client = of.wrap(bare)
    try:
        client.find()
    except TimeoutError:
        pass
    ref = weakref.ref(bare)
    del bare, client
    go.set()
    until(lambda: of.snapshot()["abandoned"] == 0)
    until(lambda: (gc.collect(), ref() is None)[1])
