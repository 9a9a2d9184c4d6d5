"""Each decorator on a generator and an async generator: read by type checkers, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import assert_type

from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout

policy = Policy("streams", circuit_breaker(), timeout(1.0, sync="cooperative"))
view = policy.with_(timeout(0.1, sync="cooperative"))


def _items(a: int) -> Generator[str, int, bool]:
    yield str(a)
    return True


async def _aitems(a: int) -> AsyncGenerator[str, int]:
    yield str(a)


@circuit_breaker
def bare_breaker(a: int) -> Iterator[str]:
    yield str(a)


@bulkhead
def bare_bulkhead(a: int) -> Generator[str, int, bool]:
    yield str(a)
    return True


@timeout(0.3, sync="cooperative")
def timed(a: int) -> Generator[str, int, bool]:
    yield str(a)
    return True


@fallback(_items)
def answered(a: int) -> Generator[str, int, bool]:
    yield str(a)
    return True


@policy
def by_policy(a: int) -> Iterator[str]:
    yield str(a)


@view
def by_view(a: int) -> Generator[str, int, bool]:
    yield str(a)
    return True


@fallback(_items)
@circuit_breaker(failure_rate=0.3)
@bulkhead
def stacked(a: int) -> Generator[str, int, bool]:
    yield str(a)
    return True


@circuit_breaker
async def abare_breaker(a: int) -> AsyncIterator[str]:
    yield str(a)


@bulkhead
async def abare_bulkhead(a: int) -> AsyncGenerator[str, int]:
    yield str(a)


@timeout
async def abare_timeout(a: int) -> AsyncGenerator[str, int]:
    yield str(a)


@timeout(0.3)
async def atimed(a: int) -> AsyncGenerator[str, int]:
    yield str(a)


@fallback(_aitems)
async def aanswered(a: int) -> AsyncGenerator[str, int]:
    yield str(a)


@policy
async def aby_policy(a: int) -> AsyncIterator[str]:
    yield str(a)


@view
async def aby_view(a: int) -> AsyncGenerator[str, int]:
    yield str(a)


@fallback(_aitems)
@circuit_breaker
@bulkhead(20)
@timeout(0.3)
async def astacked(a: int) -> AsyncGenerator[str, int]:
    yield str(a)


def generators() -> None:
    assert_type(bare_breaker(1), Iterator[str])
    assert_type(bare_bulkhead(1), Generator[str, int, bool])
    assert_type(timed(1), Generator[str, int, bool])
    assert_type(answered(1), Generator[str, int, bool])
    assert_type(by_policy(1), Iterator[str])
    assert_type(by_view(1), Generator[str, int, bool])
    assert_type(stacked(1), Generator[str, int, bool])
    for item in stacked(1):
        assert_type(item, str)
    assert_type(stacked(1).send(1), str)


def delegating() -> Generator[str, int, None]:
    assert_type((yield from stacked(1)), bool)


def generators_refuse() -> None:
    bare_breaker("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    by_policy("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    stacked("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    stacked(1).send("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def async_generators() -> None:
    assert_type(abare_breaker(1), AsyncIterator[str])
    assert_type(abare_bulkhead(1), AsyncGenerator[str, int])
    assert_type(abare_timeout(1), AsyncGenerator[str, int])
    assert_type(atimed(1), AsyncGenerator[str, int])
    assert_type(aanswered(1), AsyncGenerator[str, int])
    assert_type(aby_policy(1), AsyncIterator[str])
    assert_type(aby_view(1), AsyncGenerator[str, int])
    assert_type(astacked(1), AsyncGenerator[str, int])
    async for item in astacked(1):
        assert_type(item, str)
    assert_type(await astacked(1).asend(1), str)


async def async_generators_refuse() -> None:
    abare_breaker("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    aby_policy("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    astacked("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await astacked(1).asend("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await astacked(1)  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]


# -- under the decorators of contextlib ----------------------------------------------


@contextmanager
@policy
def connection(a: int) -> Generator[str]:
    yield str(a)


@asynccontextmanager
@circuit_breaker
@bulkhead(5)
async def aconnection(a: int) -> AsyncGenerator[str]:
    yield str(a)


async def context_managers() -> None:
    with connection(1) as opened:
        assert_type(opened, str)
    async with aconnection(1) as aopened:
        assert_type(aopened, str)
    connection("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    aconnection("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
