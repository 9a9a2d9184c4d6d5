"""What a call hands out: answers that are here, pages that fetch more, work that is not begun."""

from __future__ import annotations

import asyncio
import collections
import functools
import itertools
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property
from typing import Any

import pytest

from resilient import CircuitOpenError, circuit_breaker, timeout
from resilient.testing import ManualClock
from tests.kit.policies import counts, error_of, idle, part, policy, raised
from tests.kit.worlds import BACKENDS, run
from tests.unit.clients.kit import Down, guards, own_slot

backends = pytest.mark.parametrize("backend", BACKENDS)
threads = pytest.mark.parametrize("threaded", [False, True], ids=["here", "thread"])


class Source:
    """A client whose answers reach back to it, each in a way of its own."""

    def __init__(self) -> None:
        self.down = False
        self.asked = 0

    def _fetch(self, page: int = 0) -> list[int]:
        self.asked += 1
        if self.down:
            raise Down("x")
        return [page, page + 1]

    def page(self) -> Page:
        return Page(self, self._fetch())

    async def apage(self) -> Page:
        await asyncio.sleep(0)
        return Page(self, self._fetch())

    def alone(self) -> Alone:
        return Alone(self._fetch())

    async def aalone(self) -> Alone:
        return Alone(self._fetch())

    def lazy(self) -> LazyRows:
        return LazyRows(self._fetch)

    def listed(self) -> list[Row]:
        return [Row(self, each) for each in self._fetch()]

    def later(self, kind: str) -> Any:
        return {
            "partial": functools.partial(self._fetch, 1),
            "method": self._fetch,
            "closure": lambda: self._fetch(2),
        }[kind]

    def mapped(self) -> Any:
        return map(self._fetch, range(3))

    def close(self) -> None: ...


class Page:
    """An answer with data, an iteration over it, and more to be fetched."""

    def __init__(self, client: Any, data: list[int]) -> None:
        self._client, self.data = client, data
        self._place = 0

    def __getitem__(self, key: int) -> int:
        return self.data[key]

    def __len__(self) -> int:
        return len(self.data)

    def __contains__(self, key: int) -> bool:
        return key in self.data

    def __bool__(self) -> bool:
        return bool(self.data)

    def __reversed__(self) -> Any:
        return reversed(self.data)

    def get(self, key: int, default: Any = None) -> Any:
        return self.data[key] if key < len(self.data) else default

    def to_dict(self) -> dict[str, Any]:
        return {"data": self.data, "of": type(self).__name__}

    def first(self) -> int:
        return self[0]

    def __iter__(self) -> Any:
        page = self
        while True:
            yield from page.data
            if page.data[0] > 3:
                return
            page = page.next_page()

    def next_page(self) -> Page:
        return Page(self._client, self._client._fetch(self.data[-1] + 1))

    @property
    def size(self) -> int:
        return len(self.data)


class Alone:
    """An answer that can be iterated and has nothing to fetch by."""

    def __init__(self, data: list[int]) -> None:
        self.data = data

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> int:
        if not self.data:
            raise StopIteration
        return self.data.pop(0)

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> int:
        if not self.data:
            raise StopAsyncIteration
        return self.data.pop(0)


class LazyRows(Sequence[int]):
    """A sequence that fetches what is asked for."""

    def __init__(self, fetch: Any) -> None:
        self._fetch = fetch

    def __getitem__(self, key: Any) -> Any:
        return self._fetch(key)[0]

    def __len__(self) -> int:
        return len(self._fetch())


class Row:
    """One of a list, by which more can be done."""

    def __init__(self, client: Any, number: int) -> None:
        self.client, self.number = client, number

    def delete(self) -> int:
        self.client._fetch()
        return self.number


def counted(of: Any) -> int:
    return sum(counts(of).values())


READS = {
    "item": lambda page: page[0],
    "length": len,
    "membership": lambda page: 1 in page,
    "truth": bool,
    "reversed": lambda page: list(reversed(page)),
    "get": lambda page: page.get(1),
    "attribute": lambda page: page.data,
    "property": lambda page: page.size,
    "to_dict": lambda page: page.to_dict(),
    "text": str,
}


@threads
@pytest.mark.parametrize("how", READS)
def test_reading_an_answer_is_no_call(how: str, threaded: bool, policies: Any) -> None:
    more = [timeout(5, sync="thread")] if threaded else []
    of = own_slot(*more)
    client = of.wrap(Source())
    page = client.page()
    assert counts(of) == {"success": 1}, "it has arrived"
    with policies.forced_open(of):
        READS[how](page)
    assert counts(of) == {"success": 1}
    assert type(page).__name__ == "Page"
    assert isinstance(page, Page)


