"""Attempts inside attempts of another policy: known in tasks and threads, and only while they run."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio

from resilient import Policy, bulkhead, retry, timeout
from resilient.testing import ManualClock
from tests.kit.policies import part

NOW: Any = {"on": ConnectionError, "wait_initial": 0, "wait_max": 0}


def two(name: str, nested: Any = "never", **inner: Any) -> tuple[Policy, Policy]:
    """Return a policy, and one for calls inside its attempts."""
    return (
        Policy(f"{name}-outer", retry(**NOW)),
        Policy(f"{name}-inner", retry(**NOW, nested=nested, **inner)),
    )


def down() -> None:
    raise ConnectionError


async def adown() -> None:
    await anyio.lowlevel.checkpoint()
    raise ConnectionError


def in_a_thread(fn: Callable[[], Any]) -> Any:
    """Run fn on a thread that has the caller's context."""
    context, ends = contextvars.copy_context(), []
    thread = threading.Thread(target=lambda: ends.append(context.run(fn)))
    thread.start()
    thread.join(30)
    return ends[0]


@pytest.mark.parametrize("where", ["here", "thread"])
def test_known_in_sync_code(name: str, where: str) -> None:
    """In the body itself, and on a thread that got its context."""
    outer, inner = two(name)
    results: list[Any] = []

    def body() -> None:
        ask = lambda: inner.try_call(down)  # noqa: E731
        results.append(ask() if where == "here" else in_a_thread(ask))
        raise ConnectionError

    outer.try_call(body)
    assert [each.attempts for each in results] == [1, 1, 1]
    assert results[0].why_no_retry == f"it is inside an attempt of {outer.name}, which tries again"
    assert inner.try_call(down).attempts == 3


@pytest.mark.parametrize(
    "run", [lambda main: asyncio.run(main()), trio.run], ids=["asyncio", "trio"]
)
def test_known_in_the_tasks_of_an_attempt(name: str, run: Any) -> None:
    """Of a task group, too."""
    outer, inner = two(name)
    results: list[Any] = []

    async def one() -> None:
        results.append(await inner.atry_call(adown))

    async def body() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(one)
            group.start_soon(one)
        raise ConnectionError

    async def main() -> None:
        await outer.atry_call(body)
        await one()

    run(main)
    assert [each.attempts for each in results] == [1] * 6 + [3]


def test_a_task_that_outlives_the_attempt_is_on_its_own(name: str) -> None:
    """The record of an attempt is closed at its end."""
    outer, inner = two(name)

    async def later(go: asyncio.Event) -> Any:
        await go.wait()
        return await inner.atry_call(adown)

    async def main() -> Any:
        go = asyncio.Event()

        async def body() -> Any:
            return asyncio.create_task(later(go))

        task = (await outer.atry_call(body)).value
        go.set()
        return await task

    assert asyncio.run(main()).attempts == 3


@pytest.mark.parametrize("sync", ["cooperative", "thread"])
def test_known_under_a_time_limit_and_in_a_stream(name: str, sync: Any) -> None:
    """On a worker thread, and in each step of a generator."""
    outer = Policy(f"{name}-timed", retry(**NOW, attempts=1), timeout(30, sync=sync))
    inner = two(name)[1]
    assert outer.call(inner.try_call, down).attempts == 1
    stream = Policy(f"{name}-stream", retry(**NOW), bulkhead(1))

    def rows() -> Any:
        yield inner.try_call(down)
        yield inner.try_call(down)

    seen = []
    for result in stream.call(rows):
        seen.append(result.attempts)
        seen.append(inner.try_call(down).attempts)  # between two steps: not inside
    assert seen == [1, 3, 1, 3]


def test_what_was_paid_for_an_attempt_that_does_not_begin_comes_back(name: str) -> None:
    """To both budgets."""
    clock = ManualClock()
    clock.skips = True
    outer = Policy(f"{name}-outer", retry(**NOW), clock=clock)
    inner = Policy(
        f"{name}-inner", retry(on=ConnectionError, wait_initial=1, wait_max=1), bulkhead(1),
        clock=clock,
    )  # fmt: skip
    blocks: list[Any] = []

    def full() -> None:
        blocks.append(inner.block())
        blocks[0].__enter__()

    def body() -> Any:
        def fetch() -> None:
            clock.call_at(clock.now() + 0.5, full)  # in the pause
            raise ConnectionError

        return inner.try_call(fetch)

    result = outer.call(body)
    blocks[0].__exit__(None, None, None)
    assert result.attempts == 1
    assert "its bulkhead refuses" in result.why_no_retry
    assert part(inner, "retry")["budget_left"] == part(outer, "retry")["budget_left"] == 10


def test_a_policy_inside_itself_pays_once(name: str) -> None:
    """It is one budget."""
    policy = Policy(name, retry(**NOW, attempts=2))

    def body(depth: int) -> Any:
        if depth:
            return policy.call(body, depth - 1)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        policy.call(body, 1)
    assert part(policy, "retry")["retries"] == 3
    assert part(policy, "retry")["budget_left"] == pytest.approx(7 + 0.3, abs=0.11)
