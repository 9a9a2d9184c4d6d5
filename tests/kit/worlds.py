"""Calls in threads and in tasks of each loop, which a test holds open by hand."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.from_thread
import pytest

from resilient import Policy
from tests.kit.waiting import WAIT, until

BACKENDS = ("asyncio", "trio")
WORLDS = ("threads", *BACKENDS)


def run(backend: str, fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Run an async function, for at most WAIT seconds."""

    async def bounded() -> Any:
        with anyio.fail_after(WAIT):
            return await fn(*args)

    return anyio.run(bounded, backend=backend)


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
    """Makes calls in threads, or in tasks of one loop."""

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
def world_of(name: str) -> Iterator[World]:
    """Give a world by its name, with a loop in a thread of its own where it needs one."""
    if name == "threads":
        yield World(None)
        return
    with anyio.from_thread.start_blocking_portal(name) as portal:
        yield World(portal)


plain_loop = pytest.mark.skipif(
    os.environ.get("TEST_LOOP") == "uvloop", reason="uvloop shows its timers to nobody"
)
