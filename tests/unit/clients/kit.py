"""What the tests of wrapped clients share: policies, the loops, and one client of every shape."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Awaitable, Iterator
from typing import Any

import anyio.lowlevel

from resilient import Policy, bulkhead, circuit_breaker
from resilient.testing import ManualClock
from tests.kit.policies import policy


class Down(Exception):
    """What a dependency that is down raises."""


def guards(*more: Any, clock: ManualClock | None = None) -> Policy:
    """A policy with a breaker that only watches, and slots for all."""
    return policy(*more, circuit_breaker(metrics_only=True), bulkhead(100), clock=clock)


def own_slot(*more: Any) -> Policy:
    """A policy with one slot: who takes two at once is refused."""
    return policy(*more, bulkhead(1))


class Part:
    """A sub-client: it holds the client that handed it out."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent

    def find(self, title: str = "x") -> str:
        self.parent.note("part.find")
        return title

    async def afind(self, title: str = "x") -> str:
        await anyio.lowlevel.checkpoint()
        self.parent.note("part.afind")
        return title


class Pager:
    """An iterator that calls the dependency for each page."""

    def __init__(self, parent: Any, pages: int) -> None:
        self.parent, self.left = parent, pages

    def __iter__(self) -> Pager:
        return self

    def __next__(self) -> int:
        self.parent.note("page")
        if self.left == 0:
            raise StopIteration
        self.left -= 1
        return self.left


class AsyncPager:
    """The same for tasks."""

    def __init__(self, parent: Any, pages: int) -> None:
        self.parent, self.left = parent, pages

    def __aiter__(self) -> AsyncPager:
        return self

    async def __anext__(self) -> int:
        await anyio.lowlevel.checkpoint()
        self.parent.note("page")
        if self.left == 0:
            raise StopAsyncIteration
        self.left -= 1
        return self.left


class Transaction:
    """A context manager with a class of its own, for threads and for tasks."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent

    def __enter__(self) -> Transaction:
        self.parent.note("enter")
        return self

    def __exit__(self, *exc: object) -> None:
        self.parent.note("exit")

    async def __aenter__(self) -> Transaction:
        await anyio.lowlevel.checkpoint()
        self.parent.note("enter")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await anyio.lowlevel.checkpoint()
        self.parent.note("exit")

    def put(self, value: int) -> int:
        self.parent.note("put")
        return value


class Client:
    """One client of every shape. It notes what reaches it; `down` makes that raise."""

    def __init__(self, down: BaseException | None = None) -> None:
        self.noted: list[str] = []
        self.down = down
        self.sub = Part(self)
        self.settings = {"retries": 3}
        self.partial = functools.partial(self.find, "partial")
        self.function = lambda title: self.note("function") or title
        self.called = Called(self)

    def note(self, what: str) -> None:
        self.noted.append(what)
        if self.down is not None:
            raise self.down

    def find(self, title: str, *, year: int = 2000) -> str:
        """Find a movie."""
        self.note("find")
        return title

    async def afind(self, title: str, *, year: int = 2000) -> str:
        """Find a movie in a task."""
        await anyio.lowlevel.checkpoint()
        self.note("afind")
        return title

    def later(self, title: str) -> Awaitable[str]:
        """Return an awaitable from a plain method."""
        return self.afind(title)

    def items(self, number: int) -> Iterator[Any]:
        """Generate."""
        self.note("items")
        got = []
        for each in range(number):
            try:
                got.append((yield each))
            except KeyError as error:
                got.append(repr(error))
        return got

    async def aitems(self, number: int) -> Any:
        """Generate in a task."""
        await anyio.lowlevel.checkpoint()
        self.note("aitems")
        for each in range(number):
            try:
                got = yield each
                if got is not None:
                    self.noted.append(got)
            except KeyError as error:
                self.noted.append(repr(error))

    def pages(self, number: int) -> Pager:
        return Pager(self, number)

    def apages(self, number: int) -> AsyncPager:
        return AsyncPager(self, number)

    def transaction(self) -> Transaction:
        return Transaction(self)

    @contextlib.contextmanager
    def lent(self) -> Iterator[Part]:
        """Lend a part."""
        self.note("enter")
        try:
            yield self.sub
        finally:
            self.noted.append("exit")

    @contextlib.asynccontextmanager
    async def alent(self) -> Any:
        """Lend a part to a task."""
        await anyio.lowlevel.checkpoint()
        self.note("enter")
        try:
            yield self.sub
        finally:
            self.noted.append("exit")

    @property
    def users(self) -> Part:
        return self.sub

    def clone(self) -> Client:
        made = type(self)(self.down)
        made.noted = self.noted
        return made

    @classmethod
    def named(cls, name: str) -> str:
        """Say a name."""
        return f"{cls.__name__} {name}"

    @staticmethod
    def doubled(number: int) -> int:
        """Double."""
        return 2 * number

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return lambda *args: self.note(name) or args
        raise AttributeError(f"no {name} here")

    def __call__(self, title: str) -> str:
        self.note("call")
        return title

    def close(self) -> str:
        self.noted.append("close")
        return "closed"


class Called:
    """A callable object that is kept in an attribute."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent

    def __call__(self, title: str) -> str:
        self.parent.note("called")
        return title
