"""The same scenes with our retry, and what else the page says of ours."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from importlib.resources import files
from inspect import signature

from resilient import bulkhead, circuit_breaker, fallback, flag, flags, kill_switch, retry
from resilient.testing import ManualClock
from tests.integration.peers import scenes_async as scenes
from tests.integration.peers import scenes_sync
from tests.integration.peers.claims_ours import breaker, of
from tests.integration.peers.kit import OURS, Seen, check


def parsed(text: str) -> int:
    return int(text)


@check(OURS)
def resilient_retry_budget() -> Seen:
    """The budget is on: 10 more attempts at first, then a tenth of the calls."""
    guard = of(retry(on=ConnectionError, attempts=3, wait_initial=0))
    got = scenes_sync.attempts(guard)
    return Seen(f"100 calls that fail: {got} attempts", got <= 121)


@check(OURS)
def resilient_retry_after() -> Seen:
    """Retry-After of a known library is read without a word of code."""
    import httpx

    answer = httpx.Response(429, headers={"Retry-After": "1"}, request=httpx.Request("GET", "/"))
    made = 0

    @of(retry(on=httpx.HTTPStatusError, attempts=2, wait_initial=0))
    def ask() -> str:
        nonlocal made
        made += 1
        if made == 1:
            raise httpx.HTTPStatusError("429", request=answer.request, response=answer)
        return "answer"

    began = time.monotonic()
    ask()
    took = time.monotonic() - began
    return Seen(f"Retry-After: 1, asked again after {took:.2f} s", 0.7 <= took < 2)


@check(OURS)
def resilient_fallback() -> Seen:
    """A fallback answers failures and refusals."""
    guard = of(fallback(value=-1), circuit_breaker(failure_threshold=1), clock=ManualClock())
    got = [guard(parsed)(text) for text in ("not a number", "2")]
    return Seen(f"a failure and a refusal: {got}", got == [-1, -1])


@check(OURS)
def resilient_flag() -> Seen:
    """A flag that is turned off answers otherwise, at once."""
    switch = flag("claim-flag", owner="claims", impact="A claim is answered otherwise.")
    call = kill_switch(switch, answer=lambda text: -1)(parsed)
    got = [call("1")]
    flags.off(switch, reason="a check")
    got.append(call("1"))
    flags.on(switch, reason="a check")
    got.append(call("1"))
    return Seen(f"on, off, on: {got}", got == [1, -1, 1])


@check(OURS)
def resilient_metrics_on() -> Seen:
    """Every policy is in Prometheus' answer, without set-up."""
    from prometheus_client import generate_latest

    guard = of(bulkhead(1))
    guard.call(int, "1")
    there = f'resilient_calls_total{{outcome="success",policy="{guard.name}"' in (
        generate_latest().decode()
    )
    return Seen(f"resilient_calls_total of it: {there}", there)


@check(OURS)
def resilient_options_live() -> Seen:
    """Options are changed while it is in use, and its state is kept."""
    guard = breaker(ManualClock(), failure_threshold=5)
    guard.try_call(int, "not a number")
    guard.update(circuit_breaker={"failure_threshold": 2})
    guard.try_call(int, "not a number")
    return Seen(f"5 failures allowed, then 2, after 2: {guard.state}", guard.state == "open")


@check(OURS)
def resilient_typed() -> Seen:
    """It ships types, and a decorated function is a function of the same signature."""

    @of(bulkhead(1))
    def price(sku: str, *, shop: int = 1) -> float:
        return float(shop)

    there = files("resilient").joinpath("py.typed").is_file()
    shape = str(signature(price))
    return Seen(f"py.typed: {there}; {shape}", there and "sku" in shape and "float" in shape)


@check(OURS)
def resilient_last_error_as_it_is() -> Seen:
    """The last error is raised as it is."""
    try:
        of(retry(on=ValueError, attempts=2, wait_initial=0))(parsed)("not a number")
    except Exception as error:
        name = type(error).__name__
        return Seen(f"a ValueError comes as {name}", name == "ValueError")
    return Seen("no error", False)


@check(OURS)
def resilient_on_is_required() -> Seen:
    """What is asked again after has to be said."""
    try:
        retry()
    except TypeError as error:
        return Seen(str(error)[:60], "on" in str(error))
    return Seen("made", False)


@check(OURS)
def resilient_cancelled_not_asked_again() -> Seen:
    """A cancelled task is not asked again, whatever `on` says."""
    made = scenes.cancelled_attempts(of(retry(on=lambda error: True, attempts=3, wait_initial=0)))
    return Seen(f"cancelled once, {made} attempt", made == 1)


@check(OURS)
def resilient_stream_once() -> Seen:
    """A generator that fails in its middle does not begin again."""

    @of(retry(on=ConnectionError, attempts=2, wait_initial=0))
    def items() -> Iterator[int]:
        yield 1
        raise ConnectionError("lost in the middle")

    got: list[int] = []
    with contextlib.suppress(ConnectionError):
        for each in items():
            got += [each]
    return Seen(f"items 1, then an error come as {got}", got == [1])
