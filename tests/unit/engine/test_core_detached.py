"""What the compiled path runs besides plain calls: blocks, streams, clients' calls, trio's tasks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import anyio
import httpx
import pytest
import trio

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    remaining,
    set_active,
    timeout,
)
from resilient.engine.call import Call
from resilient.engine.compiled import taken
from resilient.engine.detached_call import DetachedCall
from resilient.state_types import compiled
from resilient.testing import ManualClock
from tests.kit.policies import counts, idle, part, policy, policy_of
from tests.kit.waiting import until
from tests.kit.worlds import BACKENDS, run

LONG = 60.0
needs_core = pytest.mark.skipif(compiled is None, reason="Python's twin may take the interpreter")


def called(*guards: Any) -> Policy:
    """Return a policy that has been called: its first call is the interpreter's."""
    of = policy(*guards)
    if any(guard.kind == "timeout" and guard.sync is None for guard in guards):
        asyncio.run(of.acall(anyio.lowlevel.checkpoint))
    else:
        of.call(int)
    return of


def whole(sync: Any = "cooperative", seconds: float = LONG) -> Policy:
    return called(
        fallback(value="instead"), circuit_breaker(), bulkhead(3), timeout(seconds, sync=sync)
    )


def ends(of: Policy) -> dict[str, int]:
    """Return how the calls after the first ended."""
    number = counts(of)
    number["success"] -= 1
    return {word: number for word, number in number.items() if number}


@contextmanager
def no_calls() -> Iterator[None]:
    """Fail where the interpreter takes a call."""

    def made(self: Call, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("the interpreter was asked")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Call, "__init__", made)
        yield


class Client:
    """A client of some library, which owns what it returns."""

    def find(self, *numbers: int, **words: int) -> int:
        assert remaining() is not None
        return sum(numbers) + sum(words.values())

    async def afind(self, *numbers: int, **words: int) -> int:
        await anyio.lowlevel.checkpoint()
        return self.find(*numbers, **words)

    def later(self) -> Any:
        return self.afind(1)


# -- it is the path that runs them ---------------------------------------------


@needs_core
def test_what_goes_well_needs_no_interpreter() -> None:
    of = whole()

    @of
    def numbers(most: int) -> Generator[int]:
        for number in range(most):
            assert remaining() is not None
            yield number

    client = of.wrap(Client())
    with no_calls():
        with of.block():
            assert remaining() is not None
        assert list(numbers(3)) == [0, 1, 2]
        assert [client.find(1), client.find(1, 2, k=3)] == [1, 6]
        assert client.find(*range(12), **{f"k{n}": n for n in range(12)}) == 132
    assert remaining() is None
    assert ends(of) == {"success": 5}
    idle(of)


@needs_core
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("limited", [True, False])
def test_what_goes_well_in_a_task_needs_no_interpreter(backend: str, limited: bool) -> None:
    of = whole() if limited else called(circuit_breaker(), bulkhead(3))

    @of
    async def number(value: int) -> int:
        await anyio.lowlevel.checkpoint()
        assert (remaining() is not None) is limited
        return value

    @of
    async def numbers(most: int) -> AsyncGenerator[int]:
        for each in range(most):
            await anyio.lowlevel.checkpoint()
            assert (remaining() is not None) is limited
            yield each

    client = of.wrap(Client())

    async def main() -> None:
        assert await number(7) == 7
        if limited:
            assert await client.afind(1, 2, k=3) == 6
        if backend == "asyncio" or not limited:
            async with of.block():
                assert (remaining() is not None) is limited
            assert [each async for each in numbers(3)] == [0, 1, 2]

    with no_calls():
        run(backend, main)
    assert remaining() is None
    idle(of)


# -- blocks ---------------------------------------------


def test_a_block_that_nobody_leaves_gives_its_slot_back_at_once() -> None:
    of = whole()
    for _ in range(2):  # the interpreter admits the first
        block = of.block()
        block.__enter__()
        assert of.snapshot()["in_flight"] == part(of, "bulkhead")["used"] == 1
        assert remaining() is not None
        del block
        assert of.snapshot()["in_flight"] == part(of, "bulkhead")["used"] == 0
        assert remaining() is None
    assert ends(of) == {"cancelled": 2}


def test_a_block_is_left_once() -> None:
    of = whole()
    block = of.block()
    with block:
        pass
    for again in (
        block.__enter__,
        lambda: block.__exit__(None, None, None),
        lambda: block.fail("x"),
    ):
        with pytest.raises(RuntimeError, match="block"):
            again()
    assert ends(of) == {"success": 1}
    idle(of)


