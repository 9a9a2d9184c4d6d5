"""What these tests share: threads that start at once, and calls that are held open by hand."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.from_thread

from resilient import Policy
from resilient.testing import ManualClock

WAIT = 60.0  # no test waits longer for anything
BACKENDS = ("asyncio", "trio")
COLOURS = ("threads", *BACKENDS)

_numbers = itertools.count(1)


def policy(*guards: Any, clock: ManualClock | None = None) -> Policy:
    """Return a policy with a name that no other test uses."""
    return Policy(f"test-{next(_numbers)}", *guards, clock=clock)


def part(of: Policy, kind: str) -> dict[str, Any]:
    """Return what the snapshot says of one guard."""
    return next(guard for guard in of.snapshot()["guards"] if guard["guard"] == kind)


def run(backend: str, fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Run an async function, for at most WAIT seconds."""

    async def bounded() -> Any:
        with anyio.fail_after(WAIT):
            return await fn(*args)

    return anyio.run(bounded, backend=backend)


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that no event tells of."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "the condition never came to hold"
        time.sleep(0.001)


def in_threads(number: int, fn: Callable[[int], Any]) -> list[Any]:
    """Call fn(0), fn(1), ... in threads that start at once; return values or exceptions."""
    barrier = threading.Barrier(number)
    ends: list[Any] = [None] * number

    def body(place: int) -> None:
        try:
            barrier.wait(WAIT)
            ends[place] = fn(place)
        except BaseException as error:
            ends[place] = error

    threads = [threading.Thread(target=body, args=(place,), daemon=True) for place in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * WAIT)
        assert not thread.is_alive(), "a thread hangs"
    return ends


def idle(of: Policy) -> None:
    """Assert that nothing is held: no call, no slot, no place in line, no probe, no worker."""
    seen = of.snapshot()
    held = {"in_flight": seen["in_flight"], "abandoned": seen["abandoned"]}
    for guard in seen["guards"]:
        for key in ("running", "used", "waiting", "probes", "workers", "abandoned"):
            if key in guard:
                held[f"{guard['guard']}.{key}"] = guard[key]
    assert not any(held.values()), held


def trip(of: Policy, error: type[Exception] = OSError) -> None:
    """Fail until the circuit is open."""

    def fails() -> None:
        raise error("down")

    for _ in range(100):
        if of.state == "open":
            return
        of.try_call(fails)
    raise AssertionError("it never opened")


class Held:
    """One call whose body runs until it is told how to end."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.end: Callable[[], Any] = lambda: None
        self.let_go: Callable[[], object]
        self.future: Future[Any] = Future()

    def succeed(self, value: Any = None) -> Any:
        """End the body well; return what the call gave."""
        self.end = lambda: value
        self.let_go()
        return self.future.result(WAIT)

    def fail(self, error: BaseException) -> BaseException:
        """End the body with an error; return what the call raised."""

        def end() -> None:
            raise error

        self.end = end
        self.let_go()
        raised = self.future.exception(WAIT)
        assert raised is not None, "the call hid the error"
        return raised


class World:
    """Makes calls of one colour."""

    def __init__(self, portal: anyio.from_thread.BlockingPortal | None) -> None:
        self.portal = portal

    def begin(self, of: Policy) -> Held:
        """Begin a call and return once its body runs."""
        held = Held()
        if self.portal is None:
            self._in_thread(of, held)
        else:
            self._in_task(of, held, self.portal)
        until(lambda: held.entered.is_set() or held.future.done())
        if not held.entered.is_set():
            held.future.result(0)
        return held

    def ok(self, of: Policy) -> Any:
        """Make a call that goes well."""
        return self.begin(of).succeed("fine")

    def fail(self, of: Policy, error: BaseException | None = None) -> BaseException:
        """Make a call that fails; return what it raised."""
        return self.begin(of).fail(error or OSError("down"))

    def _in_thread(self, of: Policy, held: Held) -> None:
        go = threading.Event()
        held.let_go = go.set

        def body() -> Any:
            held.entered.set()
            assert go.wait(WAIT)
            return held.end()

        def call() -> None:
            try:
                held.future.set_result(of.call(body))
            except BaseException as error:
                held.future.set_exception(error)

        threading.Thread(target=call, daemon=True).start()

    def _in_task(self, of: Policy, held: Held, portal: anyio.from_thread.BlockingPortal) -> None:
        async def call() -> Any:
            go = anyio.Event()
            held.let_go = lambda: portal.call(go.set)

            async def body() -> Any:
                held.entered.set()
                with anyio.fail_after(WAIT):
                    await go.wait()
                return held.end()

            return await of.acall(body)

        held.future = portal.start_task_soon(call)


@contextmanager
def world_of(colour: str) -> Iterator[World]:
    """Give a world of one colour, with a loop in a thread of its own where it needs one."""
    if colour == "threads":
        yield World(None)
        return
    with anyio.from_thread.start_blocking_portal(colour) as portal:
        yield World(portal)
