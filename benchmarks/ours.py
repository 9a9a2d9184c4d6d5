"""Our sides: each makes its policy, proves that the guards in it act, and is then timed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal

from prometheus_client import REGISTRY  # from here the metrics are on

from resilient import (
    CircuitOpenError,
    Policy,
    bulkhead,
    check,
    circuit_breaker,
    fallback,
    remaining,
    timeout,
)

from .model import Side, require

Sync = Literal["thread", "cooperative"]

LONG = 3600.0  # an open circuit stays so for the whole run


def bare(x: int) -> int:
    """Do nothing: what is guarded."""
    return x


async def abare(x: int) -> int:
    """Do nothing, as a coroutine."""
    return x


def lesser(x: int) -> int:
    """Answer in place of what is guarded."""
    return -x


def failing(x: int) -> int:
    """Fail like a dependency that is down."""
    raise ConnectionError(x)


async def afailing(x: int) -> int:
    """Fail, as a coroutine."""
    raise ConnectionError(x)


def closure(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the least that any decorator costs."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call


def whole(name: str, sync: Sync | None = None, seconds: float = 1.0, slots: int = 20) -> Policy:
    """Return the policy of all four guards."""
    return Policy(
        name,
        fallback(lesser),
        circuit_breaker(recovery_timeout=LONG),
        bulkhead(slots),
        timeout(seconds, sync=sync),
    )


def counted(policy: Policy, outcome: str = "success") -> Callable[[int], None]:
    """Return what makes sure, at the end, that every single call was counted as it should be."""

    def ended(calls: int) -> None:
        found = policy.snapshot()
        number = found["calls"][outcome]
        labels = {"policy": policy.name, "outcome": outcome}
        shown = REGISTRY.get_sample_value("resilient_calls_total", labels)
        require(shown == number, f"{policy.name}: the metrics show {shown} calls, not {number}")
        require(number == calls, f"{policy.name}: {number} of {calls} calls counted as {outcome}")
        require(found["in_flight"] == 0, f"{policy.name}: calls in flight at the end")

    return ended


def opens(policy: Policy, guarded: Callable[[int], Any]) -> None:
    """Fail until the circuit is open; make sure that it then is."""
    for _ in range(5):
        require(policy.state == "closed", f"{policy.name} opened early")
        try:
            guarded(1)
        except ConnectionError:
            pass
    require(policy.state == "open", f"{policy.name} is {policy.state} after 5 failures")


def _calls(inner: Callable[[int], Any]) -> Callable[[int], Any]:
    def outer(x: int) -> Any:
        return inner(x)

    return outer


# -- the checks: of policies made like those that are timed ----------------------------


def check_guards(sync: Sync) -> None:
    """Make sure that each guard of a whole sync policy acts."""
    opens(policy := whole(f"check.{sync}.breaker", sync), policy(failing))

    policy = whole(f"check.{sync}.bulkhead", sync, slots=1)
    inner = policy(bare)
    require(policy(_calls(inner))(1) == -1, "the bulkhead let two in")
    require(policy.snapshot()["refusals"]["bulkhead"] == 1, "the bulkhead refused nobody")

    def overlong(x: int) -> int:
        require(0 < (remaining() or 0) <= 0.03, "the body does not see its time limit")
        time.sleep(0.1)
        if sync == "cooperative":
            check()
        return x

    policy = whole(f"check.{sync}.timeout", sync, seconds=0.03)
    began = time.monotonic()
    require(policy(overlong)(1) == -1, "the timeout did not act")
    require(policy.snapshot()["timeouts"] == 1, "the timeout was not counted")
    if sync == "thread":
        require(time.monotonic() - began < 0.09, "the timeout did not let its caller go")


async def acheck_guards(sleep: Callable[[float], Any], name: str) -> None:
    """Make sure that each guard of a whole async policy acts."""
    policy = whole(f"check.{name}.breaker")
    guarded = policy(afailing)
    for _ in range(5):
        await guarded(1)
    require(policy.state == "open", "the circuit did not open")

    policy = whole(f"check.{name}.bulkhead", slots=1)
    inner = policy(abare)

    async def nested(x: int) -> int:
        return await inner(x)

    require(await policy(nested)(1) == -1, "the bulkhead let two in")

    async def overlong(x: int) -> int:
        await sleep(10)
        return x

    policy = whole(f"check.{name}.timeout", seconds=0.03)
    began = time.monotonic()
    require(await policy(overlong)(1) == -1, "the timeout did not act")
    require(time.monotonic() - began < 5, "the timeout did not cut the body off")
    require(policy.snapshot()["timeouts"] == 1, "the timeout was not counted")


# -- the sides -------------------------------------------------------------------------


def breaker() -> Side:
    """Return a breaker alone, as a bare decorator has it."""
    tried = Policy("check.breaker", circuit_breaker(recovery_timeout=LONG))
    opens(tried, tried(failing))
    policy = Policy("breaker", circuit_breaker(recovery_timeout=LONG))
    return Side(policy(bare), ended=counted(policy))


def slots_alone() -> Side:
    """Return a bulkhead alone."""
    policy = Policy("bulkhead", bulkhead(20))
    return Side(policy(bare), ended=counted(policy))


def cooperative() -> Side:
    """Return the whole policy with a cooperative timeout."""
    check_guards("cooperative")
    policy = whole("whole.cooperative", "cooperative")
    return Side(policy(bare), ended=counted(policy))


def items(x: int) -> Iterator[int]:
    yield x


async def aitems(x: int) -> AsyncIterator[int]:
    yield x


def block() -> Side:
    """Return the whole policy round a block."""
    policy = whole("whole.block", "cooperative")

    def call(x: int) -> int:
        with policy.block():
            return x

    return Side(call, ended=counted(policy))


def stream() -> Side:
    """Return the whole policy round a stream of one item."""
    policy = whole("whole.stream", "cooperative")
    guarded = policy(items)

    def call(x: int) -> int:
        (item,) = guarded(x)
        return item

    return Side(call, ended=counted(policy))


async def ablock() -> Side:
    """Return the whole policy round an async block."""
    policy = whole("whole.ablock")

    async def call(x: int) -> int:
        async with policy.block():
            return x

    return Side(call, ended=counted(policy))


async def astream() -> Side:
    """Return the whole policy round an async stream of one item."""
    policy = whole("whole.astream")
    guarded = policy(aitems)

    async def call(x: int) -> int:
        (item,) = [item async for item in guarded(x)]
        return item

    return Side(call, ended=counted(policy))


def threaded() -> Side:
    """Return the whole policy with a timeout that is kept by a worker thread."""
    check_guards("thread")
    policy = whole("whole.thread", "thread")
    ident = policy(lambda _: threading.get_ident())
    require(ident(1) != threading.get_ident(), "the body does not run on a worker")
    ended = counted(policy)
    return Side(policy(bare), waits=True, ended=lambda calls: ended(calls + 1))


def answered() -> Side:
    """Return an open circuit whose fallback answers."""
    policy = Policy("open", fallback(lesser), circuit_breaker(recovery_timeout=LONG))
    return _open(policy)


def whole_answered() -> Side:
    """Return the whole policy, open."""
    return _open(whole("open.whole", "cooperative"))


def _open(policy: Policy) -> Side:
    opens(policy, policy(failing))
    ended = counted(policy, "refused")

    def still_open(calls: int) -> None:
        ended(calls)
        require(policy.state == "open", f"{policy.name} did not stay open")

    return Side(policy(bare), answer=-1, ended=still_open)


def refused() -> Side:
    """Return an open circuit whose refusal is caught by the caller."""
    policy = Policy("open.raises", circuit_breaker(recovery_timeout=LONG))
    opens(policy, policy(failing))
    guarded = policy(bare)

    def call(x: int) -> int:
        try:
            return guarded(x)
        except CircuitOpenError:
            return -x

    return Side(call, answer=-1, ended=counted(policy, "refused"))


async def abreaker() -> Side:
    """Return a breaker alone, on asyncio."""
    policy = Policy("abreaker", circuit_breaker(recovery_timeout=LONG))
    return Side(policy(abare), ended=counted(policy))


async def awhole() -> Side:
    """Return the whole policy, with a real timeout, on asyncio."""
    await acheck_guards(asyncio.sleep, "asyncio")
    policy = whole("whole.asyncio")
    return Side(policy(abare), ended=counted(policy))


async def trio_whole() -> Side:
    """Return the whole policy, with a real timeout, on trio."""
    import trio

    await acheck_guards(trio.sleep, "trio")
    policy = whole("whole.trio")
    return Side(policy(abare), ended=counted(policy))


async def aanswered() -> Side:
    """Return the whole policy, open, on asyncio."""
    policy = whole("open.asyncio")
    guarded = policy(afailing)
    for _ in range(5):
        await guarded(1)
    require(policy.state == "open", "the circuit did not open")
    return Side(policy(abare), answer=-1, ended=counted(policy, "refused"))
