"""Traps 1 to 13: the breaker's states, what counts as what, and bad options."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import anyio
import pytest

from resilient import (
    CallTimeoutError,
    CircuitOpenError,
    Policy,
    bulkhead,
    calls,
    circuit_breaker,
    fallback,
    timeout,
)
from resilient.testing import ManualClock
from tests.kit.policies import idle, part, policy, trip
from tests.kit.threads import in_threads
from tests.kit.waiting import WAIT, until
from tests.kit.worlds import World, run

HERD = 50


def half_open(clock: ManualClock, *inner: Any, **options: Any) -> Policy:
    """Return a policy whose recovery time is just over."""
    made = policy(circuit_breaker(recovery_timeout=5, **options), *inner, clock=clock)
    trip(made)
    clock.advance(5)
    return made


# -- 1 and 2: who may probe ------------------------------------------------------------


@pytest.mark.parametrize("permits", [1, 3])
@pytest.mark.parametrize(
    "inner",
    [
        lambda: (),
        lambda: (bulkhead(HERD),),
        lambda: (bulkhead(HERD), timeout(60, sync="cooperative")),
        lambda: (bulkhead(HERD), timeout(60, sync="thread")),
    ],
    ids=["breaker", "bulkhead", "cooperative", "thread"],
)
def test_trap_01_half_open_herd_of_threads(
    clock: ManualClock, inner: Callable[[], tuple[Any, ...]], permits: int
) -> None:
    """Of 50 threads at the end of the recovery time, only the permitted probes run."""
    shop = half_open(clock, *inner(), half_open_max_calls=permits, success_threshold=permits)
    entered, refused, gate = [], threading.Semaphore(0), threading.Event()

    def body() -> str:
        entered.append(1)
        assert gate.wait(WAIT)
        return "up"

    guarded = shop(body)

    def caller(place: int) -> str:
        try:
            return guarded()
        except CircuitOpenError:
            refused.release()
            raise

    def usher() -> None:
        for _ in range(HERD - permits):
            if not refused.acquire(timeout=WAIT):
                break
        until(lambda: len(entered) >= permits)
        gate.set()

    opener = threading.Thread(target=usher, daemon=True)
    opener.start()
    ends = in_threads(HERD, caller)
    opener.join(WAIT)
    assert len(entered) == permits
    assert [end for end in ends if end == "up"] == ["up"] * permits
    assert sum(isinstance(end, CircuitOpenError) for end in ends) == HERD - permits
    assert shop.state == "closed"
    idle(shop)


@pytest.mark.parametrize("permits", [1, 3])
@pytest.mark.parametrize("whole", [False, True], ids=["breaker", "whole"])
def test_trap_01_half_open_herd_of_tasks(
    clock: ManualClock, backend: str, permits: int, whole: bool
) -> None:
    """Of 50 tasks at the end of the recovery time, only the permitted probes run."""
    inner = (bulkhead(HERD), timeout(60, sync="cooperative")) if whole else ()
    shop = half_open(clock, *inner, half_open_max_calls=permits, success_threshold=permits)
    entered, ends = [], []

    async def main() -> None:
        gate, all_refused = anyio.Event(), anyio.Event()

        async def body() -> str:
            entered.append(1)
            await gate.wait()
            return "up"

        guarded = shop(body)

        async def caller() -> None:
            try:
                ends.append(await guarded())
            except CircuitOpenError as error:
                ends.append(error)
                if len(ends) == HERD - permits:
                    all_refused.set()

        async with anyio.create_task_group() as group:
            for _ in range(HERD):
                group.start_soon(caller)
            with anyio.move_on_after(1):
                await all_refused.wait()
            gate.set()

    run(backend, main)
    assert len(entered) == permits
    assert ends.count("up") == permits
    assert shop.state == "closed"
    idle(shop)


def test_trap_02_half_open_refuses_and_never_queues(clock: ManualClock, world: World) -> None:
    """Who comes second in half-open is refused at once, though the bulkhead has a line."""
    shop = half_open(clock, bulkhead(1, max_waiting=5, max_wait=5))
    probe = world.begin(shop)
    with pytest.raises(CircuitOpenError):
        world.ok(shop)
    assert part(shop, "bulkhead")["waiting"] == 0
    assert clock.now() == 1005.0
    probe.succeed()
    assert shop.state == "closed"


# -- 3 and 4: results of another epoch ------------------------------------------------------------


def test_trap_03_stale_success_does_not_close_an_open_circuit(
    clock: ManualClock, world: World
) -> None:
    """A call begun while closed that ends well later leaves an open circuit open."""
    shop = policy(circuit_breaker(), clock=clock)
    old = world.begin(shop)
    trip(shop)
    assert old.succeed(7) == 7
    assert shop.state == "open"
    assert part(shop, "circuit_breaker")["late_results"] == 1


def test_trap_03_stale_success_does_not_close_from_half_open(
    clock: ManualClock, world: World
) -> None:
    """A success from the closed era is no probe's success."""
    shop = policy(circuit_breaker(recovery_timeout=5), clock=clock)
    old = world.begin(shop)
    trip(shop)
    clock.advance(5)
    probe = world.begin(shop)
    old.succeed()
    assert shop.state == "half_open"
    assert part(shop, "circuit_breaker")["probes"] == 1
    probe.succeed()
    assert shop.state == "closed"


