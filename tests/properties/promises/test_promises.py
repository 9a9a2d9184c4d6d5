"""The promises, each named after its letter: G, F and T."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import types
import warnings
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

import resilient
from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    Event,
    Policy,
    RefusedError,
    Result,
    bulkhead,
    circuit_breaker,
    fallback,
    timeout,
)
from resilient.testing import ManualClock
from tests.kit.colours import ASYNC_COLOURS, ASYNCIO, SYNC, Colour, Gone, overrun
from tests.kit.policies import comes_to_idle, counts
from tests.kit.waiting import until

asynchronous = pytest.mark.parametrize("colour", ASYNC_COLOURS, ids=lambda colour: colour.name)

Way = Callable[..., Awaitable[Any]]


async def _decorated(colour: Colour, policy: Policy, fn: Any, *args: Any) -> Any:
    return await colour.call(policy(fn), *args)


async def _called(colour: Colour, policy: Policy, fn: Any, *args: Any) -> Any:
    return await colour.through(policy, fn, *args)


async def _tried(colour: Colour, policy: Policy, fn: Any, *args: Any) -> Any:
    result: Result[Any] = await colour.attempt(policy, fn, *args)
    if result.served != "error":
        return result.value
    error = result.error
    assert error is not None
    del result
    try:
        raise error
    finally:
        del error  # else its traceback holds it


WAYS: list[Way] = [_decorated, _called, _tried]
every_way = pytest.mark.parametrize("way", WAYS, ids=["decorated", "call", "try_call"])


def whole(name: str, clock: ManualClock | None, sync: Any, **options: Any) -> Policy:
    """A policy with a guard of each kind, whose fallback answers a ConnectionError only."""
    return Policy(
        name, fallback(value="lesser", on=ConnectionError), circuit_breaker(**options), bulkhead(3),
        timeout(1.0, sync=sync), clock=clock,
    )  # fmt: skip


# -- G1: transparency -----------------------------------------------------------------------------


@every_way
def test_g1_values_errors_and_arguments_pass_unchanged(
    timed: Colour, way: Way, name: str, clock: ManualClock
) -> None:
    """A whole policy hands on the very arguments, value and exception, and nothing with them."""
    policy, given, made, error = whole(name, clock, timed.sync), object(), object(), ValueError()
    seen: list[object] = []

    async def fetch(argument: object, fail: bool) -> object:
        seen.append(argument)
        if fail:
            raise error
        return made

    async def body() -> None:
        assert await way(timed, policy, timed.fn(fetch), given, False) is made
        try:
            await way(timed, policy, timed.fn(fetch), given, True)
        except ValueError as caught:
            assert caught is error
        assert seen == [given, given]

    timed.run(body)
    assert (error.__context__, error.__cause__) == (None, None)


def test_g1_context_variables_are_the_callers(timed: Colour, name: str) -> None:
    """The body sees its caller's context variables, and the caller keeps no deadline of a call."""
    policy = whole(name, None, timed.sync)
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def fetch() -> tuple[str, bool]:
        return variable.get(), resilient.remaining() is not None

    async def body() -> None:
        variable.set("seen")
        assert await timed.call(policy(timed.fn(fetch))) == ("seen", True)
        assert resilient.remaining() is None

    timed.run(body)


# -- G2: balance ----------------------------------------------------------------------------------

EXITS = [ValueError, ConnectionError, Gone, KeyboardInterrupt, SystemExit, GeneratorExit, None]


@every_way
@pytest.mark.parametrize("exit_", EXITS, ids=lambda kind: getattr(kind, "__name__", "return"))
def test_g2_and_g8_every_exit_gives_the_slot_back(
    timed: Colour,
    way: Way,
    exit_: type[BaseException] | None,
    name: str,
    clock: ManualClock,
) -> None:
    """Whatever the body ends with, nothing stays taken, and what is no Exception is raised."""
    policy = whole(name, clock, timed.sync, failure_threshold=1, failure_rate=None)

    async def fetch() -> None:
        assert policy.snapshot()["in_flight"] == 1
        if exit_ is not None:
            raise exit_

    async def body() -> str:
        try:
            value = await way(timed, policy, timed.fn(fetch))
        except BaseException as error:
            assert exit_ is not None
            assert type(error) is exit_
            return "raised"
        return "lesser" if value == "lesser" else "returned"

    expected = {None: "returned", ConnectionError: "lesser"}.get(exit_, "raised")
    assert timed.run(body) == expected
    comes_to_idle(policy)
    if exit_ is None:
        assert counts(policy) == {"success": 1}
    elif issubclass(exit_, Exception):
        assert counts(policy) == {"failure": 1}
        assert policy.state == "open"
    else:
        assert counts(policy) == {"cancelled": 1}
        assert policy.state == "closed"
        assert policy.snapshot()["served"] == {
            "full": 0,
            "degraded": 0,
            "error": 0,
            "caller_error": 0,
        }


@every_way
def test_g8_a_group_that_holds_an_exit_is_no_failure(
    timed: Colour, way: Way, name: str, clock: ManualClock
) -> None:
    """A BaseExceptionGroup with a cancellation in it is passed on and counted as one."""
    policy = Policy(
        name, fallback(value="lesser"), circuit_breaker(failure_threshold=1),
        timeout(1.0, sync=timed.sync), clock=clock,
    )  # fmt: skip
    group = BaseExceptionGroup("two", [ValueError(), Gone()])

    async def fetch() -> None:
        raise group

    async def body() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            await way(timed, policy, timed.fn(fetch))
        assert caught.value is group

    timed.run(body)
    assert counts(policy) == {"cancelled": 1}
    assert policy.state == "closed"


