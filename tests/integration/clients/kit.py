"""What the tests of the integrations share: policies, concurrent load, the life story, its checks.

A life story: callers call without a pause while the server is healthy, is frozen, goes on, is
killed, and comes back on the same port. No call may take longer than the limit of its policy, a slack,
and what the machine was late meanwhile; the circuit has to open and close again by itself both times, and nothing may be left over.
"""

from __future__ import annotations

import gc
import itertools
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import anyio

import resilient
from resilient import Policy, bulkhead, circuit_breaker, timeout
from resilient.engine.sync.workers import pool
from tests.kit.lateness import Lateness
from tests.kit.waiting import WAIT, until

LIMIT = 1.0  # seconds, of every policy here that says no other
CALLERS = 8
SLOTS = 16  # of the bulkhead: what is abandoned keeps one until it ends
MODES = ["cooperative", "thread"]

_numbers = itertools.count(1)


def make_policy(
    mode: str | None = None,
    *,
    limit: float = LIMIT,
    slots: int = SLOTS,
    failures: int = 4,
    recovery: float = 0.2,
    name: str = "dependency",
) -> Policy:
    """Return a policy with no fallback, so that the tests see every error.

    With failures=100 it stays closed, whatever the few calls of a test come to.
    """
    return Policy(
        f"{name}-{next(_numbers)}",
        circuit_breaker(failure_threshold=failures, minimum_calls=max(10, 10 * (failures // 10)),
                        window=1.0, recovery_timeout=recovery),
        bulkhead(slots),
        timeout(limit, sync=mode),
    )  # fmt: skip


def plain(error: Any) -> type:
    """Return the class of ours that an error is of, whatever library it is of besides."""
    return getattr(type(error), "_resilient_plain", type(error))


# -- outcomes ---------------------------------------------


class Counters(dict[str, int]):
    """How many attempts ended how, within a block; filled in at its end."""


@contextmanager
def counted(policy: Policy) -> Iterator[Counters]:
    """Count the outcomes of a block, without those that there were none of."""
    before, found = policy.snapshot()["calls"], Counters()
    yield found
    after = policy.snapshot()["calls"]
    found.update({word: n - before[word] for word, n in after.items() if n != before[word]})


def outcome(policy: Policy, call: Callable[[], Any]) -> tuple[dict[str, int], Any]:
    """Return how the attempts of a call were counted, and its result or exception."""
    with counted(policy) as found:
        try:
            result = call()
        except Exception as error:
            result = error
    return found, result


async def async_outcome(policy: Policy, call: Callable[[], Any]) -> tuple[dict[str, int], Any]:
    """Do the same with a function that returns an awaitable."""
    with counted(policy) as found:
        try:
            result = await call()
        except Exception as error:
            result = error
    return found, result


def transitions(policy: Policy) -> dict[str, int]:
    """Return how often the circuit came by itself to which state."""
    found = policy.snapshot()["guards"][0]["transitions"]
    return {name.partition("/")[0]: n for name, n in found.items() if name.endswith("/auto")}


# -- what may be left over ---------------------------------------------


def sockets() -> set[str]:
    """Return the sockets that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def busy_workers() -> int:
    """Return how many workers of the policies are at a body now."""
    alive = [each for each in threading.enumerate() if each.name.startswith("resilient-worker-")]
    return len(alive) - len(pool._idle)


class Left:
    """The threads and sockets of this process, and what a server says of its connections."""

    def __init__(self, connections: Callable[[], int] | None = None) -> None:
        gc.collect()
        self._connections = connections
        self.threads = set(threading.enumerate())
        self.sockets = sockets()
        self.served = 0 if connections is None else connections()

    def over(self) -> list[object]:
        """Return what there is more than there was."""
        found: list[object] = [*set(threading.enumerate()) - self.threads]
        found += sockets() - self.sockets
        if self._connections is not None and (now := self._connections()) > self.served:
            found.append(f"{now - self.served} connections at the server")
        return found

    def check(self, *, collect: bool = False) -> None:
        """Wait until nothing is left over; collect where the bare library leaves cycles as well."""

        def none() -> bool:
            if collect:
                gc.collect()
            return not self.over()

        until(none, lambda: f"left over: {self.over()}\n{stacks(self.threads)}")


def stacks(known: set[threading.Thread]) -> str:
    """Return where the threads are that were not there before."""
    import traceback

    frames = sys._current_frames()
    return "\n".join(
        f"{each.name}:\n{''.join(traceback.format_stack(frames[each.ident])[-8:])}"
        for each in set(threading.enumerate()) - known
        if each.ident in frames
    )


def check_at_rest(policy: Policy, *, seconds: float = WAIT) -> None:
    """Wait until the policy has no call in flight, no abandoned one, and all slots back."""

    def said() -> dict[str, Any]:
        snapshot = policy.snapshot()
        slots = [each for each in snapshot["guards"] if each["guard"] == "bulkhead"]
        return {
            "in_flight": snapshot["in_flight"],
            "abandoned": snapshot["abandoned"],
            "used": sum(each["used"] for each in slots),
            "waiting": sum(each["waiting"] for each in slots),
        }

    until(lambda: not any(said().values()), lambda: f"not at rest: {said()}", seconds=seconds)


# -- load ---------------------------------------------


class Seen(NamedTuple):
    """One call, as its caller has seen it."""

    at: float
    took: float
    error: type[BaseException] | None  # not the exception, whose traceback would hold the client
    said: str

    @property
    def kind(self) -> str:
        return "good" if self.error is None else self.error.__name__


class Load:
    """Callers that call again and again, in threads, while the block runs."""

    def __init__(self, call: Callable[[], Any], callers: int = CALLERS) -> None:
        self.seen: list[Seen] = []
        self.callers = callers
        self._call = call
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._broken: list[BaseException] = []

    def __enter__(self) -> Load:
        self._threads = self._make()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * WAIT)
        stuck = [thread for thread in self._threads if thread.is_alive()]
        assert not stuck, f"{len(stuck)} callers never came back"
        if self._broken:
            raise self._broken[0]

    def _make(self) -> list[threading.Thread]:
        return [threading.Thread(target=self._one, daemon=True) for _ in range(self.callers)]

    def _one(self) -> None:
        while not self._stop.is_set():
            began, error = time.monotonic(), None
            try:
                self._call()
            except BaseException as raised:
                error = raised
            self._saw(began, error)
            error = None
            time.sleep(0.01)

    def _saw(self, began: float, error: BaseException | None) -> None:
        took = time.monotonic() - began
        self.seen.append(Seen(began, took, None if error is None else type(error), repr(error)))

    def good(self, since: float) -> int:
        """Return how many calls that began after a moment went well."""
        return sum(1 for each in self.seen[:] if each.at >= since and each.error is None)

    def kinds(self, since: float = 0.0, to: float = float("inf")) -> Counter[str]:
        """Return how many calls that began between two moments ended how."""
        return Counter(each.kind for each in self.seen[:] if since <= each.at < to)


class AsyncLoad(Load):
    """The same in tasks of one event loop, which has a thread of its own.

    Args:
        make: returns an async context manager of the function that a caller awaits.
        backend: "asyncio" or "trio".
        callers: how many.
    """

    def __init__(
        self, make: Callable[[], Any], backend: str = "asyncio", callers: int = CALLERS
    ) -> None:
        super().__init__(make, callers)
        self._backend = backend

    def _make(self) -> list[threading.Thread]:
        return [threading.Thread(target=self._loop, daemon=True)]

    def _loop(self) -> None:
        try:
            anyio.run(self._main, backend=self._backend)
        except BaseException as error:
            self._broken.append(error)

    async def _main(self) -> None:
        async with self._call() as call, anyio.create_task_group() as group:
            for _ in range(self.callers):
                group.start_soon(self._task, call)

    async def _task(self, call: Callable[[], Any]) -> None:
        while not self._stop.is_set():
            began, error = time.monotonic(), None
            try:
                await call()
            except Exception as raised:
                error = raised
            self._saw(began, error)
            error = None
            await anyio.sleep(0.01)


# -- the life story ---------------------------------------------


def life_story(
    server: Any,
    policy: Policy,
    load: Load,
    *,
    slack: float,
    allowed: tuple[type[BaseException], ...],
    limit: float = LIMIT,
    freeze: float = 0.6,
) -> None:
    """Live through all that can happen to a server, and check what its callers have seen.

    allowed are the library's own errors that a caller may see, besides refusals and timeouts.
    """
    with Lateness() as lateness, load:
        _flows(policy, load)
        healthy = load.kinds()
        assert set(healthy) == {"good"}, healthy

        frozen = time.monotonic()
        server.stop()
        until(lambda: policy.state == "open", lambda: f"it never opened: {load.kinds(frozen)}")
        opened = time.monotonic()
        time.sleep(freeze)
        thawed = time.monotonic()
        while_frozen = load.kinds(opened, thawed)
        assert not load.good(opened), while_frozen
        assert while_frozen["CircuitOpenError"], while_frozen
        server.cont()
        _flows(policy, load)

        server.kill()
        until(lambda: policy.state == "open", lambda: f"it never opened: {load.kinds(thawed)}")
        server.start()
        back = _flows(policy, load)
        time.sleep(0.2)
        last = load.kinds(back)
    assert set(last) == {"good"}, last
    slowest = max(load.seen, key=lambda each: each.took)
    assert slowest.took <= limit + slack + lateness.allowance, (slowest, lateness.allowance)
    expected = (resilient.RefusedError, resilient.CallTimeoutError, *allowed)
    strange = {each.said for each in load.seen
               if each.error is not None and not issubclass(each.error, expected)}  # fmt: skip
    assert not strange, strange
    found = load.kinds()
    assert found["CallTimeoutError"], found
    assert not found["WorkersBusyError"], found
    assert transitions(policy)["open"] >= 2
    check_at_rest(policy)
    print(f"{policy.name}: slowest {slowest.took - limit:+.3f} over its limit; {dict(found)}")


def _flows(policy: Policy, load: Load) -> float:
    """Wait until the circuit is closed and every caller has been served; return since when."""
    began = time.monotonic()
    until(lambda: policy.state == "closed", lambda: f"it never closed: {load.kinds(began)}",
          seconds=2 * WAIT)  # fmt: skip
    closed = time.monotonic()
    until(lambda: load.good(closed) >= 2 * load.callers,
          lambda: f"not served: {load.kinds(closed)}")  # fmt: skip
    return closed


class Interrupted(BaseException):
    """What `interrupted` raises in the caller."""


def interrupted(call: Callable[[], Any], after: float = 0.2) -> None:
    """Make a call whose caller is interrupted, as by Ctrl-C, long before its deadline."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    usual = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        call()
    except Interrupted:
        return
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
    raise AssertionError("it was not interrupted")


@contextmanager
def timed(most: float, least: float = 0.0) -> Iterator[None]:
    """Check how long a block takes, beside what the machine is late meanwhile."""
    with Lateness() as lateness:
        began = time.monotonic()
        yield
        took = time.monotonic() - began
    assert least <= took <= most + lateness.allowance, (took, lateness.allowance)


def check_released(policy: Policy, left: Left | None = None) -> None:
    """Check that every abandoned worker ends soon; until then each is counted, and holds a slot."""
    seen = []
    end = time.monotonic() + WAIT
    while True:
        before, snapshot, after = busy_workers(), policy.snapshot(), busy_workers()
        seen.append((before, snapshot["abandoned"], after))
        if before == after:  # else one has just ended
            assert snapshot["abandoned"] <= before + 1, seen
        if not snapshot["abandoned"]:
            break
        assert time.monotonic() < end, f"workers never ended: {seen[-1]}"
        time.sleep(0.005)
    check_at_rest(policy)