def test_trap_03_second_probe_does_not_close_after_the_first_failed(
    clock: ManualClock, world: World
) -> None:
    """Of two probes one fails and opens; the success of the other moves nothing."""
    shop = half_open(clock, half_open_max_calls=2)
    first, second = world.begin(shop), world.begin(shop)
    first.fail(OSError())
    assert shop.state == "open"
    second.succeed()
    assert shop.state == "open"


def test_trap_03_probe_of_an_earlier_half_open_time_counts_for_nothing(
    clock: ManualClock, world: World
) -> None:
    """A probe of the last half-open time neither closes this one nor frees its place."""
    shop = half_open(clock, half_open_max_calls=2)
    first, old = world.begin(shop), world.begin(shop)
    first.fail(OSError())
    clock.advance(10)
    probes = [world.begin(shop), world.begin(shop)]
    old.succeed()
    assert shop.state == "half_open"
    assert part(shop, "circuit_breaker")["probes"] == 2
    with pytest.raises(CircuitOpenError):
        world.ok(shop)
    for probe in probes:
        probe.succeed()
    assert shop.state == "closed"


def test_trap_04_stale_failure_does_not_prolong_open(clock: ManualClock, world: World) -> None:
    """Late failures leave the recovery time of an open circuit as it is."""
    shop = policy(circuit_breaker(recovery_timeout=5), clock=clock)
    old = [world.begin(shop) for _ in range(3)]
    trip(shop)
    for late in old:
        clock.advance(1)
        late.fail(OSError())
    assert shop.state == "open"
    assert part(shop, "circuit_breaker")["retry_after"] == 2.0
    assert part(shop, "circuit_breaker")["window"] == {"calls": 0, "failures": 0, "slow": 0}
    clock.advance(2)
    world.ok(shop)
    assert shop.state == "closed"


def test_trap_04_stale_failure_fails_no_probe(clock: ManualClock, world: World) -> None:
    """A failure from the closed era does not reopen a half-open circuit."""
    shop = policy(circuit_breaker(recovery_timeout=5), clock=clock)
    old = world.begin(shop)
    trip(shop)
    clock.advance(5)
    probe = world.begin(shop)
    old.fail(OSError())
    assert shop.state == "half_open"
    probe.succeed()
    assert shop.state == "closed"
    assert part(shop, "circuit_breaker")["consecutive_failures"] == 0


def test_trap_04_stale_failures_do_not_trip_the_next_closed_time(
    clock: ManualClock, world: World
) -> None:
    """Failures of calls that began before a full open and close are not counted after it."""
    shop = policy(circuit_breaker(recovery_timeout=5, failure_threshold=2), clock=clock)
    old = [world.begin(shop) for _ in range(4)]
    trip(shop)
    clock.advance(5)
    world.ok(shop)
    for late in old:
        late.fail(OSError())
    assert shop.state == "closed"


# -- 5: half-open has its own rule ------------------------------------------------------------


def test_trap_05_one_failed_probe_reopens_whatever_the_minimum(
    clock: ManualClock, world: World
) -> None:
    """The closed state's minimum volume does not gate a failing probe."""
    shop = policy(
        circuit_breaker(window=calls(200), minimum_calls=100, failure_threshold=5), clock=clock
    )
    trip(shop)
    clock.advance(5)
    world.fail(shop)
    assert shop.state == "open"