@threads
def test_fetching_more_is_a_call(threaded: bool, policies: Any) -> None:
    more = [timeout(5, sync="thread")] if threaded else []
    of = guards(*more)
    client = of.wrap(Source())
    page = client.page()
    assert list(page) == [0, 1, 2, 3, 4, 5]
    assert counts(of) == {"success": 2}, "a stream is one call"
    second = page.next_page()
    assert (second.data, second[0]) == ([2, 3], 2)
    assert counts(of) == {"success": 3}, "and a page of a page has arrived as well"
    with policies.forced_open(of):
        assert type(raised(second.next_page)) is CircuitOpenError
        assert type(raised(next, iter(second))) is CircuitOpenError
    idle(of)


@pytest.mark.parametrize("how", ["page", "alone"])
def test_answers_close_a_circuit(how: str) -> None:
    clock = ManualClock()
    of = policy(circuit_breaker(failure_threshold=3, recovery_timeout=5), clock=clock)
    client = of.wrap(Source())
    client.down = True
    for _ in range(3):
        raised(getattr(client, how))
    client.down = False
    assert of.state == "open"
    clock.advance(6)
    assert getattr(client, how)().data == [0, 1]
    assert of.state == "closed"


@backends
@pytest.mark.parametrize("how", ["aalone"])
def test_async_answers_close_a_circuit(how: str, backend: str) -> None:
    clock = ManualClock()
    of = policy(circuit_breaker(failure_threshold=3, recovery_timeout=5), clock=clock)

    async def body() -> None:
        client = of.wrap(Source())
        client.down = True
        for _ in range(3):
            await error_of(getattr(client, how)())
        client.down = False
        clock.advance(6)
        answer = await getattr(client, how)()
        assert of.state == "closed"
        before = counted(of)
        assert [item async for item in answer] == [0, 1]
        assert counted(of) == before

    run(backend, body)


def test_an_async_answer_that_reaches_back_is_a_success() -> None:
    of = guards()

    async def body() -> None:
        page = await of.wrap(Source()).apage()
        assert (page[0], len(page)) == (0, 2)
        assert counts(of) == {"success": 1}

    asyncio.run(body())


def test_an_iterator_that_has_nothing_to_fetch_by_is_data(policies: Any) -> None:
    of = own_slot()
    answer = of.wrap(Source()).alone()
    with policies.forced_open(of):
        assert list(answer) == [0, 1]
    assert type(answer) is Alone
    assert counts(of) == {"success": 1}


def test_a_lazy_sequence_is_guarded_at_each_read(policies: Any) -> None:
    of = guards()
    rows = of.wrap(Source()).lazy()
    assert isinstance(rows, Sequence)
    assert (rows[5], len(rows)) == (5, 2)
    assert counts(of)["success"] == 2
    with policies.forced_open(of):
        assert type(raised(lambda: rows[0])) is CircuitOpenError
        assert type(raised(len, rows)) is CircuitOpenError


def test_the_parts_in_a_list_are_guarded(policies: Any) -> None:
    of = guards()
    client = of.wrap(Source())
    rows = client.listed()
    assert (type(rows), [row.number for row in rows]) == (list, [0, 1])
    assert rows[1].delete() == 1
    with policies.forced_open(of):
        assert type(raised(rows[0].delete)) is CircuitOpenError
    assert counts(of) == {"success": 2, "refused": 1}


@threads
@pytest.mark.parametrize("kind", ["partial", "method", "closure"])
def test_a_function_that_calls_the_client_later_is_guarded(
    kind: str, threaded: bool, policies: Any
) -> None:
    more = [timeout(5, sync="thread")] if threaded else []
    of = guards(*more)
    client = of.wrap(Source())
    fetch = client.later(kind)
    before = counts(of).get("success", 0)
    assert len(fetch()) == 2
    assert counts(of)["success"] == before + 1
    with policies.forced_open(of):
        assert type(raised(fetch)) is CircuitOpenError


def test_what_was_given_comes_back_as_it_is() -> None:
    class Bus:
        def __init__(self) -> None:
            self.handlers: list[Any] = []

        def on(self, handler: Any) -> Any:
            self.handlers.append(handler)
            return handler

        def echo(self, value: Any) -> Any:
            return value

    of = own_slot()
    client = of.wrap(Bus())
    handler = lambda: client.echo(1)  # noqa: E731 - it holds the client
    assert client.on(handler) is handler
    given = [handler]
    assert client.echo(given) is given


@pytest.mark.parametrize("held", ["weak", "deque", "default", "chained"])
def test_it_reaches_back_however_it_holds_the_client(held: str, policies: Any) -> None:
    class Handle:
        def __init__(self, how: Any) -> None:
            self.__how = how

        def work(self) -> None:
            raise Down("x")

    class Makes:
        def make(self) -> Handle:
            def default(client: Any = self) -> Any:
                return client

            return Handle({
                "weak": weakref.ref(self), "deque": collections.deque([self]),
                "default": default, "chained": itertools.chain([self.find], []),
            }[held])  # fmt: skip

        def find(self) -> None: ...

    of = policy(circuit_breaker(failure_threshold=3))
    client = of.wrap(Makes())
    for _ in range(3):
        assert type(raised(client.make().work)) is Down
    assert of.state == "open", "what it made was no success either"


