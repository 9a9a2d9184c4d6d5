"""`throttle`, as users write it: a decorator and a part of a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from .. import validation
from ..guards.throttle import MOST_REFUSED, Throttle
from ..outcomes import OnError, OnResult
from .decoration import decorate, is_decorated

if TYPE_CHECKING:
    from datetime import timedelta

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound="classmethod[Any, Any, Any] | staticmethod[Any, Any]")


@overload
def throttle(fn: M, /) -> M: ...  # type: ignore[overload-overlap]
@overload
def throttle(fn: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def throttle(
    *,
    failure_rate: float = 0.5,
    window: float | timedelta = 120.0,
    minimum_calls: int = 20,
    max_refused: float = MOST_REFUSED,
    on: OnError | None = None,
    ignore: OnError | None = None,
    failed_result: OnResult | None = None,
) -> Throttle: ...
@validation.keywords
def throttle(
    fn: Any = None,
    /,
    *,
    failure_rate: float = 0.5,
    window: float | timedelta = 120.0,
    minimum_calls: int = 20,
    max_refused: float = MOST_REFUSED,
    on: OnError | None = None,
    ignore: OnError | None = None,
    failed_result: OnResult | None = None,
) -> Any:
    """Refuse a share of the calls that grows as fewer of them are answered.

    It is for a dependency that answers some calls and not others, as an overloaded one does. There
    is no state that trips: it refuses as many as would not be answered anyway, drawn at random, and
    lets at least a tenth through, by which it sees that the dependency is back. Beyer et al., *Site
    Reliability Engineering*, 2016, chapter 21. Usable bare (``@throttle``), with options, and as a
    part of a `Policy`.

    Args:
        fn: the function, in bare use.
        failure_rate: the share of failures, from 0.01 to 0.99, from which on it refuses. Default
            0.5: a dependency gets up to twice as many calls as it answers.
        window: seconds over which calls are counted. Default 120.
        minimum_calls: it refuses none before it has seen so many in the window. Default 20.
        max_refused: the largest share that it refuses, up to 0.9. Default 0.9.
        on: exception types, or a predicate of the exception, that are failures. Default: every
            Exception.
        ignore: exception types, or a predicate, that say nothing about the dependency. Default
            none.
        failed_result: a predicate of the value; if True, it is a failure. Default none.

    Returns:
        The decorated function, or the guard.

    Raises:
        ValueError: an option is out of its range.
        TypeError: an option is of a wrong type, or fn can't be guarded.

    Example:
        >>> from resilient import throttle
        >>> @throttle(failure_rate=0.2)
        ... def fetch():
        ...     return "done"
        >>> fetch()
        'done'
    """
    if fn is not None and not is_decorated(fn):
        validation.refuse_type("fn", fn, "a function; options of the throttle are keywords")
    guard = Throttle(
        failure_rate=failure_rate,
        window=window,
        minimum_calls=minimum_calls,
        max_refused=max_refused,
        on=on,
        ignore=ignore,
        failed_result=failed_result,
    )
    return guard if fn is None else decorate(fn, guard)
