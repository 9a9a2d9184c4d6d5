"""Every shape of call that a client may have goes through the policy, once."""

from __future__ import annotations

import abc
import asyncio
import dataclasses
import gc
import inspect
import types
from typing import Any

import anyio
import pytest

from resilient import BulkheadFullError, Policy, bulkhead, circuit_breaker, timeout
from tests.kit.policies import counts, error_of, idle, part, policy, raised
from tests.kit.worlds import BACKENDS, run
from tests.unit.clients.kit import Client, Down, guards, own_slot

backends = pytest.mark.parametrize("backend", BACKENDS)

SYNC_CALLS = {
    "method": lambda c: c.find("Heat"),
    "class method": lambda c: c.named("x"),
    "static method": lambda c: c.doubled(2),
    "partial": lambda c: c.partial(),
    "function on the instance": lambda c: c.function("x"),
    "callable object": lambda c: c.called("x"),
    "callable client": lambda c: c("x"),
    "callable of __getattr__": lambda c: c.do_it(1, 2),
    "sub-client": lambda c: c.sub.find("x"),
    "property": lambda c: c.users.find("x"),
    "sub-client's parent": lambda c: c.sub.parent.sub.find("x"),
}


@pytest.mark.parametrize("how", SYNC_CALLS)
@pytest.mark.parametrize("threaded", [False, True], ids=["here", "thread"])
def test_a_sync_call_is_one_call(how: str, threaded: bool) -> None:
    of = own_slot(timeout(5, sync="thread")) if threaded else own_slot()
    bare, call = Client(), SYNC_CALLS[how]
    want, noted = call(bare), list(bare.noted)
    client = of.wrap(Client())
    for _ in range(2):  # the second time by what was kept of the first
        client.noted.clear()
        assert call(client) == want
        assert client.noted == noted
    assert counts(of) == {"success": 2}
    idle(of)


@pytest.mark.parametrize(
    "how", [how for how in SYNC_CALLS if how not in ("class method", "static method")]
)
def test_a_failing_sync_call_is_one_failure(how: str) -> None:
    of = own_slot()
    client = of.wrap(Client(Down("x")))
    error = raised(SYNC_CALLS[how], client)
    assert type(error) is Down
    assert error is client.down
    assert counts(of) == {"failure": 1}
    idle(of)


@pytest.mark.parametrize("how", SYNC_CALLS)
def test_a_refused_sync_call_does_not_reach_the_client(how: str, policies: Any) -> None:
    of = own_slot()
    client = of.wrap(Client())
    with policies.forced_open(of):
        error = raised(SYNC_CALLS[how], client)
    assert type(error).__name__ == "CircuitOpenError"
    assert client.noted == []
    assert counts(of) == {"refused": 1}


ASYNC_CALLS = {
    "coroutine method": lambda c: c.afind("Heat"),
    "plain method that returns a coroutine": lambda c: c.later("Heat"),
    "sub-client": lambda c: c.sub.afind("x"),
    "property": lambda c: c.users.afind("x"),
}


@backends
@pytest.mark.parametrize("how", ASYNC_CALLS)
def test_an_async_call_is_one_call(how: str, backend: str) -> None:
    of = own_slot()

    async def body() -> None:
        want = await ASYNC_CALLS[how](Client())
        client = of.wrap(Client())
        assert await ASYNC_CALLS[how](client) == want
        assert await ASYNC_CALLS[how](client) == want
        assert counts(of) == {"success": 2}
        client.down = Down("x")
        assert await error_of(ASYNC_CALLS[how](client)) is client.down
        assert counts(of) == {"success": 2, "failure": 1}
        idle(of)

    run(backend, body)


# -- generators ---------------------------------------------


@pytest.mark.parametrize("threaded", [False, True], ids=["here", "thread"])
def test_a_generator_is_guarded_for_its_life(threaded: bool) -> None:
    of = own_slot(timeout(5, sync="thread")) if threaded else own_slot()
    client = of.wrap(Client())
    assert list(client.items(3)) == [0, 1, 2]
    assert client.noted == ["items"]
    assert set(counts(of)) - {"ignored"} == {"success"}
    idle(of)