@asynchronous
@every_way
@pytest.mark.parametrize("clocked", [False, True])
def test_g2_g8_the_callers_cancel_stays_a_cancel(
    colour: Colour, way: Way, clocked: bool, name: str
) -> None:
    """A caller that is cancelled ends cancelled: no fallback, no failure, no slot kept."""
    policy = Policy(
        name, fallback(value="lesser"), circuit_breaker(failure_threshold=1), bulkhead(1),
        timeout(30.0), clock=ManualClock() if clocked else None,
    )  # fmt: skip
    inside = []

    async def fetch() -> None:
        inside.append(policy.snapshot()["in_flight"])
        await anyio.sleep_forever()

    async def body() -> str:
        ended = "nothing"
        async with anyio.create_task_group() as group:

            async def caller() -> None:
                nonlocal ended
                try:
                    ended = await way(colour, policy, fetch)
                except anyio.get_cancelled_exc_class():
                    ended = "cancelled"
                    raise

            group.start_soon(caller)
            while not inside:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        return ended

    assert colour.run(body) == "cancelled"
    assert inside == [1]
    assert counts(policy) == {"cancelled": 1}
    assert policy.state == "closed"
    comes_to_idle(policy)


@asynchronous
@pytest.mark.parametrize("steps", range(12))
def test_g2_cancelled_at_any_step(colour: Colour, steps: int, name: str) -> None:
    """A cancel after any number of steps, in the line, the body or the fallback, costs no slot."""
    policy = Policy(
        name, fallback(lambda: slow(), on=OSError), circuit_breaker(failure_threshold=100),
        bulkhead(1, max_waiting=3, max_wait=5.0), timeout(5.0),
    )  # fmt: skip

    async def slow() -> str:
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        return "lesser"

    async def fetch() -> None:
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        raise OSError

    async def body() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(policy(fetch))
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()

    colour.run(body)
    comes_to_idle(policy)
    assert sum(counts(policy).values()) <= 3


@pytest.mark.parametrize("guarded", ["plain", "timed", "interpreted"])
def test_g2_a_dropped_coroutine_gives_the_slot_back(guarded: str, name: str) -> None:
    """A coroutine that is closed in the middle of its body, outside its loop, is a cancellation."""
    guards: list[Any] = [bulkhead(1)]
    if guarded != "plain":
        guards.append(timeout(9.0))
    if guarded == "interpreted":
        guards.insert(0, timeout(99.0))
    policy = Policy(name, *guards)

    async def fetch() -> None:
        await asyncio.sleep(9)

    loop = asyncio.new_event_loop()
    task = loop.create_task(policy(fetch)())
    for _ in range(3):
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert policy.snapshot()["in_flight"] == 1
    loop.close()
    _drop(task)
    del task
    gc.collect()
    comes_to_idle(policy)
    assert counts(policy) == {"cancelled": 1}


def _drop(task: asyncio.Task[Any]) -> None:
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # what asyncio itself uses
    coroutine = task.get_coro()
    assert coroutine is not None
    coroutine.close()


@asynchronous
def test_g2_a_coroutine_dropped_in_the_line_leaves_it(colour: Colour, name: str) -> None:
    """Who is closed while standing in line takes no place and no slot along."""
    policy = Policy(name, bulkhead(1, max_waiting=1, max_wait=9.0))
    if colour.name == "trio":
        pytest.skip("trio closes no coroutine that still runs")

    async def fetch() -> None:
        await asyncio.sleep(9)

    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(policy(fetch)()) for _ in range(2)]
    for _ in range(5):
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert policy.snapshot()["guards"][0]["waiting"] == 1
    loop.close()
    while tasks:
        task = tasks.pop()
        try:
            _drop(task)
        except RuntimeError:
            pass  # anyio's scope does not like to be left outside its task
        del task
    gc.collect()
    comes_to_idle(policy)
    assert counts(policy) == {"cancelled": 2}


def test_g2_a_coroutine_that_was_never_begun_took_nothing(name: str) -> None:
    """Calling a guarded async function and never awaiting it does nothing at all."""
    policy = whole(name, None, None)

    async def fetch() -> None: ...

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        policy(fetch)()
        gc.collect()
    assert counts(policy) == {}
    comes_to_idle(policy)


# -- G3: no lock while foreign code runs ----------------------------------------------------------


