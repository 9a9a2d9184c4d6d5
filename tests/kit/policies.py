"""Policies of a test's own, and what they have counted and hold."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from resilient import Policy
from resilient.testing import ManualClock
from tests.kit.waiting import until

_numbers = itertools.count(1)


def policy(*guards: Any, clock: ManualClock | None = None) -> Policy:
    """Return a policy with a name that no other test uses."""
    return Policy(f"test-{next(_numbers)}", *guards, clock=clock)


def policy_of(fn: Any) -> Policy:
    """Return the policy of a decorated function."""
    found: Policy = fn.__resilient__.policy
    return found


def part(of: Policy, kind: str) -> dict[str, Any]:
    """Return what the snapshot says of one guard."""
    return next(guard for guard in of.snapshot()["guards"] if guard["guard"] == kind)


def fails(*_: object) -> None:
    """Fail, as a dependency does that is down."""
    raise OSError("down")


def trip(of: Policy, error: type[Exception] = OSError) -> None:
    """Fail until the circuit is open."""

    def fail() -> None:
        raise error("down")

    for _ in range(100):
        if of.state == "open":
            return
        of.try_call(fail)
    raise AssertionError("it never opened")


# -- counted ---------------------------------------------


def counts(of: Policy) -> dict[str, int]:
    """Return the outcomes that are not zero."""
    return {word: number for word, number in of.snapshot()["calls"].items() if number}


def booked(of: Policy) -> tuple[dict[str, int], dict[str, int]]:
    """Return the outcomes and what was served, those that are not zero."""
    served = of.snapshot()["served"]
    return counts(of), {word: number for word, number in served.items() if number}


# -- held ---------------------------------------------


def idle(of: Policy) -> None:
    """Assert that nothing is held: no call, no slot, no place in line, no probe, no worker."""
    seen = of.snapshot()
    held = {"in_flight": seen["in_flight"], "abandoned": seen["abandoned"]}
    for guard in seen["guards"]:
        for key in ("running", "used", "waiting", "probes", "workers", "abandoned"):
            if key in guard:
                held[f"{guard['guard']}.{key}"] = guard[key]
    assert not any(held.values()), held


def comes_to_idle(of: Policy) -> None:
    """Wait for workers that callers have left, and assert that nothing is held then."""
    until(lambda: of.snapshot()["abandoned"] == 0)  # a worker that was left ends by itself
    idle(of)


# -- raised ---------------------------------------------


def raised(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> BaseException:
    """Return what a call raises."""
    try:
        value = fn(*args, **kwargs)
    except BaseException as error:
        return error
    raise AssertionError(f"nothing was raised; it gave {value!r}")


async def error_of(awaitable: Awaitable[Any]) -> BaseException:
    """Return what an await raises."""
    try:
        value = await awaitable
    except BaseException as error:
        return error
    raise AssertionError(f"nothing was raised; it gave {value!r}")