def test_a_generators_slot_is_held_until_it_is_closed() -> None:
    of = own_slot()
    client = of.wrap(Client())
    stream = client.items(3)
    assert part(of, "bulkhead")["used"] == 0, "it has not begun"
    assert next(stream) == 0
    assert part(of, "bulkhead")["used"] == 1
    with pytest.raises(BulkheadFullError):
        client.find("x")
    stream.close()
    idle(of)
    assert client.find("x") == "x"
    assert counts(of) == {"refused": 1, "ignored": 1, "success": 1} or counts(of) == {
        "refused": 1, "cancelled": 1, "success": 1,
    }  # fmt: skip


def test_breaking_out_of_a_generator_is_neutral() -> None:
    of = policy(circuit_breaker(failure_threshold=1), bulkhead(1))
    client = of.wrap(Client())
    for _ in range(3):
        for _item in client.items(3):
            break
        gc.collect()
    assert of.state == "closed"
    assert "failure" not in counts(of)
    assert "success" not in counts(of)
    idle(of)


@pytest.mark.parametrize("threaded", [False, True], ids=["here", "thread"])
def test_send_throw_and_return_pass_through_a_generator(threaded: bool) -> None:
    of = own_slot(timeout(5, sync="thread")) if threaded else own_slot()
    ends = []
    for client in (Client(), of.wrap(Client())):
        stream = client.items(3)
        seen = [next(stream), stream.send("a"), stream.throw(KeyError("k"))]
        end = raised(stream.send, "b")
        ends.append((seen, type(end), end.value))
    assert ends[0] == ends[1] == ([0, 1, 2], StopIteration, ["a", "KeyError('k')", "b"])
    assert "failure" not in counts(of)
    idle(of)


@pytest.mark.parametrize("threaded", [False, True], ids=["here", "thread"])
def test_yield_from_a_wrapped_generator(threaded: bool) -> None:
    of = own_slot(timeout(5, sync="thread")) if threaded else own_slot()
    client = of.wrap(Client())

    def consumer() -> Any:
        return (yield from client.items(2))

    stream = consumer()
    assert [next(stream), stream.send(1)] == [0, 1]
    assert raised(stream.send, 2).value == [1, 2]  # type: ignore[attr-defined]
    assert "failure" not in counts(of)


def test_a_generator_that_fails_is_a_failure() -> None:
    of = own_slot()
    client = of.wrap(Client(Down("x")))
    assert raised(list, client.items(3)) is client.down
    assert counts(of) == {"failure": 1}
    idle(of)


def test_a_generator_whose_client_is_refused_says_so_at_its_first_step(policies: Any) -> None:
    of = own_slot()
    client = of.wrap(Client())
    with policies.forced_open(of):
        stream = client.items(3)
        assert type(raised(next, stream)).__name__ == "CircuitOpenError"
    assert client.noted == []


@backends
def test_an_async_generator_is_guarded_for_its_life(backend: str) -> None:
    of = own_slot()

    async def body() -> None:
        client = of.wrap(Client())
        assert [item async for item in client.aitems(3)] == [0, 1, 2]
        assert counts(of) == {"success": 1}
        stream = client.aitems(3)
        assert part(of, "bulkhead")["used"] == 0
        assert await stream.__anext__() == 0
        assert part(of, "bulkhead")["used"] == 1
        assert await stream.asend("sent") == 1
        assert await stream.athrow(KeyError("k")) == 2
        assert type(await error_of(client.afind("x"))) is BulkheadFullError
        await stream.aclose()
        idle(of)
        assert client.noted == ["aitems", "aitems", "sent", "KeyError('k')"]
        client.down = Down("x")
        assert await error_of(anext(client.aitems(1))) is client.down
        assert counts(of)["failure"] == 1
        idle(of)

    run(backend, body)