def test_nothing_of_an_answer_is_run_to_find_out() -> None:
    ran: list[str] = []

    class Touchy(Mapping[str, int]):
        def __init__(self, client: Any) -> None:
            self.client = client

        def __getitem__(self, key: str) -> int:
            ran.append("getitem")
            return 1

        def __iter__(self) -> Any:
            ran.append("iter")
            return iter(())

        def __len__(self) -> int:
            ran.append("len")
            return 0

        def __bool__(self) -> bool:
            ran.append("bool")
            return True

        def __eq__(self, other: object) -> bool:
            ran.append("eq")
            return False

        def __hash__(self) -> int:
            ran.append("hash")
            return 1

        @property
        def body(self) -> str:
            ran.append("body")
            return "body"

        @cached_property
        def text(self) -> str:
            ran.append("text")
            return "text"

        def __getattr__(self, name: str) -> Any:
            ran.append(name)
            raise AttributeError(name)

    class Hands:
        def __init__(self) -> None:
            self.kept = Touchy(self)

        def answer(self) -> Touchy:
            return Touchy(self)

        def answers(self) -> list[Touchy]:
            return [Touchy(self)]

        @property
        def shown(self) -> Touchy:
            return self.kept

    for of in (guards(), guards(timeout(5, sync="thread"))):
        client = of.wrap(Hands())
        client.answer()
        client.answers()
        assert client.kept is not None
        assert client.shown is not None
    assert ran == []


# -- namespaces ---------------------------------------------


class Deep:
    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self.create = lambda: owner._work()


class Namespace:
    def __init__(self, owner: Any) -> None:
        self._owner = owner

    @cached_property
    def deep(self) -> Deep:
        return Deep(self._owner)


class Outer:
    def __init__(self, namespace: Any) -> None:
        self._namespace = namespace

    @property
    def raw(self) -> Namespace:
        return self._namespace  # type: ignore[no-any-return]


class Tree:
    def __init__(self) -> None:
        self.worked = 0

    def _work(self) -> int:
        self.worked += 1
        return self.worked

    @cached_property
    def ns(self) -> Namespace:
        return Namespace(self)

    @cached_property
    def outer(self) -> Outer:
        return Outer(self.ns)

    def close(self) -> None: ...


@threads
def test_namespaces_of_properties_are_guarded_all_the_way(threaded: bool, policies: Any) -> None:
    of = own_slot(*([timeout(5, sync="thread")] if threaded else []))
    client = of.wrap(Tree())
    ways = (lambda: client.ns.deep.create(), lambda: client.outer.raw.deep.create())
    for way in ways:
        way()
        with policies.forced_open(of):
            assert type(raised(way)) is CircuitOpenError
    assert counts(of) == {"success": 2, "refused": 2}
    assert client.worked == 2


# -- futures ---------------------------------------------


class OwnFuture(Future[int]):
    """A class of its own, as clients have it."""


@threads
@pytest.mark.parametrize("kind", [Future, OwnFuture])
def test_a_future_is_judged_when_it_is_done(kind: Any, threaded: bool) -> None:
    class Bus:
        def __init__(self) -> None:
            self.sent: list[Any] = []

        def publish(self) -> Any:
            self.sent.append(kind())
            return self.sent[-1]

    of = guards(*([timeout(5, sync="thread")] if threaded else []))
    client = of.wrap(Bus())
    first = client.publish()
    assert type(first) is kind
    assert first is client.sent[0]
    assert (counts(of), part(of, "bulkhead")["used"]) == ({}, 1)
    first.set_exception(Down("x"))
    assert counts(of) == {"failure": 1}
    client.publish().set_result(1)
    client.publish().cancel()
    assert counts(of) == {"failure": 1, "success": 1, "cancelled": 1}
    idle(of)


def test_a_namespace_that_holds_nothing_of_its_client_is_one_by_its_properties() -> None:
    class Apart:
        @property
        def tool(self) -> Tool:
            return Tool()

    class Tool:
        def work(self) -> int:
            return 1

    class Has:
        def __init__(self) -> None:
            self.apart = Apart()

        def find(self) -> None: ...

    of = own_slot()
    assert of.wrap(Has()).apart.tool.work() == 1
    assert counts(of) == {"success": 1}


# -- streams ---------------------------------------------


@pytest.mark.parametrize("sync", ["thread", "cooperative"])
def test_a_stream_is_one_call_whatever_bounds_it(sync: Any) -> None:
    class Scans:
        def scan(self) -> Any:
            yield from range(300)

        def handed(self) -> Any:
            return self.scan()

        def fails(self) -> Any:
            yield 1
            raise Down("x")

    of = policy(circuit_breaker(), timeout(60, sync=sync))
    client = of.wrap(Scans())
    assert len(list(client.scan())) == 300
    assert counts(of) == {"success": 1}
    assert len(list(client.handed())) == 300
    assert counts(of)["success"] == 2
    assert type(raised(list, client.fails())) is Down
    assert counts(of)["failure"] == 1
    for _ in client.scan():
        break
    assert counts(of)["success"] == 2, "left early, it says nothing"
    idle(of)
