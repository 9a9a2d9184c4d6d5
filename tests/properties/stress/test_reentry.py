"""Finalizers and signal handlers that call the policy they interrupt; threads that can't start."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilient import (
    BulkheadFullError,
    CircuitOpenError,
    Policy,
    ReentrantCallError,
    WorkersBusyError,
    bulkhead,
    circuit_breaker,
    fallback,
    timeout,
)
from resilient.engine.sync import workers
from tests.kit.policies import fails, idle, part, policy
from tests.kit.threads import in_threads
from tests.kit.waiting import WAIT, until

# Before 3.12 a collection may begin inside ContextVar.set() and reset(). Finalizers that use the same
# variable there crash the interpreter (seen on 3.11.7); from 3.12 on it collects between bytecodes.
CONTEXT = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="ContextVar.set() is not re-entrant"
)
REFUSALS = (BulkheadFullError, CircuitOpenError, ReentrantCallError, WorkersBusyError)


class Tally:
    """What calls came to, as their callers saw it; lists, for a finalizer interrupts anything."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.ends: list[str] = []

    def call(self, fn: Callable[[], object]) -> None:
        """Make a call and book its end."""
        self.began.append(1)
        try:
            fn()
        except REFUSALS:
            self.ends.append("refused")
        except OSError:
            self.ends.append("failure")
        else:
            self.ends.append("success")


def matches(of: Policy, tally: Tally) -> None:
    """Assert that the policy's counts are those that its callers saw."""
    calls = {key: number for key, number in of.snapshot()["calls"].items() if number}
    assert calls == Counter(tally.ends)
    assert sum(calls.values()) == len(tally.began) == len(tally.ends)
    idle(of)


@pytest.fixture
def eager_gc() -> Iterator[None]:
    """Give back the collector's thresholds, which the test changes."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def after(allocations: int, rubbish: Callable[[], object]) -> None:
    """Have rubbish collected by the allocation of that number from now: inside a call, say."""
    gc.set_threshold(0)
    gc.collect(0)
    rubbish()
    gc.set_threshold(allocations)


def body() -> None:
    """Do nothing."""


@pytest.mark.usefixtures("eager_gc")
@pytest.mark.parametrize("way", ["none", pytest.param("cooperative", marks=CONTEXT), "thread"])
def test_finalizers_call_the_policy(way: str) -> None:
    """Cyclic rubbish whose __del__ calls the same policy never deadlocks; counts stay exact."""
    sync: Any = way
    inner = () if way == "none" else (timeout(3, sync=sync),)
    # Opening makes events, which are allocated in the critical section: the collector runs there.
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=1e-6)
    shop = policy(breaker, bulkhead(3, max_waiting=2, max_wait=5), *inner)
    guarded, failing = shop(body), shop(fails)
    tally = Tally()

    class Rubbish:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            tally.call(guarded)

    def actor(_: int) -> None:
        for number in range(150):
            for fn in (guarded, failing):
                after(number % 50 + 1, Rubbish)
                tally.call(fn)

    assert in_threads(1, actor) == [None]
    gc.collect()
    until(lambda: len(tally.ends) == len(tally.began))
    gc.collect()
    assert len(tally.began) == 600
    matches(shop, tally)
    assert shop.snapshot()["timeouts"] == 0


@pytest.mark.usefixtures("eager_gc")
@pytest.mark.parametrize("limit", [None, pytest.param(60, marks=CONTEXT)])
def test_finalizers_call_the_policy_on_asyncio(limit: float | None) -> None:
    """The same for async calls: the finalizers make sync calls of the policy they interrupt."""
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=1e-6)
    inner = () if limit is None else (timeout(limit, sync="cooperative"),)
    shop = policy(breaker, bulkhead(3), *inner)
    guarded = shop(body)
    tally = Tally()

    class Rubbish:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            tally.call(guarded)

    async def abody() -> None:
        raise OSError

    async def main() -> None:
        waits = shop(abody)
        for number in range(150):
            after(number % 50 + 1, Rubbish)
            tally.began.append(1)
            try:
                await waits()
            except REFUSALS:
                tally.ends.append("refused")
            except OSError:
                tally.ends.append("failure")

    asyncio.run(main())
    gc.collect()
    assert len(tally.began) == 300
    matches(shop, tally)


def test_a_finalizer_on_an_idle_worker_does_not_wait_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A finalizer that runs on a worker, as it lies down, and calls the policy is served."""
    shop = policy(timeout(1, sync="thread"))
    workers.pool.reset()  # so that the worker that lies down is the only idle one
    rest, ends = workers.Pool.rest, []
    done = threading.Event()

    def finalized(self: workers.Pool, worker: Any) -> None:
        rest(self, worker)
        if began.is_set() and not ends:
            ends.append(None)
            ends.append(shop.try_call(int, "7"))
            done.set()

    began = threading.Event()
    monkeypatch.setattr(workers.Pool, "rest", finalized)
    shop.call(began.set)
    assert done.wait(WAIT)
    monkeypatch.undo()
    assert (ends[1].value, ends[1].error) == (7, None)
    until(lambda: shop.snapshot()["abandoned"] == 0)
    idle(shop)