# -- iterators and paginators ---------------------------------------------


@pytest.mark.parametrize("threaded", [False, True], ids=["here", "thread"])
def test_each_step_of_a_paginator_is_guarded(threaded: bool, policies: Any) -> None:
    of = own_slot(timeout(5, sync="thread")) if threaded else own_slot()
    client = of.wrap(Client())
    pages = client.pages(3)
    assert iter(pages) is pages
    assert next(pages) == 2
    with policies.forced_open(of):
        assert type(raised(next, pages)).__name__ == "CircuitOpenError"
    assert list(pages) == [1, 0]
    assert client.noted == ["page"] * 4
    assert counts(of)["success"] == 3
    assert "failure" not in counts(of), "the end of an iterator is none"
    idle(of)


def test_a_paginator_that_fails_opens_the_circuit() -> None:
    of = policy(circuit_breaker(failure_threshold=3))
    client = of.wrap(Client(Down("x")))
    for _ in range(3):
        assert type(raised(next, client.pages(1))) is Down
    assert of.state == "open"


@backends
def test_each_step_of_an_async_paginator_is_guarded(backend: str, policies: Any) -> None:
    of = own_slot()

    async def body() -> None:
        client = of.wrap(Client())
        pages = client.apages(3)
        assert await anext(pages) == 2
        with policies.forced_open(of):
            assert type(await error_of(anext(pages))).__name__ == "CircuitOpenError"
        assert [page async for page in pages] == [1, 0]
        assert counts(of)["success"] == 3
        assert "failure" not in counts(of)
        idle(of)

    run(backend, body)


# -- context managers ---------------------------------------------


@pytest.mark.parametrize("how", ["lent", "transaction"])
def test_a_context_manager_is_guarded_at_its_entry(how: str, policies: Any) -> None:
    of = own_slot()
    client = of.wrap(Client())
    with getattr(client, how)() as lent:
        assert part(of, "bulkhead")["used"] == 1, "held until it is left, and lent to calls in it"
        (lent.find if how == "lent" else lent.put)(1)
        with policies.forced_open(of):
            assert (
                type(raised(lent.find if how == "lent" else lent.put, 1)).__name__
                == "CircuitOpenError"
            )
    assert client.noted == ["enter", "part.find" if how == "lent" else "put", "exit"]
    manager = getattr(client, how)()
    with policies.forced_open(of):
        assert type(raised(manager.__enter__)).__name__ == "CircuitOpenError"
    assert client.noted[3:] == []
    idle(of)


@pytest.mark.parametrize("how", ["lent", "transaction"])
def test_a_context_manager_is_left_even_while_the_circuit_is_open(how: str, policies: Any) -> None:
    of = own_slot()
    client = of.wrap(Client())
    with policies.forced_open(of):
        pass
    manager = getattr(client, how)()
    manager.__enter__()
    with policies.forced_open(of):
        manager.__exit__(None, None, None)
    assert client.noted == ["enter", "exit"]


@pytest.mark.parametrize("how", ["lent", "transaction"])
def test_entries_that_fail_in_a_row_open_the_circuit(how: str) -> None:
    of = policy(circuit_breaker(failure_threshold=5))
    client = of.wrap(Client(Down("x")))
    for _ in range(5):
        assert type(raised(getattr(client, how)().__enter__)) is Down
    assert of.state == "open", "to be handed out is no success of the dependency"


def test_an_error_of_the_block_passes_the_context_manager() -> None:
    of = own_slot()
    client = of.wrap(Client())
    error = Down("mine")
    for how in ("lent", "transaction"):

        def block(how: str = how) -> None:
            with getattr(client, how)():
                raise error

        assert raised(block) is error
    assert client.noted == ["enter", "exit"] * 2
    assert "failure" not in counts(of)
    idle(of)


