"""Traps 14 to 22: locks, clocks, loops, lines, shared state and worker threads."""

from __future__ import annotations

import contextvars
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    Event,
    Policy,
    WorkersBusyError,
    bulkhead,
    circuit_breaker,
    collapse,
    fallback,
    rate_limit,
    registry,
    timeout,
)
from resilient.testing import ManualClock
from tests.kit.policies import idle, part, policy, trip
from tests.kit.threads import in_threads
from tests.kit.waiting import WAIT, until
from tests.kit.worlds import BACKENDS, World, run

YEARS = 10 * 365 * 86400.0


# -- 14: no lock over foreign code ------------------------------------------------------------


def _guards_meeting(where: str, meet: Callable[[], object]) -> tuple[Policy, Callable[[], Any]]:
    """Return a policy and a body that meet the other threads at one place of foreign code."""

    def ask(_: object) -> bool:
        meet()
        return False

    def fails() -> None:
        raise OSError

    if where == "body":
        return policy(circuit_breaker(), bulkhead(4)), meet
    if where == "worker":
        shop = policy(bulkhead(4), timeout(30, sync="thread"))
        return shop, meet
    if where == "ignore":
        return policy(fallback(value=0), circuit_breaker(ignore=ask), bulkhead(4)), fails
    if where == "failed_result":
        return policy(circuit_breaker(failed_result=ask), bulkhead(4)), lambda: None
    return policy(fallback(meet), circuit_breaker(), bulkhead(4)), fails


@pytest.mark.parametrize("where", ["body", "worker", "ignore", "failed_result", "fallback"])
def test_trap_14_foreign_code_of_four_threads_overlaps(where: str) -> None:
    """Four calls meet inside the body, a predicate or the fallback: no lock keeps them apart."""
    barrier, met = threading.Barrier(4), []
    shop, body = _guards_meeting(where, lambda: met.append(barrier.wait(WAIT / 5)))
    ends = in_threads(4, lambda _: shop.call(body))
    assert not [end for end in ends if isinstance(end, BaseException)]
    assert sorted(met) == [0, 1, 2, 3]
    idle(shop)


@pytest.fixture
def subscribed() -> Iterator[Callable[[Callable[[Event], object]], None]]:
    """Subscribe listeners for one test."""
    ends: list[Callable[[], None]] = []
    yield lambda listener: ends.append(registry.subscribe(listener))
    for end in ends:
        end()


def test_trap_14_a_blocked_listener_blocks_no_other_call(
    subscribed: Callable[[Callable[[Event], object]], None],
) -> None:
    """While a listener hangs in one thread, calls of the same policy go on in another."""
    shop = policy(circuit_breaker(failure_threshold=2), bulkhead(3))
    inside, go, let_go = threading.Event(), threading.Event(), []

    def listener(event: Event) -> None:
        if event.policy == shop.name and event.kind == "opened":
            inside.set()
            let_go.append(go.wait(WAIT / 5))

    subscribed(listener)
    tripper = threading.Thread(target=trip, args=(shop,), daemon=True)
    tripper.start()
    assert inside.wait(WAIT)
    (end,) = in_threads(1, lambda _: shop.call(int, "1"))
    assert isinstance(end, CircuitOpenError)
    assert shop.snapshot()["in_flight"] == 0
    go.set()
    tripper.join(WAIT)
    assert let_go == [True]


