"""A cancellation at every checkpoint of a call: nothing is held after it, nothing swallows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import (
    CallTimeoutError,
    Policy,
    bulkhead,
    circuit_breaker,
    collapse,
    fallback,
    hedge,
    last_good,
    retry,
    timeout,
)
from tests.kit.cancellation import Swept, sweep
from tests.kit.policies import idle, part, policy, trip
from tests.kit.waiting import WAIT

LOOPING = retry(on=OSError, attempts=3, wait_initial=1e-6, wait_max=1e-6)

Run = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Awaitable[None]]
checkpoint = anyio.lowlevel.checkpoint


async def three() -> str:
    """Pass three checkpoints."""
    for _ in range(3):
        await checkpoint()
    return "full"


async def cleans_up() -> str:
    """Pass three checkpoints and one in the clean-up."""
    try:
        return await three()
    finally:
        with anyio.CancelScope(shield=True):
            await checkpoint()


async def fails() -> str:
    """Fail after a checkpoint."""
    await checkpoint()
    raise OSError("down")


async def less() -> str:
    """Answer something lesser, after two checkpoints."""
    await checkpoint()
    await checkpoint()
    return "less"


def whole(seconds: float = 60, **breaker: Any) -> Policy:
    """Return a policy of all four guards with one slot and a line."""
    return policy(
        fallback(less),
        circuit_breaker(**breaker),
        bulkhead(1, max_waiting=3, max_wait=30),
        timeout(seconds, sync="cooperative"),
    )


async def to_be(shop: Policy, key: str, number: int) -> None:
    """Wait until the bulkhead shows a number."""
    with anyio.fail_after(WAIT):
        while part(shop, "bulkhead")[key] != number:
            await checkpoint()


def ways(shop: Policy, fn: Callable[[], Any]) -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
    """Return every way to make an async call."""

    async def late() -> Any:
        pending: Any = shop.call(lambda: fn())
        return await pending

    decorated = shop(fn)
    return {"decorated": decorated, "acall": lambda: shop.acall(fn), "awaited": late}


def nothing_held(shop: Policy, seen: Swept, values: set[Any], shielded: int = -1) -> None:
    """Check one run of a sweep."""
    idle(shop)
    if seen.asked and seen.at != shielded:
        assert seen.came_out, f"the cancellation at checkpoint {seen.at} was swallowed"
    else:
        assert seen.value in values
    booked = shop.snapshot()
    assert sum(booked["served"].values()) <= sum(booked["calls"].values())


@pytest.mark.parametrize("way", ["decorated", "acall", "awaited"])
@pytest.mark.parametrize("body", [three, cleans_up])
def test_sweep_of_a_call_that_goes_well(
    loop: str, way: str, body: Callable[[], Coroutine[Any, Any, str]]
) -> None:
    """Cancelled at any checkpoint of its body, a call gives everything back."""
    shop = whole()

    async def scene(run: Run) -> None:
        await run(ways(shop, body)[way])

    # Trio does not cancel in the shielded clean-up, and after it there is no checkpoint any more.
    shielded = 4 if loop == "trio" and body is cleans_up else -1
    points = sweep(loop, scene, lambda seen: nothing_held(shop, seen, {"full"}, shielded))
    assert points > 3
    calls = shop.snapshot()["calls"]
    assert calls["failure"] == calls["refused"] == 0
    assert shop.state == "closed"


@pytest.mark.parametrize("way", ["decorated", "acall", "block"])
def test_sweep_of_a_call_of_a_key(loop: str, way: str) -> None:
    """Cancelled at any checkpoint, the call of a key is over for its key, too."""
    shop = whole()
    hosts = shop.keyed(lambda: "a", max_keys=1)

    async def in_block() -> str:
        async with hosts.block():
            return await three()

    decorated = hosts(three)
    made = {"decorated": decorated, "acall": lambda: hosts.acall(three),
            "block": in_block}  # fmt: skip

    async def scene(run: Run) -> None:
        await run(made[way])

    def check(seen: Swept) -> None:
        nothing_held(shop, seen, {"full"})
        for state in hosts._table.all():
            assert (state.users, state.key.running) == ([], 0)
            assert state.is_idle(0.0)

    assert sweep(loop, scene, check) > 3


@pytest.mark.parametrize("batch", [False, True])
def test_sweep_of_a_shared_call(loop: str, batch: bool) -> None:
    """Cancelled at any checkpoint, its caller stops nobody else, and leaves nothing behind."""
    plain = policy(bulkhead(2))  # one for a call that is cancelled, and has not ended yet

    async def body(keys: Any) -> Any:
        return {key: await three() for key in keys} if batch else await three()

    shared: Any = collapse(within=0.001)(plain(body)) if batch else collapse(plain(body))
    others: list[Any] = []

    async def other() -> None:
        others.append(await shared("a"))

    async def scene(run: Run) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(other)
            await run(lambda: shared("a"))

    def check(seen: Swept) -> None:
        idle(plain)
        assert seen.came_out or seen.value == "full"
        assert others.pop() == "full"
        flights = next(
            c.cell_contents for c in shared.__closure__ if hasattr(c.cell_contents, "open")
        )
        assert flights.open == {}

    assert sweep(loop, scene, check) >= 1


@pytest.mark.parametrize("way", ["decorated", "acall"])
def test_sweep_of_a_wait_in_line(loop: str, way: str) -> None:
    """Cancelled at any checkpoint of its wait, before or after the grant, it loses no slot."""
    shop = whole()

    async def scene(run: Run) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(shop.acall, three)
            await to_be(shop, "used", 1)
            await run(ways(shop, three)[way])

    points = sweep(loop, scene, lambda seen: nothing_held(shop, seen, {"full"}))
    assert points > 4


def test_sweep_of_a_wait_between_two_others(loop: str) -> None:
    """Whoever is cancelled in the middle of the line, the one behind is served all the same."""
    shop = whole()
    behind: list[str] = []

    async def scene(run: Run) -> None:
        async def last() -> None:
            behind.append(await shop.acall(three))

        async with anyio.create_task_group() as group:

            async def middle() -> None:
                await run(lambda: shop.acall(three))
                over.append(1)

            over: list[int] = []
            gate = anyio.Event()
            group.start_soon(shop.acall, gate.wait)
            await to_be(shop, "used", 1)
            group.start_soon(middle)
            while not over and part(shop, "bulkhead")["waiting"] == 0:
                await checkpoint()
            group.start_soon(last)
            while part(shop, "bulkhead")["waiting"] != (1 if over else 2):
                await checkpoint()
            gate.set()

    points = sweep(loop, scene, lambda seen: nothing_held(shop, seen, {"full"}))
    assert behind == ["full"] * (points + 1)


@pytest.mark.parametrize("way", ["decorated", "acall", "awaited"])
@pytest.mark.parametrize("down", [False, True])
def test_sweep_of_what_is_kept_and_given(loop: str, way: str, down: bool) -> None:
    """A cancelled call is not answered with what was, and nothing of it is kept."""
    shop = policy(
        fallback(less), last_good(key=lambda: 0),
        circuit_breaker(failure_threshold=None, minimum_calls=1000), bulkhead(1),
        timeout(60, sync="cooperative"),
    )  # fmt: skip

    async def scene(run: Run) -> None:
        await run(ways(shop, fails if down else three)[way])

    before = 0

    def check(seen: Swept) -> None:
        nonlocal before
        nothing_held(shop, seen, {"less"} if down else {"full"})
        entries = part(shop, "last_good")["entries"]
        # It does not act on what a plain function returns to be awaited.
        assert entries == (not down and way != "awaited" and (before or not seen.asked))
        before = entries

    assert sweep(loop, scene, check) > 1
    assert part(shop, "last_good")["answers"]["given"] == 0


@pytest.mark.parametrize("way", ["decorated", "acall", "awaited"])
def test_sweep_of_a_failure_and_its_fallback(loop: str, way: str) -> None:
    """Cancelled in the body or in the async fallback, a failing call gives everything back."""
    shop = whole(failure_threshold=None, minimum_calls=1000)

    async def scene(run: Run) -> None:
        await run(ways(shop, fails)[way])

    points = sweep(loop, scene, lambda seen: nothing_held(shop, seen, {"less"}))
    assert points > 2
    assert shop.snapshot()["served"]["degraded"] == 1


@pytest.mark.parametrize("way", ["decorated", "acall", "awaited", "loop"])
def test_sweep_of_attempts_and_the_pauses_between_them(loop: str, way: str) -> None:
    """Cancelled in a body, in a pause or in a fallback, nothing is held, and no token is lost."""
    again = retry(on=OSError, attempts=3, wait_initial=1e-6, wait_max=1e-6, budget=0.1)
    shop = policy(
        *([] if way == "loop" else [fallback(less)]), again,
        *([] if way == "loop" else [circuit_breaker(failure_threshold=None), bulkhead(1)]),
    )  # fmt: skip
    begun: list[int] = []

    async def twice() -> str:
        begun.append(1)
        await fails()
        return "full"

    async def looped() -> str:
        try:
            async for attempt in LOOPING:
                async with attempt:
                    await twice()
        except OSError:
            return "less"
        return "never"

    async def scene(run: Run) -> None:
        again.budget.refill()
        LOOPING.budget.refill()
        begun.clear()
        await run(looped if way == "loop" else ways(shop, twice)[way])

    def check(seen: Swept) -> None:
        budget = (LOOPING if way == "loop" else again).budget
        spent = 10 - budget.left(time.monotonic())
        assert round(spent) == max(0, len(begun) - 1)
        if way != "loop":
            nothing_held(shop, seen, {"less"})

    points = sweep(loop, scene, check)
    assert points > 4


@pytest.mark.parametrize("way", ["decorated", "acall"])
@pytest.mark.parametrize("down", [False, True])
def test_sweep_of_a_race(loop: str, way: str, down: bool) -> None:
    """Cancelled at any checkpoint of the race or of its end, both copies are gone and joined."""
    again = hedge(0, idempotent=True)
    shop = policy(
        fallback(less), again, circuit_breaker(failure_threshold=None, minimum_calls=1000),
        bulkhead(2), timeout(60, sync="cooperative"),
    )  # fmt: skip
    running: list[int] = []

    async def watched() -> str:
        running.append(1)
        try:
            value = await cleans_up()
            if down:
                raise OSError("down")
            return value
        finally:
            running.pop()

    async def scene(run: Run) -> None:
        again.budget.refill()
        await run(ways(shop, watched)[way])
        assert not running

    def check(seen: Swept) -> None:
        answer = "less" if down else "full"
        # On trio the join is shielded: who is cancelled there gets the answer that there is.
        shielded = seen.at if loop == "trio" and seen.value == answer else -1
        nothing_held(shop, seen, {answer}, shielded)
        assert part(shop, "hedge")["left"] == 0

    assert sweep(loop, scene, check) > 2
    assert sum(part(shop, "hedge")["hedged"].values()) > 0


def test_sweep_of_a_refusal_and_its_fallback(loop: str) -> None:
    """Cancelled in the fallback that answers a refusal, nothing is held."""
    shop = whole(recovery_timeout=600)
    trip(shop)

    async def scene(run: Run) -> None:
        await run(lambda: shop.acall(three))

    sweep(loop, scene, lambda seen: nothing_held(shop, seen, {"less"}))
    assert shop.state == "open"


@pytest.mark.parametrize("ends", ["full", "less"])
def test_sweep_of_a_probe(loop: str, ends: str) -> None:
    """A probe cancelled at any checkpoint gives its place back and moves nothing."""
    shops: list[Policy] = []

    async def scene(run: Run) -> None:
        shop = whole(recovery_timeout=60)
        shop.force_open()
        shop.release()
        assert shop.state == "half_open"
        shops.append(shop)
        await run(shop(three if ends == "full" else fails))

    def check(seen: Swept) -> None:
        nothing_held(shops[-1], seen, {ends})
        if seen.asked:
            allowed = {"half_open", "open"} if ends == "less" else {"half_open"}
        else:
            allowed = {"open"} if ends == "less" else {"closed"}
        assert shops[-1].state in allowed

    sweep(loop, scene, check)


@pytest.mark.parametrize("way", ["decorated", "acall"])
def test_sweep_of_a_timeout(loop: str, way: str) -> None:
    """Cancelled before, at or after its own timeout, a call holds nothing and says so rightly."""
    shop = whole(seconds=0.003, failure_threshold=None, minimum_calls=1000)

    async def slow() -> str:
        await checkpoint()
        await anyio.sleep(30)
        return "never"

    async def scene(run: Run) -> None:
        await run(ways(shop, slow)[way])

    points = sweep(loop, scene, lambda seen: nothing_held(shop, seen, {"less"}))
    assert points >= 3
    assert shop.snapshot()["timeouts"] >= 1


def test_a_cancellation_at_the_very_time_of_the_timeout(loop: str) -> None:
    """When the caller's cancellation and the timeout fall together, the cancellation comes out."""
    shop = policy(circuit_breaker(), bulkhead(1), timeout(0.005))
    ends: list[str] = []

    async def main(run: Run) -> None:
        scope = anyio.CancelScope()

        async def body() -> None:
            try:
                await anyio.sleep(30)
            finally:
                scope.cancel()  # the caller goes away while the timeout is cancelling the body

        with scope:
            try:
                await shop.acall(body)
            except CallTimeoutError:
                ends.append("timeout")
            await checkpoint()
            ends.append("went on")

    sweep_once(loop, main)
    assert "went on" not in ends
    idle(shop)