@backends
@pytest.mark.parametrize("how", ["alent", "transaction"])
def test_an_async_context_manager(how: str, backend: str, policies: Any) -> None:
    of = own_slot()

    async def body() -> None:
        client = of.wrap(Client())
        async with getattr(client, how)() as lent:
            assert part(of, "bulkhead")["used"] == 1
            (lent.find if how == "alent" else lent.put)(1)
        assert client.noted[0::2] == ["enter", "exit"]
        manager = getattr(client, how)()
        with policies.forced_open(of):
            assert type(await error_of(manager.__aenter__())).__name__ == "CircuitOpenError"
        manager = getattr(client, how)()
        await manager.__aenter__()
        with policies.forced_open(of):
            await manager.__aexit__(None, None, None)
        assert client.noted[3:] == ["enter", "exit"]
        idle(of)

    run(backend, body)


@backends
def test_an_async_context_manager_method_needs_no_choice_of_a_sync_limit(backend: str) -> None:
    class Pool:
        alent = Client.alent
        note = Client.note

        def __init__(self) -> None:
            self.noted: list[str] = []
            self.down = None
            self.sub = object()

        async def afind(self) -> int:
            return 1

    of = policy(timeout(5), bulkhead(1))

    async def body() -> None:
        client = of.wrap(Pool())
        async with client.alent():
            pass
        assert await client.afind() == 1
        assert client.noted == ["enter", "exit"]

    run(backend, body)


# -- what is handed out ---------------------------------------------


def test_clones_are_guarded_and_data_is_as_it_is() -> None:
    of = own_slot()
    client = of.wrap(Client())
    other = client.clone()
    assert other is not client
    assert other.find("x") == "x"
    assert counts(of)["success"] >= 1
    assert type(client.settings) is dict
    assert client.settings is client.__wrapped__.settings
    before = counts(of).get("success", 0)
    other.clone().sub.find("y")
    assert counts(of)["success"] >= before + 1


def test_what_hands_out_a_part_says_nothing_of_the_dependency() -> None:
    class Cursor:
        def __init__(self, connection: Any) -> None:
            self.connection = connection

        def execute(self) -> None:
            raise Down("x")

    class Connection:
        def cursor(self) -> Cursor:
            return Cursor(self)

    of = policy(circuit_breaker(failure_threshold=5))
    client = of.wrap(Connection())
    for _ in range(5):
        assert type(raised(client.cursor().execute)) is Down
    assert of.state == "open"


def test_a_method_that_returns_a_method_leaves_the_others_guarded() -> None:
    class Handed:
        def handler(self) -> Any:
            return self._inner

        def maker(self) -> Any:
            return lambda: 1

        def _inner(self) -> int:
            return 1

        def find(self) -> int:
            return 2

    of = own_slot()
    client = of.wrap(Handed())
    client.handler()
    client.maker()
    client.by_hand = lambda: 3
    before = sum(counts(of).values())
    client.find()
    client.by_hand()
    assert sum(counts(of).values()) == before + 2


def test_a_property_that_returns_a_function_is_asked_once() -> None:
    class Counting:
        asked = 0

        @property
        def step(self) -> Any:
            self.asked += 1
            number = self.asked
            return lambda: number

        def find(self) -> int:
            return 1

    of = own_slot()
    client = of.wrap(Counting())
    first, second = client.step, client.step
    assert (second(), first(), client.asked) == (2, 1, 2)
    assert counts(of) == {"success": 2}


def test_a_part_that_is_handed_back_arrives_as_the_client_knows_it() -> None:
    class Connection:
        def __init__(self, pool: Any) -> None:
            self.pool = pool

        def ping(self) -> bool:
            return True

    class Pool:
        def __init__(self) -> None:
            self.lent: list[Connection] = []

        def get(self) -> Connection:
            self.lent.append(Connection(self))
            return self.lent[-1]

        def release(self, connection: Connection) -> bool:
            return any(connection is each for each in self.lent)

        def check(self, *, connection: Connection) -> bool:
            return any(connection is each for each in self.lent)

    client = own_slot().wrap(Pool())
    connection = client.get()
    assert client.check(connection=connection)
    assert client.release(connection)