def test_a_block_says_how_it_ended() -> None:
    of = whole()
    with of.block() as b:
        b.ignore()
        b.fail("a negative level")
    with of.block() as b:
        b.ignore()
    with pytest.raises(OSError), of.block():
        raise OSError("down")
    with pytest.raises(KeyboardInterrupt), of.block():
        raise KeyboardInterrupt
    assert ends(of) == {"failure": 2, "ignored": 1, "cancelled": 1}
    assert remaining() is None
    idle(of)


def test_a_block_that_was_entered_before_a_fork_is_its_parents() -> None:
    of = whole()
    with of.block():
        child = os.fork()
        if not child:
            os._exit(0 if of.snapshot()["in_flight"] == 0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ends(of) == {"success": 1}


def test_a_block_does_not_keep_its_policy() -> None:
    of = policy_of(circuit_breaker()(lambda: 1))
    with of.block():
        pass
    gone = weakref.ref(of)
    del of
    assert gone() is None, "the policy is a part of a cycle"


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_time_of_an_async_block_is_up(backend: str) -> None:
    of = whole(seconds=0.01)

    async def main() -> None:
        with pytest.raises(CallTimeoutError) as caught:
            async with of.block():
                await anyio.sleep(LONG)
        assert caught.value.policy == of.name
        with anyio.move_on_after(0.0) as scope:
            async with of.block():
                await anyio.sleep(LONG)
        assert scope.cancelled_caught

    run(backend, main)
    assert ends(of) == {"failure": 1, "cancelled": 1}
    idle(of)


# -- streams ---------------------------------------------


def test_a_stream_whose_consumer_takes_its_time_counts_its_own() -> None:
    """The histogram has what the steps took, and not what the consumer did between them."""
    clock = ManualClock()
    of = policy(circuit_breaker(), bulkhead(3), clock=clock)
    of.call(int)

    @of
    def numbers() -> Generator[int]:
        for number in range(3):
            clock.advance(0.0625)
            yield number
        clock.advance(step / 64)

    for step, pause in ((0, 2), (4, 0.001), (0, 0.001)):
        before = of.snapshot()["duration"]["sum"]
        for _ in numbers():
            clock.advance(pause)
        took = of.snapshot()["duration"]["sum"] - before
        assert took == pytest.approx(3 * 0.0625 + step / 64)
    assert counts(of) == {"success": 4}
    idle(of)


def test_a_quick_stream_of_a_quick_consumer() -> None:
    """All within the first bucket, where the core books the end by itself."""
    clock = ManualClock()
    of = policy(circuit_breaker(), bulkhead(3), clock=clock)
    of.call(int)

    @of
    def numbers() -> Generator[int]:
        for number in range(2):
            clock.advance(2**-11)
            yield number

    for _ in numbers():
        clock.advance(2**-10)
    assert of.snapshot()["duration"]["sum"] == 2 * 2**-11


def test_an_outer_limit_that_begins_between_two_steps_binds_the_next() -> None:
    of, outer = whole(), called(timeout(0.5, sync="cooperative"))

    @of
    def lefts() -> Generator[float]:
        for _ in range(3):
            left = remaining()
            assert left is not None
            yield left

    stream = lefts()
    assert next(stream) > 1
    assert outer.call(next, stream) <= 0.5
    assert next(stream) > 1
    stream.close()
    assert ends(of) == {"cancelled": 1}
    idle(of)


def test_a_stream_whose_time_is_up_between_two_steps() -> None:
    of = whole(seconds=0.02)
    ended: list[str] = []

    @of
    def numbers() -> Generator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.append("cleaned up")

    stream = numbers()
    assert next(stream) == 1
    threading.Event().wait(0.03)
    with pytest.raises(CallTimeoutError):
        next(stream)
    assert (ended, ends(of)) == (["cleaned up"], {"failure": 1})
    idle(of)


def test_what_a_stream_is_sent_thrown_and_returns() -> None:
    of = whole()

    @of
    def echoes() -> Generator[Any, Any, str]:
        got = None
        for _ in range(3):
            try:
                got = yield got
            except KeyError as error:
                got = error.args[0]
        return "done"

    stream = echoes()
    assert [next(stream), stream.send("a"), stream.throw(KeyError("b"))] == [None, "a", "b"]
    with pytest.raises(StopIteration) as end:
        stream.send("c")
    assert end.value.value == "done"
    assert ends(of) == {"success": 1}
    idle(of)


def test_a_stream_that_can_not_be_made_fails() -> None:
    of = whole()

    @of
    def numbers(one: int) -> Generator[int]:
        yield one

    assert list(numbers()) == list("instead")  # type: ignore[call-arg]
    assert ends(of) == {"failure": 1}
    idle(of)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_async_streams_step_is_cut(backend: str) -> None:
    of = whole(seconds=0.05)

    @of
    async def numbers() -> AsyncGenerator[int]:
        yield 1
        await anyio.sleep(LONG)
        yield 2

    async def main() -> None:
        got: list[int] = []
        with pytest.raises(CallTimeoutError) as caught:
            async for each in numbers():
                got.append(each)
        assert (got, caught.value.policy) == ([1], of.name)

    run(backend, main)
    assert ends(of) == {"failure": 1}
    idle(of)


def test_an_async_stream_goes_on_in_another_loop() -> None:
    """Its limit is no longer the first loop's timer."""
    of = whole(seconds=0.2)

    @of
    async def numbers() -> AsyncGenerator[int]:
        yield 1
        await asyncio.sleep(LONG)
        yield 2

    stream = numbers()
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        assert first.run_until_complete(anext(stream)) == 1
        with pytest.raises(CallTimeoutError):
            second.run_until_complete(anext(stream))
    finally:
        first.close()
        second.close()
    idle(of)


# -- clients ---------------------------------------------


def test_a_method_that_is_replaced_is_seen() -> None:
    of, bare = whole(), Client()
    client = of.wrap(bare)
    assert client.find(1) == 1
    bare.find = lambda *numbers, **words: -1  # type: ignore[method-assign]
    assert client.find(1) == -1
    del bare.find
    assert client.find(1) == 1


def test_a_librarys_own_timeout_is_the_policys_once_its_time_is_up() -> None:
    """Before that time the library's own stands."""
    of, clock = policy(circuit_breaker(), timeout(1, sync="cooperative")), threading.Event()
    takes = [0.0]

    def answer(request: httpx.Request) -> httpx.Response:
        clock.wait(takes[0])
        raise httpx.ReadTimeout("timed out", request=request)

    with httpx.Client(transport=httpx.MockTransport(answer)) as bare:
        client = of.wrap(bare)
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout) as own:
                client.get("http://localhost/")
            assert not isinstance(own.value, CallTimeoutError)
        of.update(timeout={"seconds": 0.02})
        takes[0] = 0.03
        with pytest.raises(CallTimeoutError):
            client.get("http://localhost/")
    assert of.snapshot()["timeouts"] == 1
    idle(of)