def test_trap_05_success_threshold_holds_whatever_the_minimum(
    clock: ManualClock, world: World
) -> None:
    """One success does not close a circuit that asks for three."""
    shop = half_open(clock, success_threshold=3)
    for expected in ("half_open", "half_open", "closed"):
        world.ok(shop)
        assert shop.state == expected


# -- 6, 7, 8: what says nothing of the dependency ------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"ignore": KeyError}, {"on": OSError}, {"ignore": lambda e: isinstance(e, KeyError)}],
    ids=["ignore", "on", "predicate"],
)
def test_trap_06_ignored_is_not_a_success(
    clock: ManualClock, world: World, options: dict[str, Any]
) -> None:
    """An ignored exception neither resets the failures in a row nor joins the window."""
    shop = policy(circuit_breaker(failure_threshold=3, **options), clock=clock)
    world.fail(shop)
    world.fail(shop)
    world.fail(shop, KeyError("mine"))
    seen = part(shop, "circuit_breaker")
    assert seen["consecutive_failures"] == 2
    assert seen["window"]["calls"] == 2
    world.fail(shop)
    assert shop.state == "open"


def test_trap_06_ignored_does_not_close_half_open(clock: ManualClock, world: World) -> None:
    """An ignored exception of a probe only gives its place back."""
    shop = half_open(clock, ignore=KeyError)
    world.fail(shop, KeyError("mine"))
    assert shop.state == "half_open"
    assert part(shop, "circuit_breaker")["probes"] == 0
    assert shop.snapshot()["calls"]["ignored"] == 1
    world.ok(shop)
    assert shop.state == "closed"


def test_trap_06_group_is_ignored_only_if_every_leaf_is(clock: ManualClock, world: World) -> None:
    """A group with one failure in it is a failure."""
    shop = policy(circuit_breaker(ignore=KeyError), clock=clock)
    world.fail(shop, ExceptionGroup("both", [KeyError(), KeyError()]))
    assert part(shop, "circuit_breaker")["consecutive_failures"] == 0
    world.fail(shop, ExceptionGroup("both", [KeyError(), OSError()]))
    assert part(shop, "circuit_breaker")["consecutive_failures"] == 1


async def cancelled_in_the_body(shop: Policy) -> bool:
    """Cancel a call while its body waits; tell whether the cancellation came out."""
    entered = anyio.Event()

    async def body() -> None:
        entered.set()
        await anyio.sleep_forever()

    guarded, scope = shop(body), anyio.CancelScope()

    async def caller() -> None:
        with scope:
            await guarded()

    async with anyio.create_task_group() as group:
        group.start_soon(caller)
        await entered.wait()
        scope.cancel()
    return scope.cancelled_caught


def test_trap_07_cancelled_calls_do_not_open(clock: ManualClock, backend: str) -> None:
    """Callers that go away are no failures and are not answered by the fallback."""
    shop = policy(fallback(value=None), circuit_breaker(failure_threshold=2), clock=clock)

    async def main() -> None:
        for _ in range(5):
            assert await cancelled_in_the_body(shop)

    run(backend, main)
    assert shop.state == "closed"
    assert shop.snapshot()["calls"]["cancelled"] == 5
    assert shop.snapshot()["served"] == {"full": 0, "degraded": 0, "error": 0, "caller_error": 0}
    idle(shop)


def test_trap_07_cancelled_calls_do_not_reset_the_count(clock: ManualClock, backend: str) -> None:
    """A cancelled call is no success either: the failures in a row stand."""
    shop = policy(circuit_breaker(failure_threshold=3), clock=clock)

    async def fails() -> None:
        raise OSError

    async def main() -> None:
        await shop.atry_call(fails)
        await shop.atry_call(fails)
        assert await cancelled_in_the_body(shop)
        await shop.atry_call(fails)

    run(backend, main)
    assert shop.state == "open"


def test_trap_07_cancelled_probe_is_neutral(clock: ManualClock, backend: str) -> None:
    """A cancelled probe neither closes nor reopens, and the next one may run."""
    shop = half_open(clock)

    async def body() -> int:
        return 1

    async def main() -> None:
        for _ in range(3):
            assert await cancelled_in_the_body(shop)
            assert shop.state == "half_open"
            idle(shop)
        assert await shop.acall(body) == 1

    run(backend, main)
    assert shop.state == "closed"


