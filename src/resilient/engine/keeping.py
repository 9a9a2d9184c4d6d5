"""Values that guards keep, and answers that they recall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..guards.asked import Asked, Stale
from ..guards.base import NoAnswer
from ..guards.facets import Answers, Keeps
from ..guards.recalls import Recalls
from .faults import log_fault
from .pipeline import Pipeline

Fn = Callable[..., Any]
Keeper = Callable[[Any, tuple[Any, ...], dict[str, Any], float], None]


def asked_for(
    pipeline: Pipeline, fn: Fn, args: tuple[Any, ...], kwargs: dict[str, Any], now: float
) -> Asked:
    """Return what a call asks for, as guards are told it."""
    clock, skip, writes = pipeline.core.clock, pipeline.skip, pipeline.writes
    if not skip:
        return Asked(fn, args, kwargs, now, None, False, False, clock)
    proxy, rest, came = args[0], args[skip:], pipeline.handed_out
    return Asked(
        fn, rest, kwargs, now, getattr(proxy, "__wrapped__", proxy),
        writes is not None and writes(fn, rest, kwargs), came is not None and came(proxy), clock,
    )  # fmt: skip


def keep(pipeline: Pipeline, guard: Keeps, value: Any, asked: Asked) -> None:
    """Pass a good value to one guard; log the first fault of that."""
    try:
        guard.keep(value, asked)
    except RecursionError:
        return
    except Exception as fault:
        log_fault(pipeline.core.name, guard, "keep() raised, so the value is not kept", fault)


def recall(pipeline: Pipeline, guard: Recalls, asked: Asked) -> Stale:
    """Return what a guard kept of such a call; log the first fault of that.

    Raises:
        NoAnswer: it kept nothing, or could not be asked: the error that it was to answer stands.
    """
    try:
        return guard.recall(asked)
    except (NoAnswer, RecursionError):
        raise NoAnswer from None
    except Exception as fault:
        log_fault(pipeline.core.name, guard, "recall() raised, so it has no answer", fault)
        raise NoAnswer from None


def keeper(pipeline: Pipeline, fn: Fn) -> Keeper | None:
    """Return what keeps the value of a call that went well on the fast path, once it is booked."""
    if not pipeline.keepers:
        return None
    guards = [guard for _, guard in pipeline.keepers]

    def keep_all(value: Any, args: tuple[Any, ...], kwargs: dict[str, Any], now: float) -> None:
        asked = asked_for(pipeline, fn, args, kwargs, now)
        for guard in guards:
            keep(pipeline, guard, value, asked)

    return keep_all


def asking(
    guard: Answers,
    pipeline: Pipeline,
    error: Exception | None,
    fn: Fn,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[Fn, tuple[Any, ...]]:
    """Return what is called for a guard's answer, and its arguments."""
    if isinstance(guard, Recalls):
        asked = asked_for(pipeline, fn, args, kwargs, pipeline.core.now())
        return recall, (pipeline, guard, asked)
    return guard.recover, (error, args[pipeline.skip :], kwargs)
