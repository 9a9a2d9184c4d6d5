"""Calls through a policy without decorating: read by mypy and pyright, both strict; never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Generator, Iterator
from functools import partial
from typing import Literal, assert_type

from resilient import Policy, Result, bulkhead, circuit_breaker

policy = Policy("calling", circuit_breaker())
view = policy.with_(bulkhead(5))


def fetch(a: int, *, b: str = "") -> float:
    return a / 1


async def afetch(a: int, *, b: str = "") -> float:
    return a / 1


def hand_out(a: int) -> Awaitable[float]:
    return afetch(a)


def items(a: int) -> Iterator[str]:
    yield str(a)


def exchange(a: int) -> Generator[str, int, bool]:
    yield str(a)
    return True


async def aitems(a: int) -> AsyncIterator[str]:
    yield str(a)


@policy
def guarded(a: int, *, b: str = "") -> float:
    return a / 1


class Client:
    def fetch(self, a: int) -> float:
        return a / 1

    async def afetch(self, a: int) -> float:
        return a / 1

    async def __call__(self, a: int) -> float:
        return a / 1


def call(client: Client) -> None:
    assert_type(policy.call(fetch, 1, b="x"), float)
    assert_type(policy.call(guarded, 1, b="x"), float)
    assert_type(view.call(fetch, a=1), float)
    assert_type(policy.call(client.fetch, 1), float)
    assert_type(policy.call(partial(fetch, 1), b="x"), float)
    assert_type(policy.call(lambda: 1.0), float)
    assert_type(policy.call(items, 1), Iterator[str])
    assert_type(policy.call(exchange, 1), Generator[str, int, bool])
    assert_type(policy.call(aitems, 1), AsyncIterator[str])
    policy.call(fetch, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.call(fetch, 1, c=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    policy.call(fetch)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    policy.call(items, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.call(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    policy.call(client.fetch, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.call(afetch, 1)  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]


async def acall(client: Client) -> None:
    assert_type(await policy.acall(afetch, 1, b="x"), float)
    assert_type(await view.acall(afetch, a=1), float)
    assert_type(await policy.acall(client.afetch, 1), float)
    assert_type(await policy.acall(client, 1), float)
    assert_type(await policy.acall(partial(afetch, 1), b="x"), float)
    assert_type(await policy.acall(hand_out, 1), float)
    await policy.acall(afetch, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await policy.acall(afetch, 1, c=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await policy.acall(afetch)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await policy.acall(fetch, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await policy.acall(aitems, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.acall(afetch, 1)  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]


def try_call(client: Client) -> None:
    assert_type(policy.try_call(fetch, 1, b="x"), Result[float])
    assert_type(policy.try_call(fetch, 1).value, float)
    assert_type(view.try_call(client.fetch, 1), Result[float])
    assert_type(policy.try_call(partial(fetch, 1), b="x"), Result[float])
    policy.try_call(fetch, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.try_call(fetch, 1, c=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    policy.try_call(fetch)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def atry_call(client: Client) -> None:
    assert_type(await policy.atry_call(afetch, 1, b="x"), Result[float])
    assert_type((await policy.atry_call(afetch, 1)).value, float)
    assert_type(await view.atry_call(client.afetch, 1), Result[float])
    assert_type(await policy.atry_call(hand_out, 1), Result[float])
    await policy.atry_call(afetch, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await policy.atry_call(afetch, 1, c=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await policy.atry_call(fetch, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- results ------------------------------------------------------------------------


class Animal: ...


class Dog(Animal): ...


def results(dog: Result[Dog], animal: Result[Animal]) -> None:
    wider: Result[Animal] = dog
    print(wider)
    assert_type(dog.value, Dog)
    assert_type(dog.served, Literal["full", "degraded", "error", "caller_error"])
    assert_type(dog.error, Exception | None)
    assert_type(dog.elapsed, float)
    narrower: Result[Dog] = animal  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(narrower)
    wrong = dog.served == "fully"  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
    print(wrong)
    dog.retries  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
