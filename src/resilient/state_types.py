"""The types that hold what the fast path reads and writes, for guards, counters and deadlines.

They are compiled (``engine/core/state.h``) or, without the compiled core, these classes: the same
names, so that all other code has one algorithm for both. A field is unset until it is assigned.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast


class CountersState:
    """A policy's counters, gate and clock: see `resilient.engine.counters` and `section`."""

    __slots__ = (
        "counting_since", "counts", "degraded", "duration_sum", "gate", "in_flight", "layout",
        "now", "outbox", "peak", "peak_until", "quick", "refusals", "refused_at", "shared_row",
    )  # fmt: skip
    counting_since: float
    counts: list[int]
    degraded: int
    duration_sum: float
    gate: int
    in_flight: int
    layout: Any
    now: Callable[[], float]
    outbox: Any
    peak: int
    peak_until: float
    quick: int
    refusals: dict[str, int]
    refused_at: dict[str, float]
    shared_row: memoryview[float] | None


class WindowState:
    """A sliding window over results: see `resilient.guards.window`."""

    __slots__ = ("end", "failures", "newest", "older")
    end: float  # of the newest slice
    failures: int
    newest: int  # calls in the newest slice
    older: int  # calls in the other slices


class HealthState:
    """The evidence of a circuit breaker."""

    __slots__ = ("consecutive", "failure_rate", "minimum_calls", "window")
    consecutive: int
    failure_rate: float | None
    minimum_calls: int
    window: Any


class BreakerState:
    """A circuit breaker."""

    __slots__ = ("_refuses_until", "_simple", "health", "serial")
    _refuses_until: float  # before this it refuses every call
    _simple: int  # the epoch while the fast checks suffice, else `moves.NEVER`
    health: Any
    serial: int  # the newest ticket


class BulkheadState:
    """A bulkhead."""

    __slots__ = ("abandoned", "max_concurrent", "queue", "running")
    abandoned: int
    max_concurrent: int
    queue: Any
    running: int


class WaitQueueState:
    """The callers who wait for a slot, and those that were granted one."""

    __slots__ = ("_granted", "_line")
    _granted: Any
    _line: Any


class BudgetState:
    """A policy's budget of extra attempts."""

    __slots__ = ("calls",)
    calls: int


class RetryState:
    """A retry."""

    __slots__ = ("budget", "hold", "typical")
    budget: Any
    hold: bool
    typical: float


class PaceState:
    """When calls may begin: see `resilient.guards.rate_limit.pace`."""

    __slots__ = ("ahead", "before", "last", "max_calls", "parts", "step")
    ahead: int
    before: int
    last: int
    max_calls: int
    parts: int
    step: int


class RateLimitState:
    """A rate limit."""

    __slots__ = ("line", "max_wait", "pace")
    line: Any
    max_wait: float
    pace: Any


class TimeoutState:
    """A timeout."""

    __slots__ = ("seconds",)
    seconds: float


class DeadlineState:
    """One call's time limit: see `resilient.deadline`."""

    __slots__ = ("cuts", "open", "outer", "terms", "when")
    cuts: Any
    open: bool
    outer: Any
    terms: Any
    when: float
    task: Any = None


class TaskDeadlineState(DeadlineState):
    """One that cancels a task."""

    __slots__ = ("cancelling", "fired", "task")
    cancelling: int
    fired: bool
    task: Any  # an asyncio task; None once the call has ended


class TimeoutQueueState:
    """The calls of one event loop with one time limit: see `resilient.engine.aio.timers`."""

    __slots__ = ("entries", "handle", "loop")
    entries: dict[Any, None]
    handle: Any
    loop: Any


_NO = ("", "0", "false", "no", "off")


def _chosen() -> tuple[Any, str]:
    """Return the compiled core, or None, and why the twin in Python does its work."""
    if os.environ.get("RESILIENT_PURE", "").strip().lower() not in _NO:
        return None, "RESILIENT_PURE is set"
    try:
        found = import_module(f"{__package__}._core")
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        return (
            None,
            "it was not built for this Python" if missing else f"it can't be loaded: {error}",
        )
    if not found.is_usable():  # the main interpreter has loaded it before
        return None, "this is a subinterpreter"
    return found, ""


compiled: Any
why_pure: str
compiled, why_pure = _chosen()
"""The compiled core, or None; and why there is none."""

if compiled is not None:
    _known = cast("dict[str, type]", vars(compiled))
    _types = {name: each for name, each in _known.items() if name.endswith("State")}
    globals().update(_types, TaskDeadlineState=_types["DeadlineState"])