@pytest.mark.parametrize("guards", [lambda: (circuit_breaker(),), lambda: (timeout(60),)])
def test_trap_07_atry_call_raises_a_cancellation_all_the_same(
    backend: str, guards: Callable[[], tuple[Any, ...]]
) -> None:
    """A cancellation goes on through atry_call: it is no end to be returned as data."""
    shop, went_on = policy(*guards()), []

    async def main() -> None:
        with anyio.CancelScope() as scope:

            async def body() -> None:
                scope.cancel()
                await anyio.lowlevel.checkpoint()

            await shop.atry_call(body)
            went_on.append(1)
        assert scope.cancelled_caught

    run(backend, main)
    assert not went_on
    idle(shop)


def test_trap_07_our_own_timeout_is_a_failure(clock: ManualClock, backend: str) -> None:
    """A cancellation that the policy's own timeout caused counts against the dependency."""
    shop = policy(circuit_breaker(failure_threshold=2), timeout(0.5), clock=clock)

    async def main() -> None:
        for _ in range(2):
            entered = anyio.Event()

            async def body(entered: anyio.Event = entered) -> None:
                entered.set()
                await anyio.sleep_forever()

            async def caller(body: Callable[[], Any] = body) -> None:
                with pytest.raises(CallTimeoutError):
                    await shop.acall(body)

            async with anyio.create_task_group() as group:
                group.start_soon(caller)
                await entered.wait()
                clock.advance(0.5)

    run(backend, main)
    assert shop.state == "open"
    assert shop.snapshot()["timeouts"] == 2


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("limit", [None, "cooperative", "thread"])
def test_trap_08_interrupts_are_neutral(
    clock: ManualClock, kind: type[BaseException], limit: Any
) -> None:
    """KeyboardInterrupt and its like pass unchanged, count for nothing and hold nothing."""
    inner = () if limit is None else (timeout(60, sync=limit),)
    shop = policy(
        fallback(value=0), circuit_breaker(failure_threshold=1), bulkhead(1), *inner, clock=clock
    )
    raised = kind()

    def body() -> None:
        raise raised

    for call in (shop(body), lambda: shop.call(body)):
        with pytest.raises(kind) as caught:
            call()
        assert caught.value is raised
    assert shop.state == "closed"
    assert shop.snapshot()["calls"]["cancelled"] == 2
    idle(shop)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("limit", [None, "thread"])
def test_trap_08_try_call_raises_interrupts_all_the_same(
    clock: ManualClock, kind: type[BaseException], limit: Any
) -> None:
    """An interrupt is no end that try_call may return as data."""
    inner = () if limit is None else (timeout(60, sync=limit),)
    shop = policy(circuit_breaker(), *inner, clock=clock)

    def body() -> None:
        raise kind

    with pytest.raises(kind):
        shop.try_call(body)
    idle(shop)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_trap_08_interrupted_probe_is_neutral(
    clock: ManualClock, kind: type[BaseException]
) -> None:
    """An interrupt in a probe leaves the circuit half-open and the place free."""
    shop = half_open(clock)

    def body() -> None:
        raise kind

    with pytest.raises(kind):
        shop.call(body)
    assert shop.state == "half_open"
    idle(shop)
    assert shop.call(int, "1") == 1
    assert shop.state == "closed"


def test_trap_08_group_with_an_interrupt_is_neutral(clock: ManualClock) -> None:
    """A group that holds an interrupt is no failure and gets no fallback."""
    shop = policy(fallback(value=0), circuit_breaker(failure_threshold=1), clock=clock)

    def body() -> None:
        raise BaseExceptionGroup("both", [OSError(), KeyboardInterrupt()])

    with pytest.raises(BaseExceptionGroup):
        shop.call(body)
    assert shop.state == "closed"


# -- 9 and 10: the wrong layer ------------------------------------------------------------


def _stream() -> Iterator[int]:
    yield 1


async def _astream() -> AsyncIterator[int]:
    yield 1


