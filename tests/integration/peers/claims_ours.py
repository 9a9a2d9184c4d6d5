"""The same scenes with our breaker, timeout and bulkhead."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from resilient import Policy, bulkhead, circuit_breaker, retry, timeout
from resilient.testing import ManualClock
from tests.integration.peers import scenes_async as scenes
from tests.integration.peers import scenes_sync
from tests.integration.peers.claims_retries import on_trio
from tests.integration.peers.kit import OURS, Seen, check

_number = itertools.count()


def of(*guards: Any, **options: Any) -> Policy:
    """Return a policy of these."""
    return Policy(f"claim-{next(_number)}", *guards, **options)


def breaker(clock: ManualClock, **options: Any) -> Policy:
    """Return a breaker that opens at the first failure, for 10 s."""
    known = {"failure_rate": None, "failure_threshold": 1, "recovery_timeout": 10}
    return of(circuit_breaker(**{**known, **options}), clock=clock)


def after(clock: ManualClock, seconds: float) -> scenes.Recover:
    """Return a wait of so many of its seconds."""

    async def wait() -> None:
        clock.advance(seconds)

    return wait


@check(OURS)
def resilient_half_open_one_probe() -> Seen:
    """One probe; everybody else is refused at once."""
    clock = ManualClock()
    got = asyncio.run(scenes.herd(breaker(clock), after(clock, 10)))
    return Seen(f"{got} of {scenes.CROWD} reach it", got == 1)


@check(OURS)
def resilient_late_results_move_nothing() -> Seen:
    """A call that began before the circuit moved moves nothing."""
    clock = ManualClock()
    opened = asyncio.run(scenes.late_success(breaker(clock)))
    half = asyncio.run(scenes.late_success_beside_probe(breaker(clock), after(clock, 10)))
    return Seen(f"open: {opened}, half-open: {half} get through", (opened, half) == (0, 0))


@check(OURS)
def resilient_cancelled_neutral() -> Seen:
    """A cancelled task is no failure; a cancelled probe gives its place back."""
    clock = ManualClock()
    closed = asyncio.run(scenes.cancelled(breaker(clock), 3))
    probe = asyncio.run(scenes.cancelled_probe(breaker(clock), after(clock, 10)))
    return Seen(f"closed: {closed} of 2; after a probe: {probe}", (closed, probe) == (2, 1))


@check(OURS)
def resilient_hung_probe_loses_lease() -> Seen:
    """A probe that never ends has failed when its lease is over, and others are let in."""
    clock = ManualClock()
    wait = after(clock, 3600)
    got = asyncio.run(scenes.hung_probe(breaker(clock), after(clock, 10), wait))
    return Seen(f"2 hours later {got} got through", got >= 1)


@check(OURS)
def resilient_hung_calls_seen() -> Seen:
    """Calls that hang are slow while they still run."""
    clock = ManualClock()
    slow = breaker(clock, slow_call_duration=1, slow_call_rate=0.5)
    got = asyncio.run(scenes.hung_calls(slow, after(clock, 3600)))
    return Seen(f"30 calls hang for an hour; {got} of {scenes.CROWD} more reach it", got == 0)


@check(OURS)
def resilient_sync_async_and_trio() -> Seen:
    """One breaker serves a sync function, asyncio and trio."""
    import trio

    guard = breaker(ManualClock())

    async def fine() -> str:
        return "fine"

    acall, got = guard(fine), []
    for run in (asyncio.run, lambda call: trio.run(lambda: call)):
        got.append(run(acall()))
    guard.try_call(int, "not a number")
    for run in (asyncio.run, lambda call: trio.run(lambda: call)):
        try:
            got.append(run(acall()))
        except Exception as error:
            got.append(type(error).__name__)
    return Seen(", ".join(got), got == ["fine"] * 2 + ["CircuitOpenError"] * 2)


@check(OURS)
def resilient_trio() -> Seen:
    """Timeout, bulkhead and retry run on trio."""
    again = retry(on=ConnectionError, attempts=2, wait_initial=0)
    got = on_trio(of(again, bulkhead(1), timeout(5)))
    return Seen(f"{got} attempts", got == 2)


@check(OURS)
def resilient_slot_kept() -> Seen:
    """A slot is taken until the thread that timed out has ended."""
    begun, peak = scenes_sync.abandoned(of(bulkhead(1), timeout(0.03, sync="thread")))
    return Seen(f"3 calls, 1 slot: {peak} body at once, {begun} begun", (begun, peak) == (1, 1))


@check(OURS)
def resilient_threads_bounded() -> Seen:
    """Without a bulkhead 64 threads at most hang after a timeout; then calls are refused."""
    _, peak = scenes_sync.abandoned(of(timeout(0.001, sync="thread")), calls=100)
    return Seen(f"100 calls: {peak} threads at once", 1 <= peak <= 64)


@check(OURS)
def resilient_context_kept() -> Seen:
    """The body of a sync call with a timeout sees its caller's contextvars."""
    got = scenes_sync.context(of(timeout(5, sync="thread")))
    return Seen(f"the body reads {got!r}", got == "r-1")


@check(OURS)
def resilient_forked() -> Seen:
    """A forked child's calls with a timeout go well, when the parent had used threads."""
    fine = scenes_sync.begins_in_child(of(timeout(2, sync="thread"))(lambda: "answer"))
    return Seen(f"a call in the child goes well: {fine}", fine)


@check(OURS)
def resilient_one_count_of_slots() -> Seen:
    """Threads and loops share the slots of one bulkhead."""
    loops = scenes.two_loops(of(bulkhead(1)))
    mixed = scenes.thread_and_loop(of(bulkhead(1)))
    text = f"1 slot, 2 loops: {loops} inside; a thread and a loop: {mixed}"
    return Seen(text, (loops, mixed) == (1, 1))


@check(OURS)
def resilient_slot_back_on_cancel() -> Seen:
    """A task that is cancelled while it waits for a slot gives its place back."""

    async def scene() -> str:
        slots = of(bulkhead(1, max_waiting=1, max_wait=5))

        async def two(cancel: bool) -> str:
            leave = asyncio.Event()
            tasks = [asyncio.ensure_future(slots.acall(leave.wait)) for _ in range(2)]
            await asyncio.sleep(0.01)
            if cancel:
                tasks[1].cancel()
            leave.set()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            return ", ".join("in" if each is True else type(each).__name__ for each in ends)

        return f"{await two(True)}; then {await two(False)}"

    got = asyncio.run(scene())
    return Seen(f"2 places, one slot: {got}", got == "in, CancelledError; then in, in")


@check(OURS)
def resilient_streams() -> Seen:
    """A generator is guarded to its end; leaving it early is no failure; send() arrives."""
    clock = ManualClock()
    whole, guard = scenes_sync.stream(breaker(clock)), breaker(clock)

    @guard
    def echo() -> Any:
        got = yield "ready"
        yield got

    stream = echo()
    next(stream)
    answer = stream.send("hello")
    stream.close()
    text = f"guarded to the end: {whole}; send() gives {answer}; left early: {guard.state}"
    return Seen(text, whole and answer == "hello" and guard.state == "closed")


@check(OURS)
def resilient_side_by_side() -> Seen:
    """Threads call at once."""
    took = scenes_sync.four_threads(of(circuit_breaker()))
    return Seen(f"4 threads of 0.1 s take {took:.1f} s", took < 0.3)