@every_way
def test_g3_no_lock_is_held_while_foreign_code_runs(
    timed: Colour, way: Way, name: str, clock: ManualClock
) -> None:
    """Body, predicates, fallback and listener own no lock, and may call the same policy again."""
    ran: set[str] = set()

    def foreign(who: str) -> None:
        assert not policy._core.lock._is_owned(), who  # type: ignore[attr-defined]
        nested = threading.Thread(target=policy.snapshot)
        nested.start()  # would hang if any thread held the lock
        nested.join(5)
        assert not nested.is_alive(), who
        ran.add(who)
        if who not in entered and not policy._core.forced:
            entered.add(who)
            assert inner.try_call(lambda: "again").served in ("full", "error")
            str(policy)

    def listening(event: Event) -> None:
        if event.policy == name:
            foreign("listener")

    def asked(who: str, answer: bool) -> Callable[[Any], bool]:
        def predicate(_: Any) -> bool:
            foreign(who)
            return answer

        return predicate

    def lesser(fail: bool) -> str:
        foreign("fallback")
        return "lesser"

    async def fetch(fail: bool) -> str:
        foreign("body")
        if fail:
            raise OSError
        return "value"

    entered: set[str] = set()
    policy = Policy(
        name,
        fallback(lesser, on=asked("fallback's on", True)),
        circuit_breaker(
            failure_threshold=3, ignore=asked("ignore", False), on=asked("on", True),
            failed_result=asked("failed_result", False),
        ),
        bulkhead(5), timeout(1.0, sync=timed.sync), clock=clock,
    )  # fmt: skip
    inner = policy.with_(timeout(0.5, sync="cooperative"))
    listener_errors = resilient.events.bus.listener_errors
    unsubscribe = resilient.registry.subscribe(listening)

    async def body() -> None:
        assert await way(timed, policy, timed.fn(fetch), False) == "value"
        for _ in range(4):
            assert await way(timed, policy, timed.fn(fetch), True) == "lesser"

    try:
        timed.run(body)
    finally:
        unsubscribe()
    assert policy.state == "open"
    assert ran == {
        "body", "fallback", "fallback's on", "ignore", "on", "failed_result", "listener",
    }  # fmt: skip
    assert resilient.events.bus.listener_errors == listener_errors
    comes_to_idle(policy)


class WatchingClock(ManualClock):
    """A clock that remembers when it was read, or set an alarm on, under a policy's lock."""

    def __init__(self) -> None:
        super().__init__()
        self.policy: Policy | None = None
        self.under_lock: list[str] = []

    def _look(self, what: str) -> None:
        if self.policy is None:
            return
        if self.policy._core.lock._is_owned():  # type: ignore[attr-defined]
            self.under_lock.append(what)

    def now(self) -> float:
        self._look("now")
        return super().now()

    def call_at(self, when: float, callback: Callable[[], object]) -> Any:
        self._look("call_at")
        return super().call_at(when, callback)


@every_way
def test_g3_the_clock_of_a_call_is_read_outside_the_lock(
    timed: Colour, way: Way, name: str
) -> None:
    """No call, whether it goes well, fails, is refused or too late, reads the clock locked."""
    clock, hold = WatchingClock(), threading.Event()
    policy = whole(name, clock, timed.sync, failure_threshold=3)
    clock.policy = policy

    async def fetch(fail: bool) -> None:
        if fail:
            raise ValueError

    async def late() -> None:
        await overrun(timed, clock, 1, hold)

    async def body() -> None:
        await way(timed, policy, timed.fn(fetch), False)
        for fn, args in ((fetch, [True]), (fetch, [True]), (late, []), (fetch, [False])):
            with pytest.raises((ValueError, CallTimeoutError, CircuitOpenError)):
                await way(timed, policy, timed.fn(fn), *args)

    timed.run(body)
    assert clock.under_lock == []
    hold.set()
    until(lambda: policy._core.abandoned == 0)
    assert clock.under_lock == []


@pytest.mark.parametrize("lever", ["snapshot", "print", "force", "update"])
def test_g3_the_clock_of_a_lever_is_read_outside_the_lock(lever: str, name: str) -> None:
    """Looking at a policy and moving its levers read the clock before the lock is taken."""
    clock = WatchingClock()
    policy = whole(name, clock, "cooperative")
    clock.policy = policy
    {
        "snapshot": policy.snapshot, "print": policy.__str__,
        "force": policy.force_open, "update": lambda: policy.update(bulkhead={"max_concurrent": 2}),
    }[lever]()  # fmt: skip
    assert clock.under_lock == []


# -- G6: accounting -------------------------------------------------------------------------------


@every_way
def test_g6_the_books_balance_at_every_instant(
    timed: Colour, way: Way, name: str, clock: ManualClock
) -> None:
    """Started calls are success + failure + ignored + cancelled + in flight, wherever one looks."""
    started, looked, hold = 0, 0, threading.Event()

    def look() -> None:
        nonlocal looked
        looked += 1
        shown = policy.snapshot()
        ended = shown["calls"]
        known = sum(ended[word] for word in ("success", "failure", "ignored", "cancelled"))
        assert started == known + shown["in_flight"]
        assert sum(shown["refusals"].values()) == ended["refused"]

    async def fetch(kind: str) -> str:
        nonlocal started
        started += 1
        look()
        if kind == "nested":
            for inner in ("ok", "fail", "ignored"):
                await scenario(inner)
        elif kind == "late":
            await overrun(timed, clock, 1, hold)
        elif kind != "ok":
            raise {"fail": OSError, "ignored": KeyError, "cancelled": Gone}[kind]
        look()
        return kind

    def lesser(kind: str) -> str:
        look()
        return "lesser"

    def predicate(error: Exception) -> bool:
        look()
        return isinstance(error, KeyError)

    async def scenario(kind: str) -> None:
        try:
            await way(timed, policy, timed.fn(fetch), kind)
        except (KeyError, Gone):
            pass
        look()

    async def body() -> None:
        kinds = ("ok", "fail", "ignored", "cancelled", "nested", "late")
        for kind in (*kinds, *kinds, "fail", "fail"):
            await scenario(kind)
        policy.force_open()
        await scenario("ok")

    policy = Policy(
        name, fallback(lesser, ignore=KeyError),
        circuit_breaker(ignore=predicate, failure_threshold=5), bulkhead(2),
        timeout(1.0, sync=timed.sync), clock=clock,
    )  # fmt: skip
    listener_errors = resilient.events.bus.listener_errors
    unsubscribe = resilient.registry.subscribe(lambda _: look())
    try:
        timed.run(body)
    finally:
        unsubscribe()
        hold.set()
    until(lambda: policy._core.abandoned == 0)
    assert resilient.events.bus.listener_errors == listener_errors
    assert looked > 40
    assert policy.snapshot()["refusals"]["policy"] == 1
    comes_to_idle(policy)
    look()