def test_a_plain_method_may_return_a_coroutine() -> None:
    of = whole()
    client = of.wrap(Client())
    assert asyncio.run(client.later()) == 1
    assert ends(of) == {"success": 1}
    idle(of)


def test_a_wrapped_client_is_freed() -> None:
    of = whole()
    bare = Client()
    client = of.wrap(bare)
    assert client.find(1) == 1
    gone = weakref.ref(bare)
    del bare, client
    gc.collect()
    assert gone() is None


# -- trio ---------------------------------------------


def test_in_trio_the_time_is_up() -> None:
    of = called(circuit_breaker(), bulkhead(1), timeout(0.02))

    @of
    async def hangs(seconds: float) -> str:
        await trio.sleep(seconds)
        return "in time"

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(CallTimeoutError) as caught:
                await hangs(LONG)
            assert (caught.value.policy, caught.value.timeout) == (of.name, 0.02)
        assert await hangs(0) == "in time"
        of.update(timeout={"seconds": LONG})
        assert await hangs(0.03) == "in time"
        with trio.move_on_after(0.0) as scope:
            await hangs(LONG)
        assert scope.cancelled_caught

    trio.run(main)
    assert ends(of) == {"success": 2, "failure": 2, "cancelled": 1}
    assert remaining() is None
    idle(of)


def test_in_trio_the_tightest_limit_is_named() -> None:
    """In a task of its own an inner call has a limit of its own."""
    outer, inner = (policy(bulkhead(3), timeout(LONG)) for _ in range(2))

    @inner
    async def sleeps(seconds: float) -> None:
        await trio.sleep(seconds)

    async def in_child(seconds: float) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleeps, seconds)

    async def main() -> None:
        for fn in (sleeps, in_child):
            outer.update(timeout={"seconds": LONG})
            guarded = outer(fn)
            for _ in range(2):
                await guarded(0)
            outer.update(timeout={"seconds": 0.02})
            with pytest.raises(CallTimeoutError) as caught:
                await guarded(LONG)
            assert caught.value.policy == outer.name
        outer.update(timeout={"seconds": LONG})
        inner.update(timeout={"seconds": 0.02})
        with pytest.raises(BaseExceptionGroup) as group:
            await guarded(LONG)
        (error,) = group.value.exceptions
        assert isinstance(error, CallTimeoutError)
        assert error.policy == inner.name

    trio.run(main)
    assert counts(inner) == {"success": 4, "cancelled": 2, "failure": 1}
    idle(inner)
    idle(outer)