class Tripwire(dict[Any, Any]):
    """Calls something when the critical section that uses it stores an item."""

    def __init__(self, old: dict[Any, Any], call: Callable[[], object]) -> None:
        super().__init__(old)
        self._call = call

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self._call()


def inside_bookkeeping(shop: Policy, call: Callable[[], object]) -> None:
    """Make a call from inside the policy's own critical section, as a finalizer would."""
    breaker = shop.guards[[guard.kind for guard in shop.guards].index("circuit_breaker")]
    breaker.moves = Tripwire(breaker.moves, call)  # type: ignore[attr-defined]
    shop.try_call(fails)  # opens, and so stores the transition
    breaker.moves = dict(breaker.moves)  # type: ignore[attr-defined]


def test_a_call_inside_the_bookkeeping_is_refused() -> None:
    """It gets an error of its own, is counted once, and the call around it is undisturbed."""
    shop = policy(circuit_breaker(failure_threshold=1), bulkhead(1))
    ends: list[BaseException | None] = []
    inside_bookkeeping(shop, lambda: ends.append(shop.try_call(body).error))
    assert [type(end) for end in ends] == [ReentrantCallError]
    assert shop.state == "open"
    calls = shop.snapshot()["calls"]
    assert (calls["failure"], calls["refused"]) == (1, 1)
    idle(shop)


@pytest.mark.timeout(30)
def test_a_call_inside_after_an_end_inside() -> None:
    """The end waits for what was interrupted; the call neither waits for it nor does it."""
    shop = policy(circuit_breaker(failure_threshold=1), bulkhead(3))
    block = shop.block()
    block.__enter__()
    ends: list[BaseException | None] = []

    def act() -> None:
        block.__exit__(None, None, None)
        ends.append(shop.try_call(body).error)

    inside_bookkeeping(shop, act)
    assert [type(end) for end in ends] == [ReentrantCallError]
    calls = shop.snapshot()["calls"]
    assert (calls["success"], calls["failure"], calls["refused"]) == (1, 1, 1)
    idle(shop)


@pytest.mark.parametrize("way", ["call", "decorated"])
def test_such_a_call_has_its_fallback_and_is_counted(way: str) -> None:
    """A fallback answers that refusal as any other, and the call is counted once."""
    shop = policy(fallback(value="less"), circuit_breaker(failure_threshold=1), bulkhead(1))
    guarded = shop(body) if way == "decorated" else lambda: shop.call(body)
    ends: list[Any] = []

    def call() -> None:
        try:
            ends.append(guarded())
        except ReentrantCallError as error:
            ends.append(error)

    inside_bookkeeping(shop, call)
    seen = shop.snapshot()
    assert ends == ["less"]
    assert (seen["calls"]["failure"], seen["calls"]["refused"]) == (1, 1)
    assert seen["served"] == {"full": 0, "degraded": 2, "error": 0, "caller_error": 0}
    idle(shop)


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Call something from a signal handler, again and again, a fifth of a millisecond apart."""
    before = signal.getsignal(signal.SIGALRM)

    def begin(call: Callable[[], object]) -> None:
        def handler(*_: object) -> None:
            call()
            signal.setitimer(signal.ITIMER_REAL, 0.0002)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0002)

    yield begin
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("way", ["none", "cooperative"])
def test_a_signal_handler_calls_the_policy(
    alarm: Callable[[Callable[[], object]], None], way: str
) -> None:
    """A handler that calls the policy it interrupts never deadlocks; counts stay exact."""
    sync: Any = way
    inner = () if way == "none" else (timeout(60, sync=sync),)
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=1e-6)
    shop = policy(breaker, bulkhead(3, max_waiting=2, max_wait=5), *inner)
    guarded, failing = shop(body), shop(fails)
    tally, handled = Tally(), []

    def handler() -> None:
        handled.append(1)
        tally.call(guarded)

    alarm(handler)
    end = time.monotonic() + 0.7
    while time.monotonic() < end or len(handled) <= 50:
        tally.call(guarded)
        tally.call(failing)
    signal.signal(signal.SIGALRM, lambda *_: None)
    assert len(handled) > 50
    matches(shop, tally)


_SIGNAL_IN_POOL = """
import signal
from resilient import Policy, timeout
from resilient.engine.sync import workers
shop = Policy("shop", timeout(5, sync="thread"))
shop.call(int)
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(shop.try_call(int).error))