# -- kinds of classes ---------------------------------------------


class Slotted:
    __slots__ = ("_down", "sub")

    def __init__(self, sub: Any = None) -> None:
        self.sub = sub

    def find(self, title: str) -> str:
        return title


class Inherited(Client):
    def find(self, title: str, *, year: int = 2000) -> str:
        return super().find(title, year=year) + "!"


@dataclasses.dataclass
class Record:
    host: str = "localhost"
    tags: list[str] = dataclasses.field(default_factory=list)

    def find(self, title: str) -> str:
        return title


class Base(abc.ABC):
    @abc.abstractmethod
    def find(self, title: str) -> str: ...


class Concrete(Base):
    def find(self, title: str) -> str:
        return title


class Meta(type):
    def __call__(cls, *args: Any) -> Any:
        made = super().__call__(*args)
        made.made_by_meta = True
        return made

    def __instancecheck__(cls, instance: Any) -> bool:
        return type.__instancecheck__(cls, instance)


class WithMeta(metaclass=Meta):
    def find(self, title: str) -> str:
        return title


@pytest.mark.parametrize("make", [Slotted, Inherited, Record, Concrete, WithMeta])
def test_clients_of_other_classes(make: Any) -> None:
    of = own_slot()
    client = of.wrap(make())
    assert client.find("x").rstrip("!") == "x"
    assert isinstance(client, make)
    assert client.__class__ is make
    assert counts(of) == {"success": 1}
    if make is Concrete:
        assert isinstance(client, Base)
    if make is Slotted:
        client.sub = Slotted()
        assert client.sub.find("y") == "y"
        assert counts(of) == {"success": 2}
        assert type(client.__wrapped__.sub) is Slotted


def test_a_dataclass_client_passes_for_one() -> None:
    bare = Record("db", ["a"])
    client = own_slot().wrap(bare)
    assert dataclasses.fields(client) == dataclasses.fields(bare)
    assert dataclasses.is_dataclass(client)
    assert dataclasses.asdict(client) == dataclasses.asdict(bare)
    assert dataclasses.astuple(client) == dataclasses.astuple(bare)
    assert dataclasses.replace(client, host="x") == Record("x", ["a"])
    assert client == Record("db", ["a"])
    match client:
        case Record(host=host):
            assert host == "db"
        case _:
            raise AssertionError("it is a Record")


def test_a_client_that_is_an_iterator_and_a_context_manager_itself() -> None:
    class Feed:
        def __init__(self) -> None:
            self.left = 2
            self.log: list[str] = []

        def __enter__(self) -> Feed:
            self.log.append("enter")
            return self

        def __exit__(self, *exc: object) -> None:
            self.log.append("exit")

        def __iter__(self) -> Feed:
            return self

        def __next__(self) -> int:
            if not self.left:
                raise StopIteration
            self.left -= 1
            return self.left

    of = own_slot()
    client = of.wrap(Feed())
    with client as entered:
        assert entered is client
        assert iter(client) is client
        assert list(client) == [1, 0]
    assert client.log == ["enter", "exit"]
    assert "failure" not in counts(of)


def test_item_access_and_membership_go_through_the_policy(policies: Any) -> None:
    class Store:
        def __init__(self) -> None:
            self.held = {"a": 1}

        def __getitem__(self, key: str) -> int:
            return self.held[key]

        def __setitem__(self, key: str, value: int) -> None:
            self.held[key] = value

        def __delitem__(self, key: str) -> None:
            del self.held[key]

        def __contains__(self, key: str) -> bool:
            return key in self.held

        def __len__(self) -> int:
            return len(self.held)

    of = own_slot()
    client = of.wrap(Store())
    client["b"] = 2
    assert (client["a"], client["b"], "b" in client, "z" in client, len(client)) == (
        1,
        2,
        True,
        False,
        2,
    )
    del client["b"]
    assert counts(of) == {"success": 6}
    error = raised(lambda: client["z"])
    assert (type(error), error.args) == (KeyError, ("z",))
    assert counts(of) == {"success": 6, "ignored": 1}
    with policies.forced_open(of):
        assert type(raised(lambda: client["a"])).__name__ == "CircuitOpenError"
        assert len(client) == 1


