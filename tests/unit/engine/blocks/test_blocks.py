"""A block: admission where it is entered, one outcome where it is left."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import (
    BulkheadFullError,
    CircuitOpenError,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    timeout,
)
from resilient.testing import ManualClock
from tests.kit.blocks import Way, entering, taken
from tests.kit.colours import Gone
from tests.kit.policies import booked, counts, idle, part, policy
from tests.kit.waiting import WAIT, until


def touchy(slots: int = 1, *inner: Any, **options: Any) -> Policy:
    """A policy whose circuit opens at the first failure."""
    return policy(circuit_breaker(failure_threshold=1, **options), bulkhead(slots), *inner)


def test_a_block_that_goes_well(way: Way) -> None:
    """A slot from enter to exit, and one success."""
    shop = touchy()

    async def body() -> None:
        block = shop.block()
        assert taken(shop) == (0, 0)
        async with way.enter(block):
            assert taken(shop) == (1, 1)
            assert counts(shop) == {}
        assert taken(shop) == (0, 0)

    way.run(body)
    assert booked(shop) == ({"success": 1}, {"full": 1})
    assert shop.snapshot()["duration"]["count"] == 1


def test_an_empty_policy_has_blocks_too(way: Way) -> None:
    """A policy without guards counts its blocks."""
    shop = policy()

    async def body() -> None:
        async with way.block(shop) as b:
            assert hasattr(b, "fail")
            assert hasattr(b, "ignore")

    way.run(body)
    assert booked(shop) == ({"success": 1}, {"full": 1})


def test_a_block_is_for_one_use(way: Way) -> None:
    """A new object each time; entered again, inside or afterwards, it is a RuntimeError."""
    shop = touchy(9)
    assert shop.block() is not shop.block()

    async def body() -> None:
        block = shop.block()
        async with way.enter(block):
            with pytest.raises(RuntimeError):
                async with way.enter(block):
                    pytest.fail("it was entered twice")
            assert taken(shop) == (1, 1)
        for again in (way.enter(block), way.enter(block)):
            with pytest.raises(RuntimeError):
                async with again:
                    pytest.fail("it was entered twice")

    way.run(body)
    assert booked(shop) == ({"success": 1}, {"full": 1})
    idle(shop)


def test_a_block_used_in_one_way_is_used_up_for_the_other(away: Way) -> None:
    """What was entered by `with` can't be entered by `async with`, nor the other way round."""
    shop = policy(bulkhead(9))

    async def body() -> None:
        first, second = shop.block(), shop.block()
        with first:
            pass
        async with second:
            pass
        with pytest.raises(RuntimeError):
            async with first:
                pass
        with pytest.raises(RuntimeError), second:
            pass

    away.run(body)
    assert counts(shop) == {"success": 2}


def test_a_refusal_is_raised_where_it_is_entered(way: Way) -> None:
    """A full bulkhead, an open circuit and a forced state refuse at enter; nothing runs."""
    shop, ran = touchy(), []

    async def body() -> None:
        async with way.block(shop):
            with pytest.raises(BulkheadFullError):
                async with way.block(shop):
                    ran.append(1)
        shop.force_open("drill")
        with pytest.raises(CircuitOpenError, match="drill"):
            async with way.block(shop):
                ran.append(1)

    way.run(body)
    assert ran == []
    assert booked(shop) == ({"success": 1, "refused": 2}, {"full": 1, "error": 2})
    refusals = shop.snapshot()["refusals"]
    assert (refusals["bulkhead"], refusals["policy"]) == (1, 1)
    idle(shop)


@pytest.mark.parametrize("error", [OSError("down"), ExceptionGroup("two", [OSError(), KeyError()])])
def test_a_failure_is_judged_and_raised_as_it_is(way: Way, error: Exception) -> None:
    """The very exception comes out, with nothing hung on it, and is a failure."""
    shop = touchy()

    async def body() -> None:
        with pytest.raises(type(error)) as caught:
            async with way.block(shop):
                raise error
        assert caught.value is error
        assert isinstance(await entering(way, shop), CircuitOpenError)

    way.run(body)
    assert (error.__cause__, error.__context__) == (None, None)
    assert booked(shop) == ({"failure": 1, "refused": 1}, {"error": 2})
    idle(shop)


