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


def keep(pipeline: Pipeline, guard: Keeps, value: Any, asked: Asked) -> None:
    """Pass a good value to one guard; log the first fault of that."""
    try:
        guard.keep(value, asked)
    except RecursionError:
        return
    except Exception as fault:
        log_fault(pipeline.core.name, guard, "keep() raised, so the value is not kept", fault)


def keeping(pipeline: Pipeline, fn: Fn, unusual: Callable[[object], bool]) -> Fn:
    """Return fn for the fast path, where a plain value is a success; the interpreter keeps others.

    Unusual values are those that the fast path leaves to the interpreter.
    """
    if not pipeline.keepers:
        return fn
    keep_all = _keeper(pipeline, fn, unusual)

    def kept(*args: Any, **kwargs: Any) -> Any:
        value = fn(*args, **kwargs)
        keep_all(value, args, kwargs)
        return value

    return kept


def keeping_async(pipeline: Pipeline, fn: Fn, unusual: Callable[[object], bool]) -> Fn:
    """Return an async fn for the fast path: see `keeping`."""
    if not pipeline.keepers:
        return fn
    keep_all = _keeper(pipeline, fn, unusual)

    async def kept(*args: Any, **kwargs: Any) -> Any:
        value = await fn(*args, **kwargs)
        keep_all(value, args, kwargs)
        return value

    return kept


def _keeper(
    pipeline: Pipeline, fn: Fn, unusual: Callable[[object], bool]
) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], None]:
    core, keepers, skip = pipeline.core, pipeline.keepers, pipeline.skip
    plain: type[Any] = type(None)

    def keep_all(value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal plain
        if type(value) is not plain:
            if unusual(value):
                return
            plain = type(value)  # pyright: ignore[reportUnknownVariableType]
        asked = Asked(fn, args, kwargs, skip, core.now())
        for _, guard in keepers:
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
