"""`concurrency_limit`, as users write it: a decorator and a part of a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from .. import validation
from ..guards.concurrency_limit.concurrency_limit import ConcurrencyLimit
from ..outcomes import OnError, OnResult
from .decoration import decorate, is_decorated

if TYPE_CHECKING:
    from datetime import timedelta

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound="classmethod[Any, Any, Any] | staticmethod[Any, Any]")


@overload
def concurrency_limit(fn: M, /) -> M: ...  # type: ignore[overload-overlap]
@overload
def concurrency_limit(fn: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def concurrency_limit(
    initial: int | None = None,
    *,
    min_limit: int = 1,
    max_limit: int = 200,
    algorithm: Literal["gradient", "aimd"] = "gradient",
    tolerance: float | None = None,
    slow_call_duration: float | timedelta = 5.0,
    on: OnError | None = None,
    ignore: OnError | None = None,
    failed_result: OnResult | None = None,
) -> ConcurrencyLimit: ...
@validation.keywords
def concurrency_limit(
    initial: Any = None,
    *,
    min_limit: int = 1,
    max_limit: int = 200,
    algorithm: Literal["gradient", "aimd"] = "gradient",
    tolerance: float | None = None,
    slow_call_duration: float | timedelta = 5.0,
    on: OnError | None = None,
    ignore: OnError | None = None,
    failed_result: OnResult | None = None,
) -> Any:
    """Limit the calls in progress to as many as the dependency bears, found by measuring.

    The limit rises while calls take no longer than they do idle, falls where they do, and is cut at
    once by a call that ends as overload does. Where it refuses, it refuses the least important
    first: see `resilient.priority`. Gradient2 of Netflix/concurrency-limits (2018), with a baseline
    that can't drift upwards, and AIMD (Chiu and Jain, 1989). Usable bare (``@concurrency_limit``),
    with options, and as a part of a `Policy`.

    Args:
        initial: the limit to begin with, or the function, in bare use. Default 20, or the bound
            nearest to that.
        min_limit: it never falls below. Default 1.
        max_limit: it never rises above. Default 200.
        algorithm: ``"gradient"`` goes by how long calls take, ``"aimd"`` by overload alone. Default
            ``"gradient"``, which needs no overload to find the limit.
        tolerance: how many times as long as idle a call may take before the limit falls, from 1 to
            10. Default 1.5; only with ``"gradient"``.
        slow_call_duration: seconds; a call that takes as long counts as overload. Default 5.
        on: exception types, or a predicate of the exception, that are overload. Default: time-outs,
            refusals, and what says that the server is too busy (429, 503, 529, ``Retry-After``).
        ignore: exception types, or a predicate, that are not. Default none.
        failed_result: a predicate of the value; if True, it is overload. Default: an answer of a
            known library with the status 429, 503 or 529.

    Returns:
        The decorated function, or the guard.

    Raises:
        ValueError: an option is out of its range.
        TypeError: an option is of a wrong type, or the function can't be guarded.

    Example:
        >>> from resilient import concurrency_limit
        >>> @concurrency_limit(50, max_limit=400)
        ... def fetch():
        ...     return "done"
        >>> fetch()
        'done'
    """
    bare = is_decorated(initial)
    guard = ConcurrencyLimit(
        None if bare else initial,
        min_limit=min_limit,
        max_limit=max_limit,
        algorithm=algorithm,
        tolerance=tolerance,
        slow_call_duration=slow_call_duration,
        on=on,
        ignore=ignore,
        failed_result=failed_result,
    )
    return decorate(initial, guard) if bare else guard
