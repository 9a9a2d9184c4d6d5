"""Values that guards keep, and answers that they recall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..guards.asked import Asked
from ..guards.facets import Answers, Keeps
from ..guards.recalls import Recalls
from .faults import log_fault
from .pipeline import Pipeline

Fn = Callable[..., Any]
Keeper = Callable[[Any, tuple[Any, ...], dict[str, Any], float], None]


def keep(pipeline: Pipeline, guard: Keeps, value: Any, asked: Asked) -> None:
    """Pass a good value to one guard; log the first fault of that."""
    try:
        guard.keep(value, asked)
    except RecursionError:
        return
    except Exception as fault:
        log_fault(pipeline.core.name, guard, "keep() raised, so the value is not kept", fault)


def keeper(pipeline: Pipeline, fn: Fn) -> Keeper | None:
    """Return what keeps the value of a call that went well on the fast path, once it is booked."""
    if not pipeline.keepers:
        return None
    guards, skip = [guard for _, guard in pipeline.keepers], pipeline.skip

    def keep_all(value: Any, args: tuple[Any, ...], kwargs: dict[str, Any], now: float) -> None:
        asked = Asked(fn, args, kwargs, skip, now)
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
        return guard.recall, (Asked(fn, args, kwargs, pipeline.skip, pipeline.core.now()),)
    return guard.recover, (error, args[pipeline.skip :], kwargs)
