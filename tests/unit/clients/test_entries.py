"""Context managers that a client hands out: judged and bounded at the entry, a slot until the exit."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import threading
from typing import Any

import pytest

from resilient import BulkheadFullError, CallTimeoutError, bulkhead, circuit_breaker, timeout
from tests.kit.policies import counts, error_of, idle, part, policy, raised
from tests.kit.waiting import WAIT
from tests.kit.worlds import BACKENDS, run
from tests.unit.clients.kit import Down, own_slot

backends = pytest.mark.parametrize("backend", BACKENDS)


class Manager:
    """One that keeps its client out of sight, sync and async."""

    def __init__(self, begin: Any) -> None:
        self.__begin = begin

    def __enter__(self) -> Any:
        return self.__begin()

    def __exit__(self, *exc: object) -> bool:
        return exc[0] is KeyError

    async def __aenter__(self) -> Any:
        await asyncio.sleep(0)
        return self.__begin()

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.sleep(0)


class Database:
    def __init__(self) -> None:
        self.down = False

    def _begin(self, name: str) -> str:
        if self.down:
            raise Down("x")
        return name

    def transaction(self) -> Manager:
        return Manager(functools.partial(self._begin, "tx"))

    @contextlib.contextmanager
    def lent(self) -> Any:
        yield self._begin("lent")

    def query(self) -> int:
        return 1

    def response(self) -> Response:
        return Response()


class Response:
    """An answer that can be closed by a with block, which does nothing at its entry."""

    def __init__(self) -> None:
        self.rows = [1]

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *exc: object) -> None: ...


WAYS = ("transaction", "lent")


@pytest.mark.parametrize("sync", ["thread", "cooperative"])
@pytest.mark.parametrize("how", WAYS)
def test_entries_that_fail_open_the_circuit(how: str, sync: Any) -> None:
    of = policy(circuit_breaker(failure_threshold=3), timeout(5, sync=sync), bulkhead(1))
    client = of.wrap(Database())
    client.down = True
    for _ in range(3):
        assert type(raised(getattr(client, how)().__enter__)) is Down
    assert of.state == "open"
    assert counts(of)["failure"] == 3
    idle(of)


@pytest.mark.parametrize("how", WAYS)
def test_the_slot_is_held_until_the_exit(how: str) -> None:
    of = own_slot()
    client = of.wrap(Database())
    with getattr(client, how)() as given:
        assert given == ("tx" if how == "transaction" else "lent")
        assert part(of, "bulkhead")["used"] == 1
    idle(of)
    assert counts(of)["success"] == 1


def test_another_is_refused_while_it_is_held() -> None:
    of = own_slot()
    client = of.wrap(Database())
    outcome: list[BaseException] = []
    with client.transaction():
        thread = threading.Thread(target=lambda: outcome.append(raised(client.query)))
        thread.start()
        thread.join(WAIT)
    assert [type(each) for each in outcome] == [BulkheadFullError]
    assert client.query() == 1
    idle(of)


def test_its_slot_is_lent_to_one_call_of_its_body_at_a_time() -> None:
    of = policy(circuit_breaker(), bulkhead(1))

    class Slow(Database):
        async def aquery(self) -> int:
            await asyncio.sleep(0.01)
            return 1

    async def body() -> None:
        client = of.wrap(Slow())
        async with client.transaction():
            assert client.query() == 1
            with client.transaction():
                assert client.query() == 1
            ends = await asyncio.gather(
                *(client.aquery() for _ in range(3)), return_exceptions=True
            )
        refused = [each for each in ends if isinstance(each, BulkheadFullError)]
        assert (len(refused), ends.count(1)) == (2, 1)
        idle(of)

    asyncio.run(body())


@pytest.mark.parametrize("how", WAYS)
def test_an_error_of_the_body_is_the_callers_own(how: str) -> None:
    of = policy(circuit_breaker(failure_threshold=1), bulkhead(1))
    client = of.wrap(Database())
    error = Down("mine")

    def block() -> None:
        with getattr(client, how)():
            raise error

    assert raised(block) is error
    assert of.state == "closed"
    assert "failure" not in counts(of)
    idle(of)
    with client.transaction():
        raise KeyError("swallowed by its exit, as ever")


@backends
def test_async_entries(backend: str) -> None:
    of = policy(circuit_breaker(failure_threshold=3), bulkhead(1))

    class Async(Database):
        def transaction(self) -> Any:
            return AsyncManager(functools.partial(self._begin, "tx"))

    class AsyncManager:
        def __init__(self, begin: Any) -> None:
            self.__begin = begin

        async def __aenter__(self) -> Any:
            return self.__begin()

        async def __aexit__(self, *exc: object) -> None: ...

    async def body() -> None:
        client = of.wrap(Async())
        async with client.transaction() as given:
            assert given == "tx"
            assert part(of, "bulkhead")["used"] == 1
        idle(of)
        client.down = True
        for _ in range(3):
            assert type(await error_of(client.transaction().__aenter__())) is Down
        assert of.state == "open"
        assert counts(of)["failure"] == 3
        idle(of)

    run(backend, body)


def test_an_async_entry_that_hangs_is_cut() -> None:
    of = policy(circuit_breaker(), timeout(0.02), bulkhead(1))

    class Hangs:
        def transaction(self) -> Any:
            return HangingManager(self)

        async def find(self) -> None: ...

    class HangingManager:
        def __init__(self, client: Any) -> None:
            self.client = client

        async def __aenter__(self) -> None:
            await asyncio.sleep(WAIT)

        async def __aexit__(self, *exc: object) -> None: ...

    async def body() -> None:
        assert type(await error_of(of.wrap(Hangs()).transaction().__aenter__())) is CallTimeoutError
        idle(of)

    asyncio.run(body())


def test_one_that_is_never_left_gives_its_slot_back_when_it_is_collected() -> None:
    of = own_slot()
    client = of.wrap(Database())
    manager = client.transaction()
    manager.__enter__()
    assert part(of, "bulkhead")["used"] == 1
    del manager
    gc.collect()
    idle(of)


def test_one_that_is_used_again_is_a_call_each_time() -> None:
    of = own_slot()
    client = of.wrap(Database())
    manager = client.transaction()
    for _ in range(3):
        with manager:
            assert part(of, "bulkhead")["used"] == 1
        idle(of)
    assert counts(of)["success"] == 3


def test_an_answer_that_is_closed_by_a_block_has_arrived() -> None:
    of = own_slot()
    client = of.wrap(Database())
    with client.response() as answer:
        assert answer.rows == [1]
        assert part(of, "bulkhead")["used"] == 0
    assert counts(of) == {"success": 1}


def test_the_client_itself_holds_no_slot() -> None:
    class Client(Database):
        def __enter__(self) -> Client:
            self.entered = True
            return self

        def __exit__(self, *exc: object) -> None: ...

    of = own_slot()
    with of.wrap(Client()) as client:
        assert part(of, "bulkhead")["used"] == 0
        assert client.query() == 1