@pytest.mark.parametrize("way", ["decorated", "acall"])
def test_a_task_cancelled_while_its_timeout_cancels_it(way: str) -> None:
    """A task that its caller cancels during the clean-up after a timeout ends as cancelled."""
    shop = policy(circuit_breaker(), bulkhead(1), timeout(0.005))
    cleaning = asyncio.Event()

    async def body() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            cleaning.set()
            await asyncio.sleep(0.001)

    async def main() -> None:
        call = ways(shop, body)[way]
        task = asyncio.create_task(call())
        await cleaning.wait()
        task.cancel()
        await asyncio.wait({task}, timeout=WAIT)
        assert task.cancelled()

    asyncio.run(main())
    idle(shop)
    assert shop.snapshot()["calls"]["cancelled"] == 1


def test_two_timeouts_and_a_cancellation_at_once(loop: str) -> None:
    """Nested timeouts that expire in one blocked step still give one error and no cancellation."""
    outer = policy(timeout(0.01))
    inner = policy(timeout(0.02))

    async def body() -> None:
        await checkpoint()
        time.sleep(0.04)  # both are up when the loop looks again
        await checkpoint()
        await anyio.sleep(30)

    async def main(run: Run) -> None:
        try:
            await outer.acall(inner.acall, body)
        except CallTimeoutError as error:
            assert error.policy == outer.name
        else:
            raise AssertionError("no timeout")
        await checkpoint()
        await anyio.sleep(0.001)

    sweep_once(loop, main)
    idle(outer)
    idle(inner)
    assert outer.snapshot()["timeouts"] == 1
    assert inner.snapshot()["timeouts"] == 0


def sweep_once(loop: str, scene: Callable[[Run], Any]) -> None:
    """Run a scene on a loop without a sweep."""

    def done(seen: Swept) -> None:
        seen.asked = False

    async def first(run: Run) -> None:
        if not runs:
            runs.append(1)
            await scene(run)

    runs: list[int] = []
    sweep(loop, first, done)