def test_an_exception_that_is_named_is_ignored(way: Way) -> None:
    """ignore= holds for blocks."""
    shop = touchy(ignore=KeyError)

    async def body() -> None:
        with pytest.raises(KeyError):
            async with way.block(shop):
                raise KeyError("mine")

    way.run(body)
    assert booked(shop) == ({"ignored": 1}, {"caller_error": 1})
    assert shop.state == "closed"
    idle(shop)


@pytest.mark.parametrize("exit_", [Gone, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("said", ["nothing", "fail", "ignore"])
def test_what_is_no_exception_is_a_cancellation(way: Way, exit_: Any, said: str) -> None:
    """An exit is passed on, gives the slot back and is nobody's failure, whatever was said."""
    shop = touchy(1, timeout(60, sync="cooperative"))

    async def body() -> None:
        with pytest.raises(exit_):
            async with way.block(shop) as b:
                if said == "fail":
                    b.fail("bad answer")
                elif said == "ignore":
                    b.ignore()
                raise exit_

    way.run(body)
    assert (booked(shop), shop.state) == (({"cancelled": 1}, {}), "closed")
    idle(shop)


def test_the_fallback_never_runs(way: Way) -> None:
    """Neither a refusal nor a failure nor a word of the block's is answered by the fallback."""
    ran: list[int] = []
    shop = policy(
        fallback(lambda *args: ran.append(1)), circuit_breaker(failure_threshold=3), bulkhead(1)
    )

    async def body() -> None:
        with pytest.raises(OSError, match="down"):
            async with way.block(shop):
                raise OSError("down")
        async with way.block(shop) as b:
            b.fail("bad answer")
        async with way.block(shop):
            assert isinstance(await entering(way, shop), BulkheadFullError)
        shop.force_open()
        assert isinstance(await entering(way, shop), CircuitOpenError)

    way.run(body)
    assert ran == []
    assert booked(shop) == (
        {"success": 1, "failure": 2, "refused": 2},
        {"full": 1, "error": 4},
    )
    assert shop.snapshot()["fallback_failures"] == 0
    idle(shop)


def test_the_plan_says_that_the_fallback_does_not_act_in_blocks() -> None:
    """print(policy) tells it where there is a fallback."""
    (told,) = [line for line in str(policy(fallback(value=[]))).splitlines() if "block" in line]
    assert "fallback" in told
    assert " no" in told
    assert "block" not in str(policy(bulkhead(1)))


def test_a_task_waits_in_line_where_it_enters(away: Way) -> None:
    """A task that finds no slot waits at enter until another block is left."""
    shop, order = policy(bulkhead(1, max_waiting=1, max_wait=WAIT)), []

    async def second() -> None:
        async with shop.block():
            order.append("second")

    async def body() -> None:
        async with anyio.create_task_group() as group, shop.block():
            group.start_soon(second)
            while part(shop, "bulkhead")["waiting"] == 0:
                await anyio.lowlevel.checkpoint()
            order.append("first")

    away.run(body)
    assert order == ["first", "second"]
    assert counts(shop) == {"success": 2}
    assert shop.snapshot()["wait"]["count"] == 1
    idle(shop)


def test_a_thread_waits_in_line_where_it_enters() -> None:
    """The same for `with` in threads."""
    shop, order = policy(bulkhead(1, max_waiting=1, max_wait=WAIT)), []

    def second() -> None:
        with shop.block():
            order.append("second")

    with shop.block():
        thread = threading.Thread(target=second, daemon=True)
        thread.start()
        until(lambda: part(shop, "bulkhead")["waiting"] == 1)
        order.append("first")
    thread.join(WAIT)
    assert order == ["first", "second"]
    idle(shop)


def test_a_wait_that_is_too_long(way: Way, clock: ManualClock) -> None:
    """Who waited max_wait in vain is refused at enter."""
    shop = policy(bulkhead(1, max_waiting=1, max_wait=0.02))

    async def body() -> None:
        if not way.is_async:
            holder, go = threading.Event(), threading.Event()

            def hold() -> None:
                with shop.block():
                    holder.set()
                    go.wait(WAIT)

            thread = threading.Thread(target=hold, daemon=True)
            thread.start()
            assert holder.wait(WAIT)
            assert isinstance(await entering(way, shop), BulkheadFullError)
            go.set()
            thread.join(WAIT)
            return
        async with way.block(shop):
            assert isinstance(await entering(way, shop), BulkheadFullError)

    way.run(body)
    assert counts(shop) == {"success": 1, "refused": 1}
    idle(shop)
