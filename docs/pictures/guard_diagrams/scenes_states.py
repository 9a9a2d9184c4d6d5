"""What a circuit breaker, a kill switch and a fallback do with calls that end in each way."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from guard_diagrams.virtual import Now, played
from resilient import Policy, circuit_breaker, fallback, flag, kill_switch, timeout
from resilient.testing import ManualClock, flag_off


def fails() -> None:
    """Fail."""
    raise ConnectionError("down")


def recoveries(rounds: int) -> list[float]:
    """Return how long a circuit stays open, time after time, while all probes fail."""
    clock = ManualClock(0)
    policy = Policy("drawn-breaker", circuit_breaker(), clock=clock)
    seconds: list[float] = []
    while policy.state == "closed":
        policy.try_call(fails)
    for _ in range(rounds):
        refusal: Any = policy.try_call(fails).error
        seconds.append(refusal.retry_after)
        clock.advance(refusal.retry_after)
        policy.try_call(fails)  # the probe
    return seconds


def switched() -> dict[str, tuple[str, str]]:
    """Return how calls are served while a flag is off, and their errors, by who answers."""
    recs = flag("drawn-recs", owner="docs", review="2999-01-01", impact="None: it is drawn.")
    stacks = {
        "answer": (kill_switch(recs, answer=lambda: "top 100"),),
        "fallback": (fallback(value="top 100"), kill_switch(recs)),
        "neither": (kill_switch(recs),),
    }
    policies = {
        word: Policy(f"drawn-switch-{word}", *guards, clock=ManualClock(0))
        for word, guards in stacks.items()
    }
    on = {policy.try_call(str).served for policy in policies.values()}
    if on != {"full"}:
        raise AssertionError(on)
    with flag_off(recs):
        ends = {word: policy.try_call(str) for word, policy in policies.items()}
    return {word: (end.served, type(end.error).__name__) for word, end in ends.items()}


def fallback_ends() -> dict[str, tuple[str, str]]:
    """Return how calls that end in each way are served behind a fallback, and their errors."""

    async def value() -> str:
        return "own"

    async def ignored() -> None:
        raise LookupError("unknown")

    async def failed() -> None:
        fails()

    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def hangs() -> None:
        await asyncio.sleep(60)

    async def scene(policy: Policy, now: Now) -> dict[str, tuple[str, str]]:
        seen: dict[str, tuple[str, str]] = {}
        bodies = {"value": value, "timeout": hangs, "error": failed, "ignored": ignored}
        for word, body in bodies.items():
            result = await policy.atry_call(body)
            seen[word] = result.served, type(result.error).__name__
        with suppress(asyncio.CancelledError):
            await policy.atry_call(cancelled)
            raise AssertionError("a cancelled call was answered")
        seen["cancelled"] = "error", asyncio.CancelledError.__name__
        policy.force_open(reason="to be drawn")
        result = await policy.atry_call(value)
        seen["refused"] = result.served, type(result.error).__name__
        return seen

    guards = fallback(value="other", ignore=LookupError), circuit_breaker(), timeout(1.0)
    seen: dict[str, tuple[str, str]] = played(scene, "drawn-fallback", *guards)
    broken = Policy("drawn-broken", fallback(lambda: {}["nothing"]), clock=ManualClock(0))
    result = broken.try_call(fails)
    seen["raises"] = result.served, type(result.error).__name__
    return seen