class _Streams:
    def __call__(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    "fn",
    [_stream, _astream, functools.partial(_stream), functools.partial(_astream), _Streams()],
    ids=["generator", "async generator", "partial", "async partial", "object"],
)
def test_trap_09_leaving_a_stream_early_is_no_failure(fn: Callable[[], Any]) -> None:
    """Twenty streams that their consumer leaves open no circuit, and give their slots back."""
    shop = policy(circuit_breaker(failure_threshold=2), bulkhead(1))

    async def leave() -> None:
        for _ in range(20):
            stream = shop(fn)()
            if hasattr(stream, "aclose"):
                assert await anext(stream) == 1
                await stream.aclose()
            else:
                assert next(stream) == 1
                stream.close()

    asyncio.run(leave())
    assert shop.state == "closed"
    assert shop.snapshot()["calls"]["cancelled"] == 20


async def _fails() -> None:
    raise OSError("down")


class _Caller:
    async def __call__(self) -> None:
        raise OSError("down")


@pytest.mark.parametrize(
    "fn",
    [lambda: _fails(), functools.partial(_fails), _Caller(), lambda: functools.partial(_fails)()],
    ids=["lambda", "partial", "object", "lambda of partial"],
)
def test_trap_10_async_failures_are_seen_through_any_callable(
    clock: ManualClock, backend: str, fn: Callable[[], Any]
) -> None:
    """A failure at the await opens the circuit, whatever sort of callable made the awaitable."""
    shop = policy(circuit_breaker(failure_threshold=3), bulkhead(5), clock=clock)
    guarded = shop(fn)

    async def main() -> None:
        for _ in range(3):
            with pytest.raises(OSError, match="down"):
                await guarded()
        with pytest.raises(CircuitOpenError):
            await guarded()

    run(backend, main)
    assert shop.state == "open"
    idle(shop)


def test_trap_10_awaitable_is_judged_at_the_await(clock: ManualClock, backend: str) -> None:
    """A sync callable that returns an awaitable holds its slot until the await is over."""
    shop = policy(circuit_breaker(), bulkhead(1), clock=clock)

    async def body() -> int:
        await anyio.lowlevel.checkpoint()
        return 5

    async def main() -> None:
        pending: Any = shop.call(lambda: body())
        assert shop.snapshot()["calls"]["success"] == 0
        assert shop.snapshot()["in_flight"] == 1
        assert await pending == 5
        assert shop.snapshot()["calls"]["success"] == 1
        forgotten: Any = shop.call(lambda: body())
        forgotten.close()
        assert shop.snapshot()["calls"]["cancelled"] == 1

    run(backend, main)
    idle(shop)


def test_trap_10_future_is_judged_at_the_await(clock: ManualClock) -> None:
    """A future that fails later is a failure."""
    shop = policy(circuit_breaker(), clock=clock)

    async def main() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        pending: Any = shop(lambda: future)()
        future.set_exception(OSError("down"))
        with pytest.raises(OSError, match="down"):
            await pending

    asyncio.run(main())
    assert part(shop, "circuit_breaker")["consecutive_failures"] == 1


# -- 11, 12, 13 ------------------------------------------------------------


def test_trap_11_the_tripping_call_raises_its_own_error(clock: ManualClock, world: World) -> None:
    """The call that opens the circuit raises what its body raised; later ones say why."""
    shop = policy(circuit_breaker(failure_threshold=2, recovery_timeout=30), clock=clock)
    world.fail(shop)
    own = OSError("the real reason")
    assert world.fail(shop, own) is own
    assert own.__cause__ is None
    assert own.__context__ is None
    assert shop.state == "open"
    clock.advance(10)
    with pytest.raises(CircuitOpenError) as caught:
        world.ok(shop)
    refusal = caught.value
    assert refusal.policy == shop.name
    assert refusal.guard == "circuit_breaker"
    assert refusal.retry_after == 20.0
    assert "2 of 2 calls failed" in str(refusal)
    assert "OSError" in str(refusal)