class Idle(list):
    def PLACE(self, *args):
        got = super().PLACE(*args)
        if not seen:
            seen.append(None)
            signal.raise_signal(signal.SIGUSR1)
        return got

workers.pool._idle = Idle(workers.pool._idle)
shop.call(int)
print("done", len(seen))
"""


def test_a_signal_handler_may_take_a_worker_while_one_is_taken() -> None:
    """A handler that runs while its thread takes a worker, and needs one too, never deadlocks."""
    code = _SIGNAL_IN_POOL.replace("PLACE", "pop")
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.fail("the handler's call deadlocks")
    assert done.stdout.split() == ["done", "2"], done.stderr


_ABANDONED = """
import threading, time
from resilient import CallTimeoutError, Policy, bulkhead, timeout
shop = Policy("shop", bulkhead(4), timeout(0.2, sync="thread"))
for body in (threading.Event().wait, lambda: time.sleep(3600)):
    try:
        shop.call(body)
    except CallTimeoutError:
        print("gave up")
def busy():
    while True: pass
try:
    shop.call(busy)
except CallTimeoutError:
    print("gave up")
"""


def test_the_interpreter_ends_though_workers_hang() -> None:
    """With abandoned workers, asleep and busy, the process ends at once, and only they are told."""
    done = subprocess.run(
        [sys.executable, "-c", _ABANDONED], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    # On a busy machine the time of a call may be up before its body began, which is a refusal.
    late = "shop: timeout refused: shop: no answer within 0.2 s"
    told = [line for line in done.stderr.splitlines() if line != late]
    assert told == ["shop: timeout abandoned: shop: no answer within 0.2 s"]
    assert done.stdout.split("\n")[:3] == ["gave up"] * 3


def test_a_thread_that_does_not_start_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system gives no more threads the call is refused, and nothing is held."""
    shop = policy(circuit_breaker(failure_threshold=1), bulkhead(2), timeout(60, sync="thread"))
    workers.pool.reset()

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        ran: list[int] = []
        for call in (shop(lambda: ran.append(1)), lambda: shop.call(ran.append, 1)):
            for _ in range(3):
                with pytest.raises(WorkersBusyError, match="can't start new thread"):
                    call()
                idle(shop)
        assert not ran
    assert shop.state == "closed"
    seen = shop.snapshot()
    assert seen["calls"]["refused"] == 6
    assert seen["timeouts"] == 0
    assert seen["refusals"]["timeout"] == 6
    assert shop.call(int, "1") == 1
    idle(shop)


def test_a_thread_that_does_not_start_gives_a_probe_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that got no thread is neutral, and the next one may run."""
    breaker = circuit_breaker(failure_threshold=1)
    shop = policy(fallback(value=7), breaker, bulkhead(1), timeout(60, sync="thread"))
    shop.force_open()
    shop.release()
    workers.pool.reset()

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert shop.call(int, "1") == 7
    assert shop.state == "half_open"
    assert part(shop, "circuit_breaker")["probes"] == 0
    assert shop.call(int, "1") == 1
    assert shop.state == "closed"
    until(lambda: shop.snapshot()["abandoned"] == 0)
    idle(shop)