def test_methods_that_the_policy_decorates_already_are_guarded_once() -> None:
    of = own_slot()

    class Decorated:
        @of
        def find(self) -> int:
            return 1

        @of
        def items(self) -> Any:
            yield 1
            yield 2

        @of
        async def afind(self) -> int:
            return 3

        @of
        async def aitems(self) -> Any:
            yield 4

        def bare(self) -> int:
            return 5

    client = of.wrap(Decorated())
    assert client.find() == 1
    assert list(client.items()) == [1, 2]

    async def body() -> None:
        assert await client.afind() == 3
        assert [item async for item in client.aitems()] == [4]

    run("asyncio", body)
    assert client.bare() == 5
    assert counts(of) == {"success": 5}
    idle(of)


def test_coroutines_made_by_types_coroutine_and_awaitable_objects() -> None:
    class Answer:
        def __init__(self, parent: Any) -> None:
            self.parent = parent

        def __await__(self) -> Any:
            yield from anyio.lowlevel.checkpoint().__await__()
            return "answer"

    class Old:
        @types.coroutine
        def find(self) -> Any:
            yield from anyio.lowlevel.checkpoint().__await__()
            return "old"

        def answer(self) -> Answer:
            return Answer(self)

    of = own_slot()

    async def body() -> None:
        client = of.wrap(Old())
        assert await client.find() == "old"
        assert await client.answer() == "answer"
        idle(of)

    run("asyncio", body)
    assert counts(of).get("success") == 2
    assert inspect.isawaitable(of.wrap(Old()).answer())


def test_a_plain_method_that_returns_a_task_gives_a_task() -> None:
    class Submits:
        def submit(self) -> Any:
            return asyncio.ensure_future(self._work())

        async def _work(self) -> int:
            return 3

    of: Policy = policy(bulkhead(10))

    async def body() -> None:
        client = of.wrap(Submits())
        assert await client.submit() == 3
        task = client.submit()
        assert not task.done()
        assert asyncio.isfuture(task)
        assert await asyncio.wait_for(task, 5) == 3
        assert task.result() == 3
        assert await asyncio.gather(client.submit(), client.submit()) == [3, 3]
        other = client.submit()
        assert other.cancel()
        assert type(await error_of(other)) is asyncio.CancelledError

    asyncio.run(body())
    idle(of)
    assert "failure" not in counts(of)


def test_used_by_the_standard_librarys_stacks_and_pools() -> None:
    import concurrent.futures
    import contextlib

    of = guards()
    client = of.wrap(Client())
    with contextlib.ExitStack() as stack:
        lent = stack.enter_context(client.lent())
        assert lent.find("x") == "x"
        assert type(stack.enter_context(client.transaction())).__name__ == "Transaction"
        assert stack.enter_context(contextlib.closing(client)) is client
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            assert list(pool.map(client.find, "abc")) == ["a", "b", "c"]
    assert client.noted[-3:] == ["close", "exit", "exit"]

    async def body() -> None:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(client.alent())
            await stack.enter_async_context(client.transaction())
            assert await asyncio.to_thread(client.find, "y") == "y"
            assert await asyncio.gather(*[client.afind(str(each)) for each in range(3)]) == [
                "0",
                "1",
                "2",
            ]
            async with asyncio.TaskGroup() as group:
                task = group.create_task(client.afind("z"))
            assert task.result() == "z"

    asyncio.run(body())
    assert "failure" not in counts(of)
    idle(of)