def test_in_trio_a_slot_is_held_by_the_body() -> None:
    of = called(bulkhead(1), timeout(LONG))

    @of
    async def hangs(event: trio.Event) -> None:
        await event.wait()

    async def main() -> None:
        event = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hangs, event)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(BulkheadFullError):
                await hangs(event)
            event.set()

    trio.run(main)
    assert ends(of) == {"success": 1, "refused": 1}
    idle(of)


def test_in_trio_a_body_that_ends_late_is_a_success() -> None:
    of = called(circuit_breaker(), timeout(0.01))

    @of
    async def late() -> str:
        threading.Event().wait(0.02)
        return "late"

    assert trio.run(late) == "late"
    assert ends(of) == {"success": 1}
    assert of.snapshot()["late_values"] == 1
    idle(of)


# -- found by trying to break it ---------------------------------------------


class Raised(BaseException):
    """What a signal handler raises."""


@pytest.mark.parametrize("way", ["sync", "async"])
def test_no_fallback_answers_after_an_item_though_no_time_passes(way: str) -> None:
    """Of a manual clock, or one of a coarse grain."""
    of = policy(fallback(lambda: ["instead"]), circuit_breaker(), clock=ManualClock())
    of.call(int)

    @of
    def numbers() -> Generator[int]:
        yield 1
        raise OSError("down")

    @of
    async def anumbers() -> AsyncGenerator[int]:
        yield 1
        raise OSError("down")

    async def collected() -> list[int]:
        return [each async for each in anumbers()]

    with pytest.raises(OSError, match="down"):
        list(numbers()) if way == "sync" else asyncio.run(collected())


def test_an_async_stream_that_can_not_be_made_is_answered_once() -> None:
    of = called(fallback(lambda *_: ["a", "b"]), circuit_breaker(), bulkhead(3))

    @of
    async def numbers(one: int) -> AsyncGenerator[Any]:
        yield one

    async def collected() -> list[Any]:
        return [each async for each in numbers()]  # type: ignore[call-arg]

    assert asyncio.run(collected()) == ["a", "b"]
    assert ends(of) == {"failure": 1}
    idle(of)