# -- G9: listeners --------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("fault", [ValueError, RuntimeError, RefusedError])
def test_g9_a_listener_that_raises_changes_nothing(
    timed: Colour, way: Way, fault: type[Exception], name: str, clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A listener that raises is logged and removed; the call, its error and the state stand."""
    heard: list[str] = []

    def broken(event: Event) -> None:
        heard.append(event.kind)
        raise fault("listener")

    policy = Policy(
        name, circuit_breaker(failure_threshold=1, recovery_timeout=1.0), bulkhead(1),
        timeout(1.0, sync=timed.sync), clock=clock,
    )  # fmt: skip
    error = OSError()

    async def fetch(fail: bool) -> str:
        if fail:
            raise error
        return "value"

    async def body() -> None:
        for _ in range(2):
            resilient.registry.subscribe(broken)
            with pytest.raises(OSError) as caught:
                await way(timed, policy, timed.fn(fetch), True)
            assert caught.value is error
            assert policy.state == "open"
            resilient.registry.subscribe(broken)
            with pytest.raises(CircuitOpenError):
                await way(timed, policy, timed.fn(fetch), False)
            clock.advance(1)
            resilient.registry.subscribe(broken)
            assert await way(timed, policy, timed.fn(fetch), False) == "value"
            assert policy.state == "closed"

    timed.run(body)
    assert heard[:3] == ["opened", "refused", "half_open"]
    assert "was removed" in caplog.text
    assert counts(policy) == {"success": 2, "failure": 2, "refused": 2}
    comes_to_idle(policy)


def test_g9_an_interrupt_in_a_listener_keeps_no_slot(name: str, clock: ManualClock) -> None:
    """A KeyboardInterrupt that lands in a listener at admission gives the slot back."""
    policy = Policy(
        name, circuit_breaker(failure_threshold=1, recovery_timeout=1.0), bulkhead(1), clock=clock
    )

    @policy
    def fetch(fail: bool) -> None:
        if fail:
            raise ValueError

    def interrupted(_: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(ValueError):
        fetch(True)
    clock.advance(1)
    unsubscribe = resilient.registry.subscribe(interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            fetch(False)
    finally:
        unsubscribe()
    comes_to_idle(policy)


@every_way
def test_g2_an_interrupt_in_a_predicate_keeps_no_slot(
    timed: Colour, way: Way, name: str, clock: ManualClock
) -> None:
    """A KeyboardInterrupt that lands in a predicate is raised and gives the slot back."""

    def interrupted(_: Exception) -> bool:
        raise KeyboardInterrupt

    policy = Policy(
        name, circuit_breaker(ignore=interrupted), bulkhead(1), timeout(1.0, sync=timed.sync),
        clock=clock,
    )  # fmt: skip

    async def fetch() -> None:
        raise ValueError

    async def body() -> None:
        with pytest.raises(KeyboardInterrupt):
            await way(timed, policy, timed.fn(fetch))

    timed.run(body)
    comes_to_idle(policy)


@every_way
def test_g9_a_predicate_that_raises_gives_the_default(
    timed: Colour, way: Way, name: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken predicate is counted, logged once, and answers what its absence would."""

    def broken(_: Any) -> bool:
        raise RuntimeError("predicate")

    policy = Policy(
        name, circuit_breaker(ignore=broken, failed_result=broken, failure_threshold=9),
        timeout(1.0, sync=timed.sync), clock=clock,
    )  # fmt: skip
    error = OSError()

    async def fetch(fail: bool) -> str:
        if fail:
            raise error
        return "value"

    async def body() -> None:
        for _ in range(2):
            assert await way(timed, policy, timed.fn(fetch), False) == "value"
            with pytest.raises(OSError) as caught:
                await way(timed, policy, timed.fn(fetch), True)
            assert caught.value is error

    timed.run(body)
    assert error.__context__ is None
    assert policy.snapshot()["predicate_errors"] > 0
    assert counts(policy) == {"success": 2, "failure": 2}
    assert caplog.text.count("logged once") == 1


def test_a_predicate_is_asked_once_for_each_result(
    timed: Colour, name: str, clock: ManualClock
) -> None:
    """The same question is not put to the user's code twice, and a fault is counted once."""
    asked: list[object] = []

    def predicate(subject: object) -> bool:
        asked.append(subject)
        raise RuntimeError("predicate")

    policy = Policy(
        name, circuit_breaker(ignore=predicate), timeout(1.0, sync=timed.sync), clock=clock
    )

    async def fetch() -> None:
        raise OSError

    async def body() -> None:
        assert isinstance(await timed.error_of(policy(timed.fn(fetch))), OSError)

    timed.run(body)
    assert len(asked) == 1
    assert policy.snapshot()["predicate_errors"] == 1


# -- F1, F2: the fallback -------------------------------------------------------------------------


@every_way
def test_f1_a_fallback_runs_once_for_what_it_handles(
    timed: Colour, way: Way, name: str, clock: ManualClock
) -> None:
    """Failures, timeouts and refusals are answered once each; ignored ones and exits are not."""
    ran: list[str] = []
    hold = threading.Event()

    def lesser(error: Exception, kind: str) -> str:
        ran.append(f"{kind}: {type(error).__name__}")
        return "lesser"

    policy = Policy(
        name, fallback(lesser, with_error=True, ignore=KeyError),
        circuit_breaker(failure_threshold=2), timeout(1.0, sync=timed.sync), clock=clock,
    )  # fmt: skip

    async def fetch(kind: str) -> str:
        if kind == "late":
            await overrun(timed, clock, 1, hold)
        if kind == "ok":
            return "value"
        raise {"fail": OSError, "ignored": KeyError, "exit": Gone}[kind]

    async def body() -> None:
        fn = timed.fn(fetch)
        assert await way(timed, policy, fn, "ok") == "value"
        with pytest.raises(KeyError):
            await way(timed, policy, fn, "ignored")
        with pytest.raises(Gone):
            await way(timed, policy, fn, "exit")
        assert await way(timed, policy, fn, "ok") == "value"
        for kind in ("fail", "late", "ok"):
            assert await way(timed, policy, fn, kind) == "lesser"

    timed.run(body)
    hold.set()
    assert ran == ["fail: OSError", "late: CallTimeoutError", "ok: CircuitOpenError"]
    assert policy.snapshot()["served"] == {"full": 2, "degraded": 3, "error": 1, "caller_error": 0}
    assert counts(policy) == {"success": 2, "failure": 3, "cancelled": 1, "refused": 1}


@every_way
def test_f1_a_fallback_that_fails_is_raised_from_the_original(
    timed: Colour, way: Way, name: str, clock: ManualClock
) -> None:
    """The fallback's error reaches the caller with the original as its cause; it ran once."""
    original, second, ran = OSError("first"), LookupError("second"), []

    def lesser() -> None:
        ran.append(1)
        raise second

    policy = Policy(name, fallback(lesser), timeout(1.0, sync=timed.sync), clock=clock)

    async def fetch() -> None:
        raise original

    async def body() -> None:
        with pytest.raises(LookupError) as caught:
            await way(timed, policy, timed.fn(fetch))
        assert caught.value is second

    timed.run(body)
    assert second.__cause__ is original
    assert original.__cause__ is None
    assert ran == [1]
    assert policy.snapshot()["fallback_failures"] == 1
    assert counts(policy) == {"failure": 1}


@every_way
def test_f1_fallbacks_chain(timed: Colour, way: Way, name: str, clock: ManualClock) -> None:
    """What the inner fallback raises is answered by the outer, once each."""
    ran: list[str] = []

    def inner() -> None:
        ran.append("inner")
        raise LookupError

    def outer(error: Exception) -> str:
        ran.append(f"outer: {type(error).__name__} from {type(error.__cause__).__name__}")
        return "lesser"

    policy = Policy(
        name, fallback(outer, with_error=True), fallback(inner),
        timeout(1.0, sync=timed.sync), clock=clock,
    )  # fmt: skip

    async def fetch() -> None:
        raise OSError

    async def body() -> None:
        assert await way(timed, policy, timed.fn(fetch)) == "lesser"

    timed.run(body)
    assert ran == ["inner", "outer: LookupError from OSError"]


@every_way
def test_f1_a_mutable_answer_is_nobody_elses(
    timed: Colour, way: Way, name: str, clock: ManualClock
) -> None:
    """Two callers never get the same list as the answer."""
    given = [1]
    policy = Policy(name, fallback(value=given), timeout(1.0, sync=timed.sync), clock=clock)

    async def fetch() -> None:
        raise OSError

    async def body() -> None:
        first = await way(timed, policy, timed.fn(fetch))
        first.append(2)
        assert await way(timed, policy, timed.fn(fetch)) == [1]

    timed.run(body)
    assert given == [1]


@every_way
def test_f1_an_exit_in_a_fallback_is_raised(
    timed: Colour, way: Way, name: str, clock: ManualClock
) -> None:
    """A KeyboardInterrupt in a fallback is not swallowed, also not by an outer fallback."""

    def lesser() -> None:
        raise KeyboardInterrupt

    policy = Policy(
        name, fallback(value=0), fallback(lesser), bulkhead(1),
        timeout(1.0, sync=timed.sync), clock=clock,
    )  # fmt: skip

    async def fetch() -> None:
        raise OSError

    async def body() -> None:
        with pytest.raises(KeyboardInterrupt):
            await way(timed, policy, timed.fn(fetch))

    timed.run(body)
    comes_to_idle(policy)


@asynchronous
@every_way
def test_f2_plain_and_async_functions_serve_an_async_call(
    colour: Colour, way: Way, name: str
) -> None:
    """An async call is answered by a plain function and by an async one alike."""

    async def fetch() -> None:
        raise OSError

    async def lesser() -> str:
        await anyio.lowlevel.checkpoint()
        return "async"

    async def body() -> None:
        assert await way(colour, Policy(name, fallback(lesser)), fetch) == "async"
        assert await way(colour, Policy(name + "-2", fallback(lambda: "plain")), fetch) == "plain"

    colour.run(body)


@pytest.mark.parametrize("way", ["decorated", "call", "try_call"])
@pytest.mark.parametrize("answered", [True, False])
def test_a_failed_call_leaves_no_cycle_behind(way: str, answered: bool, name: str) -> None:
    """An exception that was answered or caught is freed at once, without the collector."""
    policy = Policy(name, fallback(value=0, on=Leaving if answered else OSError), bulkhead(1))
    living: list[weakref.ref[Leaving]] = []

    def fetch() -> None:
        error = Leaving()
        living.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    guarded = policy(fetch)

    def once() -> None:
        try:
            if way == "decorated":
                guarded()
            else:
                getattr(policy, way)(fetch)
        except Leaving:
            pass

    gc.collect()
    gc.disable()
    try:
        once()
        assert living[0]() is None
    finally:
        gc.enable()


class Leaving(Exception):
    """Can be referred to weakly."""


# -- T1, T2: the timeout --------------------------------------------------------------------------


@every_way
def test_t1_only_its_own_timer_is_named(
    timed: Colour, way: Way, name: str, clock: ManualClock
) -> None:
    """A call that outlives its limit ends as CallTimeoutError with policy, guard and limit."""
    policy, hold = Policy(name, timeout(1.0, sync=timed.sync), clock=clock), threading.Event()

    async def fetch() -> None:
        await overrun(timed, clock, 1, hold)

    async def body() -> CallTimeoutError:
        with pytest.raises(CallTimeoutError) as caught:
            await way(timed, policy, timed.fn(fetch))
        return caught.value

    error = timed.run(body)
    hold.set()
    assert (error.policy, error.guard, error.timeout) == (name, "timeout", 1.0)
    assert counts(policy) == {"failure": 1}
    assert policy.snapshot()["timeouts"] == 1
    until(lambda: policy._core.abandoned == 0)
    comes_to_idle(policy)


@every_way
def test_t1_no_limit_fires_early(timed: Colour, way: Way, name: str, clock: ManualClock) -> None:
    """A body that takes just less than its limit is not told to stop."""
    policy = Policy(name, timeout(1.0, sync=timed.sync), clock=clock)

    async def fetch() -> str:
        clock.advance(0.999)
        await timed.checkpoint()
        return "in time"

    async def body() -> None:
        assert await way(timed, policy, timed.fn(fetch)) == "in time"

    timed.run(body)
    assert policy.snapshot()["timeouts"] == 0


@every_way
@pytest.mark.parametrize("kind", [TimeoutError, "call timeout"])
def test_t1_the_bodys_own_timeout_error_is_its_own(
    timed: Colour, way: Way, kind: Any, name: str, clock: ManualClock
) -> None:
    """A TimeoutError that the body raises is a failure like any other, the very object."""
    policy = Policy(name, circuit_breaker(), timeout(1.0, sync=timed.sync), clock=clock)
    error = TimeoutError() if kind is TimeoutError else CallTimeoutError("elsewhere")

    async def fetch() -> None:
        raise error

    async def body() -> None:
        with pytest.raises(TimeoutError) as caught:
            await way(timed, policy, timed.fn(fetch))
        assert caught.value is error

    timed.run(body)
    assert policy.snapshot()["timeouts"] == 0
    assert counts(policy) == {"failure": 1}


@every_way
@pytest.mark.parametrize("tightest", ["outer", "inner"])
def test_t2_of_nested_limits_the_tightest_is_named(
    timed: Colour, way: Way, tightest: str, name: str, clock: ManualClock
) -> None:
    """Two limits in one policy: the one that is up first ends the call and is in the error."""
    limits = (1.0, 2.0) if tightest == "outer" else (2.0, 1.0)
    policy = Policy(name, *[timeout(limit, sync=timed.sync) for limit in limits], clock=clock)
    hold = threading.Event()

    async def fetch() -> None:
        await overrun(timed, clock, 1, hold)

    async def body() -> float:
        with pytest.raises(CallTimeoutError) as caught:
            await way(timed, policy, timed.fn(fetch))
        return caught.value.timeout

    assert timed.run(body) == 1.0
    hold.set()
    assert policy.snapshot()["timeouts"] == 1


@every_way
@pytest.mark.parametrize("tightest", ["outer", "inner"])
def test_t2_a_limit_of_another_policy_is_a_cancellation(
    timed: Colour, way: Way, tightest: str, name: str, clock: ManualClock
) -> None:
    """An inherited deadline that is soon up cancels the inner call; an own one fails it."""
    hold = threading.Event()
    limits = (1.0, 3.0) if tightest == "outer" else (2.0, 1.0)
    outer = Policy(name, circuit_breaker(), timeout(limits[0], sync=timed.sync), clock=clock)
    inner = Policy(
        name + "-inner", fallback(value="lesser", on=ZeroDivisionError),
        circuit_breaker(failure_threshold=1), bulkhead(1),
        timeout(limits[1], sync=timed.sync), clock=clock,
    )  # fmt: skip

    async def fetch() -> None:
        await overrun(timed, clock, 1, hold)

    async def middle() -> Any:
        return await way(timed, inner, timed.fn(fetch))

    async def body() -> CallTimeoutError:
        with pytest.raises(CallTimeoutError) as caught:
            await way(timed, outer, timed.fn(middle))
        return caught.value

    error = timed.run(body)
    until(lambda: inner._core.in_flight == 0)  # it gives up in a thread of its own
    hold.set()
    until(lambda: inner._core.in_flight + inner._core.abandoned + outer._core.abandoned == 0)
    if tightest == "outer":
        assert (error.policy, error.timeout) == (name, 1.0)
        assert counts(inner) == {"cancelled": 1}
        assert inner.state == "closed"
        assert inner.snapshot()["timeouts"] == 0
    else:
        assert (error.policy, error.timeout) == (name + "-inner", 1.0)
        assert counts(inner) == {"failure": 1}
        assert inner.state == "open"
    assert counts(outer) == {"failure": 1}
    assert outer.snapshot()["timeouts"] == (tightest == "outer")
    comes_to_idle(inner)
    comes_to_idle(outer)


@every_way
def test_t2_an_inherited_limit_that_is_up_lets_no_sync_call_begin(
    way: Way, name: str, clock: ManualClock
) -> None:
    """A sync call inside a deadline that has passed raises before its body, with no limit too."""
    outer = Policy(name, timeout(1.0, sync="cooperative"), clock=clock)
    inner = Policy(name + "-inner", bulkhead(1), clock=clock)
    ran: list[int] = []

    async def fetch() -> None:
        ran.append(1)

    async def middle() -> None:
        clock.advance(1)
        await way(SYNC, inner, SYNC.fn(fetch))

    with pytest.raises(CallTimeoutError) as caught:
        outer.call(SYNC.fn(middle))
    assert caught.value.policy == name
    assert ran == []
    assert counts(inner) == {"cancelled": 1}


@every_way
def test_t2_a_late_result_is_returned_and_slow(
    colour: Colour, way: Way, name: str, clock: ManualClock
) -> None:
    """A value that came after the limit is returned, a success, counted late and slow."""
    policy = Policy(
        name, fallback(value="lesser"), circuit_breaker(slow_call_duration=60.0),
        timeout(1.0, sync="cooperative"), clock=clock,
    )  # fmt: skip

    async def fetch() -> str:
        clock.advance(2)
        return "late"

    async def body() -> None:
        assert await way(colour, policy, colour.fn(fetch)) == "late"

    colour.run(body)
    shown = policy.snapshot()
    assert counts(policy) == {"success": 1}
    assert (shown["late_values"], shown["timeouts"]) == (1, 0)
    assert shown["guards"][1]["slow_calls"] == 1
    assert shown["duration"]["sum"] == 2.0
    assert shown["served"] == {"full": 1, "degraded": 0, "error": 0, "caller_error": 0}


@every_way
def test_t2_a_late_result_is_counted_under_the_real_clock(
    colour: Colour, way: Way, name: str
) -> None:
    """A body that blocks its loop past the limit and returns is a success that came late."""
    policy = Policy(name, timeout(0.2, sync="cooperative"))  # the body begins before that

    async def fetch() -> str:
        time.sleep(0.21)
        return "late"

    async def body() -> None:
        assert await way(colour, policy, colour.fn(fetch)) == "late"

    colour.run(body)
    assert policy.snapshot()["late_values"] == 1
    assert counts(policy) == {"success": 1}


@asynchronous
@every_way
@pytest.mark.parametrize("clocked", [False, True])
def test_t1_the_bodys_clean_up_is_waited_for(
    colour: Colour, way: Way, clocked: bool, name: str, clock: ManualClock
) -> None:
    """The error comes only after the cancelled body has cleaned up; its slot is held so long."""
    seconds = 1.0 if clocked else 0.1  # enough to begin on a loaded machine
    policy = Policy(name, bulkhead(1), timeout(seconds), clock=clock if clocked else None)
    order: list[str] = []

    async def fetch() -> None:
        try:
            clock.advance(2)
            await anyio.sleep(5)
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(3):
                    await anyio.lowlevel.checkpoint()
            order.append(f"cleaned, {policy.snapshot()['in_flight']} in flight")

    async def body() -> None:
        with pytest.raises(CallTimeoutError):
            await way(colour, policy, fetch)
        order.append("raised")
        await anyio.lowlevel.checkpoint()  # no cancellation is left over
        await anyio.lowlevel.checkpoint()

    colour.run(body)
    assert order == ["cleaned, 1 in flight", "raised"]
    comes_to_idle(policy)


@asynchronous
@every_way
def test_t1_a_foreign_limit_inside_or_outside_keeps_its_own_name(
    colour: Colour, way: Way, name: str
) -> None:
    """anyio's own limits, tighter inside or outside, end as what they are and not as ours."""
    policy = Policy(name, fallback(value="lesser", on=RuntimeError), timeout(9.0))

    async def fetch(limit: float) -> None:
        with anyio.fail_after(limit):
            await anyio.sleep(5)

    async def body() -> None:
        with pytest.raises(TimeoutError) as caught:
            await way(colour, policy, fetch, 0.001)
        assert not isinstance(caught.value, CallTimeoutError)
        with anyio.move_on_after(0.001) as scope:
            await way(colour, policy, fetch, 5)
        assert scope.cancelled_caught

    colour.run(body)
    assert counts(policy) == {"failure": 1, "cancelled": 1}
    assert policy.snapshot()["timeouts"] == 0
    comes_to_idle(policy)


@every_way
def test_t1_cancel_and_limit_at_once_is_a_cancel_on_asyncio(way: Way, name: str) -> None:
    """When the caller's cancel and the limit come in one step, the cancel is what remains."""
    clock = ManualClock()
    policy = Policy(name, fallback(value="lesser"), timeout(1.0), clock=clock)
    inside = asyncio.Event()

    async def fetch() -> None:
        inside.set()
        await asyncio.sleep(5)

    async def body() -> None:
        task = asyncio.ensure_future(way(ASYNCIO, policy, fetch))
        await inside.wait()
        clock.advance(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(body())
    assert counts(policy) == {"cancelled": 1}


def test_t1_what_the_timer_cancelled_is_taken_back(name: str, clock: ManualClock) -> None:
    """After a timeout on asyncio no cancellation is left over: asyncio.timeout still works."""
    policy = Policy(name, timeout(1.0), clock=clock)

    async def fetch() -> None:
        clock.advance(1)
        await asyncio.sleep(5)

    async def body() -> None:
        for _ in range(2):
            with pytest.raises(CallTimeoutError):
                await policy.acall(fetch)
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(5)

    asyncio.run(body())


@asynchronous
def test_t2_a_task_started_inside_is_not_bound_by_a_closed_deadline(
    colour: Colour, name: str, clock: ManualClock
) -> None:
    """A background task outlives the call that started it: no deadline, no cancel, own limits."""
    policy = Policy(name, timeout(1.0), clock=clock)
    other = Policy(name + "-other", bulkhead(1), timeout(5.0), clock=clock)
    seen: list[object] = []

    async def work() -> float | None:
        return resilient.remaining()

    async def background(go_on: anyio.Event) -> None:
        await go_on.wait()
        seen.append(resilient.remaining())
        resilient.check()
        seen.append(await other.acall(work))
        seen.append(await other(work)())

    async def body() -> None:
        go_on = anyio.Event()
        async with anyio.create_task_group() as group:

            async def fetch() -> float | None:
                group.start_soon(background, go_on)
                await anyio.lowlevel.checkpoint()
                return resilient.remaining()

            assert await policy.acall(fetch) == 1.0
            clock.advance(10)
            go_on.set()

    colour.run(body)
    assert seen == [None, 5.0, 5.0]
    assert counts(other) == {"success": 2}


def test_t2_a_thread_started_inside_is_not_bound_by_a_closed_deadline(
    name: str, clock: ManualClock
) -> None:
    """A thread with a copy of the call's context is free once the call has ended."""
    policy = Policy(name, timeout(1.0, sync="cooperative"), clock=clock)
    seen: list[float | None] = []

    def fetch() -> contextvars.Context:
        return contextvars.copy_context()

    context = policy.call(fetch)
    clock.advance(10)
    context.run(lambda: seen.append(resilient.remaining()))
    context.run(resilient.check)
    assert seen == [None]


def test_t1_a_sync_wait_in_an_event_loop_is_refused(name: str, clock: ManualClock) -> None:
    """A sync call that would stand in line in a loop's own thread is refused, with the reason."""
    policy = Policy(name, bulkhead(1, max_waiting=1, max_wait=1.0), clock=clock)

    def nested() -> None:
        with pytest.raises(BulkheadFullError, match="event loop"):
            policy.call(int)

    async def body() -> None:
        policy.call(nested)

    asyncio.run(body())
    trio.run(body)
    assert counts(policy) == {"success": 2, "refused": 2}
    comes_to_idle(policy)


def test_g2_a_probe_that_ends_while_forced_closed_gives_its_place_back(
    name: str, clock: ManualClock
) -> None:
    """A probe that was let in before an operator forced the circuit closed is no probe for ever."""
    policy = Policy(name, circuit_breaker(), clock=clock)
    policy.force_open()
    policy.release()
    policy.call(policy.force_closed)
    assert counts(policy) == {"success": 1}
    comes_to_idle(policy)


def test_g2_a_finalizer_inside_the_bookkeeping_is_refused(name: str, clock: ManualClock) -> None:
    """A call made from inside the policy's own critical section is refused, never a deadlock."""
    policy = Policy(name, bulkhead(1), clock=clock)
    from resilient.engine.policy_state import BUSY

    core = policy._core
    with core.lock:
        core.gate = BUSY
        result = policy.try_call(int)
        core.gate = 0
    core.flush()
    assert isinstance(result.error, resilient.ReentrantCallError)
    assert policy.try_call(int).served == "full"
    assert counts(policy) == {"success": 1, "refused": 1}
    comes_to_idle(policy)


def test_the_coroutine_of_an_old_style_generator_is_awaited(name: str) -> None:
    """A types.coroutine function is an async function to a policy."""
    policy = Policy(name, bulkhead(1))

    @types.coroutine
    def fetch() -> Any:
        yield from asyncio.sleep(0).__await__()
        return "value"

    async def body() -> None:
        assert await policy(fetch)() == "value"
        assert await policy.acall(fetch) == "value"

    asyncio.run(body())
    comes_to_idle(policy)
