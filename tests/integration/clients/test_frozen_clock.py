"""Under a frozen clock, as tests have it, every limit keeps to the real one."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import anyio
import freezegun
import pytest
import time_machine

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    Policy,
    bulkhead,
    circuit_breaker,
    remaining,
    timeout,
)
from resilient.clock import real
from resilient.integrations.wsgi import Middleware
from tests.kit.waiting import until

Freeze = Callable[[], AbstractContextManager[Any]]

FREEZES: dict[str, Freeze] = {
    "freezegun": lambda: freezegun.freeze_time("2026-01-01"),
    "freezegun ticking": lambda: freezegun.freeze_time("2026-01-01", tick=True),
    "freezegun real asyncio": lambda: freezegun.freeze_time("2026-01-01", real_asyncio=True),
    "time-machine": lambda: time_machine.travel("2026-01-01", tick=False),
}
_numbers = itertools.count(1)
frozen = pytest.mark.parametrize("freeze", FREEZES.values(), ids=FREEZES)
backend = pytest.mark.parametrize("backend", ["asyncio", "trio"])


async def never() -> None:
    await anyio.Event().wait()


def test_freezegun_does_stop_the_clock_of_the_process() -> None:
    with freezegun.freeze_time("2026-01-01"):
        assert time.monotonic() == time.monotonic()
        assert real.is_frozen()
    assert not real.is_frozen()


@frozen
@backend
@pytest.mark.parametrize("made", ["before", "within"])
def test_an_async_call_that_hangs_ends(freeze: Freeze, backend: str, made: str) -> None:
    def new() -> Policy:
        return Policy(f"frozen-{next(_numbers)}", timeout(0.1))

    before = new()

    async def main() -> None:
        with freeze():
            policy = before if made == "before" else new()
            hangs = policy(never)
            for _ in range(2):  # the second finds the timer of the first
                with pytest.raises(CallTimeoutError):
                    await hangs()
            with pytest.raises(CallTimeoutError):  # a limit within another
                await timeout(5.0)(hangs)()
            assert await policy(quick)() == 1

    anyio.run(main, backend=backend)


async def quick() -> int:
    return 1


@frozen
def test_a_timer_of_before_does_not_ring_early(freeze: Freeze) -> None:
    async def main() -> None:
        async def body() -> str:
            with freeze():
                for _ in range(100):
                    await anyio.lowlevel.checkpoint()
                return "done"

        assert await timeout(20.0)(body)() == "done"
        # One that is partly used up has a timer of its own.
        assert await timeout(30.0)(timeout(40.0)(body))() == "done"

    asyncio.run(main())


@frozen
def test_a_sync_call_that_hangs_ends(freeze: Freeze) -> None:
    over = threading.Event()
    with freeze():
        with pytest.raises(CallTimeoutError):
            timeout(0.1, sync="thread")(lambda: over.wait(20))()
        over.set()

        @timeout(0.1, sync="cooperative")
        def counts_down() -> None:
            until(lambda: remaining() == 0.0)

        counts_down()


@frozen
def test_a_wait_in_line_ends(freeze: Freeze) -> None:
    with freeze():
        policy = Policy(f"frozen-line-{next(_numbers)}", bulkhead(1, max_waiting=1, max_wait=0.1))

        async def main() -> None:
            async with policy.block():
                with pytest.raises(BulkheadFullError):
                    await policy.acall(quick)

        with policy.block(), pytest.raises(BulkheadFullError):
            policy.call(int)
        asyncio.run(main())


@frozen
def test_an_open_circuit_recovers(freeze: Freeze) -> None:
    with freeze():
        policy = Policy(
            f"frozen-circuit-{next(_numbers)}",
            circuit_breaker(failure_threshold=1, recovery_timeout=0.1),
        )
        with pytest.raises(ValueError, match="invalid"):
            policy.call(int, "x")
        with pytest.raises(CircuitOpenError) as raised:
            policy.call(int, "1")
        assert 0 < (raised.value.retry_after or 0) <= 0.2
        until_real(lambda: policy.try_call(int, "1").error is None)
        assert policy.state == "closed"


def until_real(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come to pass")


@frozen
def test_a_request_under_a_deadline_runs_out_of_time(freeze: Freeze) -> None:
    seen: list[float] = []

    def app(environ: Any, start: Any) -> list[bytes]:
        until_real(lambda: remaining() == 0.0)
        seen.append(remaining() or 0.0)
        return []

    with freeze():
        list(Middleware(app, at_most=0.1)({"REQUEST_METHOD": "GET"}, lambda *_: None))
    assert seen == [0.0]


def test_it_is_imported_while_the_clock_is_frozen() -> None:
    code = """
import freezegun
with freezegun.freeze_time("2026-01-01"):
    from resilient.clock import real
    assert real.now() < 1e9 and real.is_frozen()
assert not real.is_frozen()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