@needs_core
def test_a_block_whose_end_was_interrupted_is_given_back_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The interrupt comes after the pass was booked, and before the block knows."""
    of = whole()
    with of.block():
        pass
    leave: Any = of._block_plan().leave

    def interrupted(entered: Any, value: None) -> bool:
        leave(entered, value)
        raise Raised

    block = of.block()
    block.__enter__()
    with monkeypatch.context() as patch:
        patch.setattr(of._block_plan(), "leave", interrupted)
        with pytest.raises(Raised):
            block.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="has ended"):
        block.fail("x")
    with pytest.raises(RuntimeError, match="has ended"):
        block.__exit__(None, None, None)
    del block
    gc.collect()
    assert ends(of) == {"success": 2}
    idle(of)


@needs_core
def test_a_pass_that_was_booked_is_not_taken_over() -> None:
    of = whole()
    with of.block():
        pass
    plan = of._block_plan()
    assert plan.sync is not None
    entered = plan.sync()
    assert plan.leave(entered, None)
    with pytest.raises(RuntimeError, match="booked"):
        taken(DetachedCall, entered, int, (), {})
    with pytest.raises(RuntimeError, match="booked"):
        plan.leave(entered, None)
    assert ends(of) == {"success": 2}
    idle(of)


def test_a_dropped_block_lets_the_next_in_at_once() -> None:
    """Nobody else has to come first, or to look."""
    of = called(bulkhead(1, max_waiting=1, max_wait=LONG))
    with of.block():
        pass
    block = of.block()
    block.__enter__()
    del block
    assert (of._core.in_flight, of._core.outbox) == (0, [])
    block = of.block()
    block.__enter__()
    ended: list[int] = []
    waiter = threading.Thread(target=lambda: ended.append(of.call(int, "7")), daemon=True)
    waiter.start()
    until(lambda: part(of, "bulkhead")["waiting"] == 1)
    del block
    waiter.join(LONG / 2)
    assert ended == [7]


def test_a_block_at_the_end_of_the_stack_has_its_own_error() -> None:
    """Not that of a block that knows nothing of its call."""
    of = called(bulkhead(3), timeout(LONG, sync="cooperative"))
    with of.block():
        pass

    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
            return
        with of.block() as b:
            b.fail("too deep")

    for depth in range(sys.getrecursionlimit() - 200, sys.getrecursionlimit()):
        with contextlib.suppress(RecursionError):
            deep(depth)
    of.try_call(int)
    idle(of)


def test_a_block_that_may_not_begin_is_not_used_up() -> None:
    of = policy(timeout(LONG, sync="thread"))
    block = of.block()
    with pytest.raises(TypeError, match="cooperative"):
        block.__enter__()

    async def main() -> None:
        async with block:
            pass

    asyncio.run(main())
    assert counts(of) == {"success": 1}


def test_a_block_keeps_its_policy() -> None:
    of = policy_of(bulkhead(1)(lambda: 1))
    block, seen = of.block(), weakref.ref(of)
    del of
    with block:
        assert seen() is not None


@pytest.mark.parametrize("fails", [True, False])
def test_the_limit_of_a_dropped_block_cuts_nobody(fails: bool) -> None:
    of = called(timeout(0.02), bulkhead(3))

    async def main() -> None:
        async with of.block():
            pass
        block = of.block()
        await block.__aenter__()
        if fails:
            block.fail("x")
        del block
        assert remaining() is None
        await asyncio.sleep(0.05)

    asyncio.run(main())
    idle(of)


def test_a_stream_has_the_limit_that_it_began_with() -> None:
    """Whatever is changed meanwhile, and whoever goes on with it."""
    of, outer = whole(seconds=5), called(timeout(LONG, sync="cooperative"))

    @of
    def lefts() -> Generator[float | None]:
        while True:
            yield remaining()

    stream = lefts()
    assert (next(stream) or LONG) <= 5
    of.update(timeout={"seconds": 30})
    with outer.block():  # from here on the interpreter drives it
        assert (next(stream) or LONG) <= 5
    assert (next(stream) or LONG) <= 5
    stream.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_protection_that_is_switched_off_between_two_steps(backend: str) -> None:
    of = whole(seconds=5)

    @of
    async def lefts() -> AsyncGenerator[float | None]:
        while True:
            yield remaining()

    async def main() -> None:
        stream = lefts()
        assert await anext(stream) is not None
        with switched_off():
            assert await anext(stream) is None
        await stream.aclose()

    run(backend, main)
    idle(of)


@contextmanager
def switched_off() -> Iterator[None]:
    set_active(False)
    try:
        yield
    finally:
        set_active(True)


def test_a_trio_coroutine_that_is_closed_outside_trio() -> None:
    of = policy(circuit_breaker(), bulkhead(3), timeout(LONG))

    @of
    async def hangs() -> None:
        await trio.sleep(LONG)

    async def begun() -> Any:
        await anyio.lowlevel.checkpoint()
        coroutine: Any = hangs()
        coroutine.send(None)
        return coroutine

    for _ in range(2):
        trio.run(begun).close()
    assert counts(of) == {"cancelled": 2}
    idle(of)


def test_a_call_of_asyncio_while_trio_is_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    of = called(bulkhead(1), timeout(LONG))

    @of
    async def one(inside: Any = None) -> None:
        if inside is not None:
            with pytest.raises(BulkheadFullError):
                await inside()

    monkeypatch.setitem(sys.modules, "trio", ModuleType("trio"))
    asyncio.run(one(one))
    idle(of)


def test_an_async_method_that_returns_a_coroutine_holds_no_slot() -> None:
    class Makes:
        async def make(self) -> Any:
            return self.get()

        async def get(self) -> int:
            return 5

    of = called(bulkhead(2))
    client = of.wrap(Makes())

    async def main() -> None:
        made = [await client.make() for _ in range(4)]
        assert {type(each) for each in made} == {type(made[0])}
        assert of.snapshot()["in_flight"] == 0
        assert [await each for each in made] == [5] * 4

    asyncio.run(main())
    idle(of)


def test_an_item_is_not_kept_while_its_consumer_has_it() -> None:
    of = whole()

    @of
    def things() -> Generator[Any]:
        yield Raised()
        yield Raised()

    for each in things():
        gone = weakref.ref(each)
        del each
        assert gone() is None