def test_trap_14_a_raising_listener_changes_no_outcome(
    subscribed: Callable[[Callable[[Event], object]], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The error of a listener never becomes the call's."""
    shop = policy(circuit_breaker(failure_threshold=1))

    def listener(event: Event) -> None:
        raise RuntimeError("bad listener")

    subscribed(listener)
    own = OSError("own")

    def fails() -> None:
        raise own

    with pytest.raises(OSError, match="own") as caught:
        shop.call(fails)
    assert caught.value is own
    assert own.__context__ is None
    assert shop.state == "open"


def test_trap_14_a_listener_may_call_the_policy(
    subscribed: Callable[[Callable[[Event], object]], None],
) -> None:
    """A listener that calls the very policy it hears of is answered, not deadlocked."""
    shop = policy(circuit_breaker(failure_threshold=1))
    heard: list[object] = []

    def listener(event: Event) -> None:
        if event.policy == shop.name and event.kind == "opened":
            heard.append(type(shop.try_call(int, "1").error))

    subscribed(listener)
    in_threads(1, lambda _: shop.try_call(int, "x"))
    assert heard == [CircuitOpenError]
    idle(shop)


# -- 16: the wall clock ------------------------------------------------------------


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the wall clock by so many seconds."""
    wall, wall_ns, moved = time.time, time.time_ns, [0.0]
    monkeypatch.setattr(time, "time", lambda: wall() + moved[0])
    monkeypatch.setattr(time, "time_ns", lambda: wall_ns() + int(moved[0] * 1e9))

    def move(by: float) -> None:
        moved[0] += by

    return move


@pytest.mark.parametrize("by", [YEARS, -YEARS])
def test_trap_16_wall_clock_jumps_move_no_breaker(jump: Callable[[float], None], by: float) -> None:
    """An open circuit stays open as long as it would have, whatever the wall clock does."""
    shop = policy(circuit_breaker(recovery_timeout=60))
    trip(shop)
    before = part(shop, "circuit_breaker")["retry_after"]
    jump(by)
    with pytest.raises(CircuitOpenError) as caught:
        shop.call(int, "1")
    assert caught.value.retry_after is not None
    assert before - 5 < caught.value.retry_after <= before <= 60


def test_trap_16_recovers_with_the_wall_clock_set_back(jump: Callable[[float], None]) -> None:
    """A clock set back by years does not keep a circuit open."""
    shop = policy(circuit_breaker(recovery_timeout=0.02))
    trip(shop)
    jump(-YEARS)
    until(lambda: shop.try_call(int, "1").error is None)
    assert shop.state == "closed"


def test_trap_16_jumps_leave_window_and_timeouts_alone(
    jump: Callable[[float], None], backend: str
) -> None:
    """Neither the window nor a running time limit follows the wall clock."""
    shop = policy(circuit_breaker(failure_threshold=4), timeout(30, sync="thread"))

    def body() -> None:
        jump(YEARS)
        raise OSError

    async def abody() -> None:
        jump(-YEARS)
        await anyio.lowlevel.checkpoint()
        raise OSError

    async def main() -> None:
        assert isinstance((await shop.atry_call(abody)).error, OSError)

    assert isinstance(shop.try_call(body).error, OSError)
    run(backend, main)
    seen = part(shop, "circuit_breaker")
    assert seen["window"]["failures"] == 2
    assert seen["consecutive_failures"] == 2
    assert shop.snapshot()["timeouts"] == 0


# -- 17 and 18: loops, lines ------------------------------------------------------------

EVERYWHERE = Policy("test-traps-everywhere", bulkhead(1, max_waiting=50, max_wait=WAIT))


@EVERYWHERE
async def everywhere() -> int:
    """Give way once while holding the only slot."""
    await anyio.lowlevel.checkpoint()
    return 1


def test_trap_17_one_policy_serves_loop_after_loop() -> None:
    """A policy made at import, with no loop, is contended on several loops of both kinds."""

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(everywhere)

    before = EVERYWHERE.snapshot()["calls"]["success"]
    for backend in (*BACKENDS, *BACKENDS):
        run(backend, main)
    assert EVERYWHERE.snapshot()["calls"]["success"] == before + 20
    idle(EVERYWHERE)


def test_trap_17_one_bulkhead_serves_loops_in_several_threads() -> None:
    """Four threads with a loop each share one slot, and none of them hangs."""

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(everywhere)

    ends = in_threads(4, lambda place: run(BACKENDS[place % 2], main))
    assert ends == [None] * 4
    idle(EVERYWHERE)


LIMITED = Policy("test-traps-limited", rate_limit(1000, 1.0, max_wait=WAIT)).keyed(lambda n: n % 2)
SHARED = collapse(key=lambda n: n % 2)(LIMITED(anyio.sleep))


def test_trap_17_limits_keys_and_shared_calls_serve_loops_in_several_threads() -> None:
    """Made at import, with no loop; each loop has shared calls of its own, all have one limit."""

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(SHARED, number % 2 / 1000)

    ends = in_threads(4, lambda place: run(BACKENDS[place % 2], main))
    assert ends == [None] * 4
    idle(LIMITED.policy)


def test_trap_17_a_thread_wakes_a_task_of_an_idle_loop(backend: str) -> None:
    """A slot that a thread frees wakes a task at once, though nothing else stirs its loop."""
    # Its own end of the wait would come only after that of the test.
    shop = policy(bulkhead(1, max_waiting=1, max_wait=10 * WAIT))
    entered, go = threading.Event(), threading.Event()

    def holds() -> None:
        entered.set()
        go.wait(WAIT)

    def free() -> None:
        until(lambda: part(shop, "bulkhead")["waiting"] == 1)
        time.sleep(0.01)  # so that the loop has nothing left to do
        go.set()

    async def served() -> str:
        return "served"

    threads = [
        threading.Thread(target=lambda: shop.call(holds), daemon=True),
        threading.Thread(target=free, daemon=True),
    ]
    threads[0].start()
    assert entered.wait(WAIT)
    threads[1].start()
    assert run(backend, shop.acall, served) == "served"
    for thread in threads:
        thread.join(WAIT)
    idle(shop)


@pytest.mark.parametrize("granted", [False, True], ids=["in line", "granted"])
def test_trap_18_a_cancelled_wait_loses_no_slot(backend: str, granted: bool) -> None:
    """Who is cancelled in the line, or just when a slot is handed to it, passes it on."""
    shop = policy(bulkhead(2, max_waiting=5, max_wait=WAIT))

    async def main() -> None:
        for _ in range(3):
            gate, scope = anyio.Event(), anyio.CancelScope()

            async def holder(gate: anyio.Event = gate) -> None:
                await shop.acall(gate.wait)

            async def waiter(scope: anyio.CancelScope = scope) -> None:
                with scope:
                    await shop.acall(anyio.lowlevel.checkpoint)

            async with anyio.create_task_group() as group:
                group.start_soon(holder)
                group.start_soon(holder)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(waiter)
                await anyio.wait_all_tasks_blocked()
                assert part(shop, "bulkhead")["waiting"] == 1
                if granted:
                    shop.update(bulkhead={"max_concurrent": 3})
                    assert part(shop, "bulkhead")["used"] == 3
                scope.cancel()
                await anyio.wait_all_tasks_blocked()
                assert scope.cancelled_caught
                assert part(shop, "bulkhead")["used"] == 2
                shop.update(bulkhead={"max_concurrent": 2})
                gate.set()
            idle(shop)

    run(backend, main)


def test_trap_18_a_cancelled_grant_wakes_the_next(backend: str) -> None:
    """A slot that was handed to a cancelled waiter goes to who stands behind it."""
    shop = policy(bulkhead(1, max_waiting=5, max_wait=WAIT))
    order: list[str] = []

    async def main() -> None:
        gate, scope = anyio.Event(), anyio.CancelScope()

        async def first() -> None:
            with scope:
                await shop.acall(anyio.lowlevel.checkpoint)
                order.append("first")

        async def second() -> None:
            await shop.acall(anyio.lowlevel.checkpoint)
            order.append("second")

        async def holder() -> None:
            await shop.acall(gate.wait)
            scope.cancel()  # in the very step in which the slot was handed to the first

        async with anyio.create_task_group() as group:
            for task in (holder, first, second):
                group.start_soon(task)
                await anyio.wait_all_tasks_blocked()
            gate.set()

    run(backend, main)
    assert order == ["second"]
    idle(shop)


# -- 19 and 20: shared state, and whose timeout it was --------------------------------------------


def test_trap_19_one_timeout_serves_two_tasks(clock: ManualClock, backend: str) -> None:
    """Both of two tasks under one timeout object time out, each at its own time."""
    shop = policy(timeout(1.0), clock=clock)
    ends: list[str] = []

    async def main() -> None:
        async def caller(name: str) -> None:
            with pytest.raises(CallTimeoutError):
                await shop.acall(anyio.sleep_forever)
            ends.append(name)

        async with anyio.create_task_group() as group:
            group.start_soon(caller, "a")
            await anyio.wait_all_tasks_blocked()
            clock.advance(0.5)
            group.start_soon(caller, "b")
            await anyio.wait_all_tasks_blocked()
            clock.advance(0.5)
            await anyio.to_thread.run_sync(until, lambda: ends == ["a"])
            clock.advance(0.5)

    run(backend, main)
    assert ends == ["a", "b"]
    idle(shop)


def test_trap_19_one_timeout_serves_two_tasks_on_the_real_clock(backend: str) -> None:
    """The same on the system's clock, where calls of one limit share a timer."""
    shop = policy(timeout(0.02))
    guarded = shop(anyio.sleep_forever)
    ends: list[type[BaseException]] = []

    async def main() -> None:
        async def caller() -> None:
            try:
                await guarded()
            except CallTimeoutError as error:
                ends.append(type(error))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(caller)
                await anyio.lowlevel.checkpoint()

    run(backend, main)
    assert ends == [CallTimeoutError] * 5
    idle(shop)


def test_trap_19_one_timeout_serves_threads_and_its_own_body(clock: ManualClock) -> None:
    """A policy is entered again from its own body and from another thread, each call timed."""
    shop = policy(timeout(1.0, sync="cooperative"), clock=clock)
    seen: list[float | None] = []

    def inner() -> None:
        from resilient import remaining

        seen.append(remaining())

    def outer() -> None:
        clock.advance(0.25)
        shop.call(inner)
        in_threads(1, lambda _: shop.call(inner))
        inner()

    shop.call(outer)
    assert seen == [0.75, 1.0, 0.75]
    idle(shop)


class _ForeignTimeout(TimeoutError):
    pass


@pytest.mark.parametrize("way", ["thread", "cooperative"])
@pytest.mark.parametrize("kind", [TimeoutError, _ForeignTimeout])
def test_trap_20_the_bodys_own_timeout_error_is_its_own(way: Any, kind: type[TimeoutError]) -> None:
    """A TimeoutError that the body raised comes out as it is, and is not counted as ours."""
    shop = policy(circuit_breaker(), timeout(30, sync=way))
    own = kind("the body's")

    def body() -> None:
        raise own

    for call in (shop(body), lambda: shop.call(body)):
        with pytest.raises(kind) as caught:
            call()
        assert caught.value is own
    assert shop.snapshot()["timeouts"] == 0
    assert shop.snapshot()["calls"]["failure"] == 2


@pytest.mark.parametrize("kind", [TimeoutError, _ForeignTimeout])
def test_trap_20_the_same_async(backend: str, kind: type[TimeoutError]) -> None:
    """The same for an async body, and for a TimeoutError of an anyio scope inside it."""
    shop = policy(circuit_breaker(), timeout(30))
    own = kind("the body's")

    async def body() -> None:
        await anyio.lowlevel.checkpoint()
        raise own

    async def inner_limit() -> None:
        with anyio.fail_after(0):
            await anyio.sleep_forever()

    async def main() -> None:
        with pytest.raises(kind) as caught:
            await shop(body)()
        assert caught.value is own
        with pytest.raises(TimeoutError) as other:
            await shop.acall(inner_limit)
        assert not isinstance(other.value, CallTimeoutError)

    run(backend, main)
    assert shop.snapshot()["timeouts"] == 0


def test_trap_20_another_policys_timeout_is_a_failure_like_any(backend: str) -> None:
    """A CallTimeoutError of a policy used inside is not taken for this policy's own."""
    outer = policy(circuit_breaker(), timeout(30))
    inner = policy(timeout(0.001))

    async def main() -> None:
        with pytest.raises(CallTimeoutError) as caught:
            await outer.acall(inner.acall, anyio.sleep_forever)
        assert caught.value.policy == inner.name

    run(backend, main)
    assert outer.snapshot()["timeouts"] == 0
    assert outer.snapshot()["calls"]["failure"] == 1
    assert inner.snapshot()["timeouts"] == 1


# -- 21: worker threads ------------------------------------------------------------


class Counting:
    """A body that hangs until it is let go, and counts how many of it run at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = self.most = self.begun = 0
        self.go = threading.Event()

    def __call__(self) -> None:
        """Hang."""
        with self.lock:
            self.running += 1
            self.begun += 1
            self.most = max(self.most, self.running)
        self.go.wait(WAIT)
        with self.lock:
            self.running -= 1


def hang(shop: Policy, body: Counting, bodies: int) -> list[Any]:
    """Call until so many bodies hang; a busy machine gives some calls up before their body begins."""
    ends: list[Any] = []
    while (lacking := bodies - shop.snapshot()["abandoned"]) > 0:
        assert len(ends) < 100 * bodies
        ends += in_threads(lacking, lambda _: shop.try_call(body))
    until(lambda: body.running == bodies)
    return ends


def test_trap_21_an_abandoned_worker_keeps_its_slot() -> None:
    """With one slot, no second body runs while the first hangs, however many callers come."""
    shop = policy(bulkhead(1), timeout(0.02, sync="thread"))
    body = Counting()
    ends = hang(shop, body, 1)
    assert {type(end.error) for end in ends} == {CallTimeoutError}
    refused = [shop.try_call(body).error for _ in range(8)]
    assert {type(error) for error in refused} == {BulkheadFullError}
    assert part(shop, "bulkhead")["used"] == 1
    assert shop.snapshot()["abandoned"] == 1
    body.go.set()
    until(lambda: shop.snapshot()["abandoned"] == 0)
    idle(shop)
    shop.with_(timeout(WAIT, sync="thread")).call(body)
    assert (body.begun, body.most) == (2, 1)


def test_trap_21_eight_threads_never_run_two_bodies_in_one_slot() -> None:
    """The same under eight callers at once that all stand in line."""
    shop = policy(bulkhead(1, max_waiting=8, max_wait=0.2), timeout(0.005, sync="thread"))
    body = Counting()
    hang = threading.Timer(0.1, body.go.set)
    hang.start()
    in_threads(8, lambda _: shop.try_call(body))
    hang.join(WAIT)
    until(lambda: shop.snapshot()["abandoned"] == 0)
    assert body.most == 1
    idle(shop)


@pytest.mark.filterwarnings("ignore::resilient.OrderWarning")
@pytest.mark.parametrize(
    "guards",
    [
        lambda: (bulkhead(1), fallback(value=0), timeout(0.02, sync="thread")),
        lambda: (fallback(value=0), bulkhead(1), fallback(int), timeout(0.02, sync="thread")),
    ],
    ids=["bulkhead outside", "two fallbacks"],
)
def test_trap_21_slot_is_kept_while_a_fallback_inside_answers(
    guards: Callable[[], tuple[Any, ...]],
) -> None:
    """A fallback that stands inside the bulkhead does not free the abandoned body's slot."""
    shop = policy(*guards())
    body = Counting()
    assert {end.value for end in hang(shop, body, 1)} == {0}
    assert part(shop, "bulkhead")["used"] == 1
    shop.try_call(body)
    assert body.most == 1
    body.go.set()
    until(lambda: shop.snapshot()["abandoned"] <= 0)
    idle(shop)


def test_trap_21_hung_workers_are_no_false_timeout() -> None:
    """When every worker hangs, the next call is told so at once; it did not time out."""
    quiet = circuit_breaker(failure_threshold=None, minimum_calls=1000)
    shop = policy(quiet, timeout(0.02, sync="thread"))
    body = Counting()
    ends = hang(shop, body, 64)
    assert {type(end.error) for end in ends} == {CallTimeoutError}
    before = shop.snapshot()
    for call in (shop(lambda text: int(text)), lambda text: shop.call(int, text)):
        with pytest.raises(WorkersBusyError):
            call("1")
    assert body.running == 64, "they waited for a worker"
    after = shop.snapshot()
    assert after["timeouts"] == before["timeouts"] == len(ends)
    assert after["calls"]["failure"] == len(ends)
    assert after["calls"]["refused"] == 2
    body.go.set()
    until(lambda: shop.snapshot()["abandoned"] == 0)
    assert shop.with_(timeout(WAIT, sync="thread")).call(int, "1") == 1
    idle(shop)


def test_trap_21_a_view_has_no_workers_of_its_own() -> None:
    """The workers of a policy and of its views together are bounded by one number."""
    shop = policy(timeout(0.02, sync="thread"))
    strict = shop.with_(timeout(0.01, sync="thread"))
    body = Counting()
    hang(shop, body, 64)
    in_threads(64, lambda _: strict.try_call(body))
    most = body.most
    body.go.set()
    until(lambda: shop.snapshot()["abandoned"] == 0)
    assert most == 64
    assert shop.snapshot()["calls"]["refused"] == 64


_who: contextvars.ContextVar[str] = contextvars.ContextVar("_who", default="nobody")


@pytest.mark.parametrize("way", ["thread", "cooperative"])
def test_trap_21_context_variables_reach_the_body(way: Any) -> None:
    """The body, on whatever thread, sees the caller's context, and can't change it."""
    shop = policy(timeout(30, sync=way))

    def body() -> tuple[str, bool]:
        return _who.get(), threading.current_thread() is threading.main_thread()

    token = _who.set("me")
    try:
        assert shop.call(body) == ("me", way == "cooperative")
        assert shop(body)() == ("me", way == "cooperative")
    finally:
        _who.reset(token)
    assert shop.call(body)[0] == "nobody"


def workers() -> int:
    """Count the worker threads of this process."""
    return sum(thread.name.startswith("resilient-worker") for thread in threading.enumerate())


def test_trap_21_calls_near_their_deadline_do_not_poison_the_workers() -> None:
    """After 2000 calls that end just at their deadline the workers still answer in time."""
    shop = policy(timeout(0.0005, sync="thread"))
    body, before = threading.Event(), workers()
    ends = [shop.try_call(body.wait, 0.0004).error for _ in range(2000)]
    kinds = {type(end) for end in ends if end is not None}
    assert kinds <= {CallTimeoutError, WorkersBusyError}
    assert shop.snapshot()["timeouts"] == sum(isinstance(e, CallTimeoutError) for e in ends)
    until(lambda: shop.snapshot()["abandoned"] == 0)
    idle(shop)
    patient = shop.with_(timeout(WAIT, sync="thread"))
    assert [patient.call(int, "1") for _ in range(100)] == [1] * 100
    assert workers() - before <= 64


# -- 22: no threads of our own ------------------------------------------------------------


def test_trap_22_policies_start_no_threads() -> None:
    """Import, a hundred policies and their calls leave no thread and no timer behind."""
    code = """
import threading, asyncio
from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout
async def body(): await asyncio.sleep(0)
async def main():
    for n in range(100):
        guards = fallback(value=0), circuit_breaker(), bulkhead(1), timeout(9, sync="cooperative")
        made = Policy(f"p{n}", *guards)
        made.call(int)
        await made.acall(body)
asyncio.run(main())
print(threading.active_count())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == ["1"]


def test_trap_22_limits_keys_and_shared_calls_start_no_threads() -> None:
    """Rate and concurrency limits, a throttle, a thousand keys, batches and shadows do it on use."""
    code = """
import threading, asyncio
from resilient import Policy, circuit_breaker, collapse, concurrency_limit, rate_limit, throttle
guards = circuit_breaker(), throttle(), rate_limit(1000, 1.0, burst=1000), concurrency_limit()
made = Policy("p", *guards)
made.shadow(circuit_breaker(failure_threshold=1))
keyed = made.keyed(lambda n: n, max_keys=100)
for n in range(1000):
    keyed.call(str, n)
assert collapse(within=0.001)(lambda ns: ns)(7) == 7
assert asyncio.run(collapse(keyed(asyncio.sleep))(0)) is None
print(threading.active_count())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["1"]


def test_trap_18_a_wait_that_takes_too_long_leaves_the_line(
    clock: ManualClock, world: World
) -> None:
    """A wait that ends by its own max_wait is a refusal, and leaves the line."""
    shop = policy(
        circuit_breaker(failure_threshold=1), bulkhead(1, max_waiting=1, max_wait=2), clock=clock
    )
    held = world.begin(shop)
    ends: list[Any] = []
    waiter = threading.Thread(
        target=lambda: ends.append(shop.try_call(int, "1").error), daemon=True
    )
    waiter.start()
    until(lambda: part(shop, "bulkhead")["waiting"] == 1 and clock.waiting > 0)
    while waiter.is_alive() and clock.now() < 1010:
        clock.advance(1)
        waiter.join(0.05)
    assert isinstance(ends[0], BulkheadFullError)
    assert shop.state == "closed"
    assert part(shop, "bulkhead")["waiting"] == 0
    held.succeed()
    idle(shop)