_BAD: list[tuple[Callable[..., object], dict[str, Any]]] = [
    *[(circuit_breaker, {"recovery_timeout": v}) for v in (0, -1, float("nan"), float("inf"), "5")],
    *[(circuit_breaker, {"recovery_timeout": v}) for v in (True, None, timedelta(0))],
    *[(circuit_breaker, {"failure_rate": v}) for v in (0, 5, 1.01, -0.1, float("nan"), True)],
    *[(circuit_breaker, {"slow_call_rate": v}) for v in (0, 5, float("nan"), None)],
    *[(circuit_breaker, {"slow_call_duration": v}) for v in (0, -1, "1")],
    *[(circuit_breaker, {"failure_threshold": v}) for v in (0, -1, 1.5, True)],
    *[(circuit_breaker, {"minimum_calls": v}) for v in (0, -1, None)],
    *[(circuit_breaker, {"half_open_max_calls": v}) for v in (0, -1, None)],
    *[(circuit_breaker, {"success_threshold": v}) for v in (0, -1, None)],
    *[(circuit_breaker, {"window": v}) for v in (0, -1, None, "10", True)],
    (circuit_breaker, {"window": calls(10), "minimum_calls": 11}),
    (circuit_breaker, {"failure_rate": None, "failure_threshold": None}),
    (circuit_breaker, {"ignore": ()}),
    (circuit_breaker, {"ignore": 5}),
    (circuit_breaker, {"on": int}),
    (circuit_breaker, {"failed_result": 5}),
    *[(timeout, {"seconds": v}) for v in (0, -1, float("nan"), float("inf"), None, "1", True)],
    (timeout, {"seconds": 1, "sync": "signal"}),
    *[(bulkhead, {"max_concurrent": v}) for v in (0, -1, None, 1.5, True)],
    (bulkhead, {"max_concurrent": 1, "max_waiting": 1}),
    (bulkhead, {"max_concurrent": 1, "max_wait": 1}),
    (bulkhead, {"max_concurrent": 1, "max_waiting": -1}),
    (bulkhead, {"max_concurrent": 1, "max_waiting": 1, "max_wait": 0}),
    (bulkhead, {"max_concurrent": 1, "order": "random"}),
    (fallback, {}),
    (fallback, {"value": 1, "with_error": True}),
]


@pytest.mark.parametrize(("make", "options"), _BAD, ids=[f"{m.__name__}-{o}" for m, o in _BAD])
def test_trap_12_bad_options_are_refused(
    make: Callable[..., object], options: dict[str, Any]
) -> None:
    """An option out of its range is an error when it is given, never a silent default."""
    with pytest.raises((ValueError, TypeError)):
        make(**options)


def test_trap_12_small_options_are_not_replaced_by_defaults(clock: ManualClock) -> None:
    """The smallest values allowed are what is used, not the defaults."""
    shop = policy(circuit_breaker(failure_threshold=1, recovery_timeout=0.001), clock=clock)
    shop.try_call(int, "x")
    assert shop.state == "open"
    clock.advance(0.001)
    assert shop.call(int, "1") == 1
    assert shop.state == "closed"


@pytest.mark.parametrize("window", [10.0, calls(200)], ids=["time", "count"])
def test_trap_12_two_hundred_failures_open_by_the_rate_alone(
    clock: ManualClock, window: Any
) -> None:
    """A rate over a window opens when everything fails, at the minimum volume and not later."""
    shop = policy(
        circuit_breaker(failure_threshold=None, window=window, minimum_calls=20), clock=clock
    )
    opened_at = 0
    for number in range(1, 201):
        shop.try_call(int, "x")
        if shop.state == "open":
            opened_at = number
            break
    assert opened_at == 20


def test_trap_13_an_open_circuit_never_runs_the_body(clock: ManualClock, backend: str) -> None:
    """Every way into the policy refuses while it is open, and none of them closes it."""
    shop = policy(circuit_breaker(), clock=clock)
    trip(shop)
    ran = []

    def body() -> None:
        ran.append(1)

    async def abody() -> None:
        ran.append(1)

    async def main() -> None:
        with pytest.raises(CircuitOpenError):
            await shop.acall(abody)
        with pytest.raises(CircuitOpenError):
            await shop(abody)()
        assert isinstance((await shop.atry_call(abody)).error, CircuitOpenError)

    for call in (lambda: shop.call(body), shop(body)):
        with pytest.raises(CircuitOpenError):
            call()
    assert isinstance(shop.try_call(body).error, CircuitOpenError)
    run(backend, main)
    assert not ran
    assert shop.state == "open"
    assert shop.snapshot()["calls"] == {
        "success": 0, "failure": 5, "ignored": 0, "cancelled": 0, "refused": 6,
    }  # fmt: skip
