"""`last_good`, as users write it: a decorator and a part of a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from .. import validation
from ..guards.last_good.last_good import LastGood
from ..outcomes import OnError, OnResult
from .decoration import decorate, is_decorated

if TYPE_CHECKING:
    from datetime import timedelta

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound="classmethod[Any, Any, Any] | staticmethod[Any, Any]")


class Cache(Protocol):
    """What `last_good` needs of a cache that it is handed."""

    def get(self, key: Any, /) -> Any:
        """Return the value and the time that were set for a key, as a pair; None if none were."""
        ...

    def __setitem__(self, key: Any, kept: Any, /) -> None:
        """Set a value and a time, in seconds since 1970, as a pair."""
        ...


@overload
def last_good(fn: M, /) -> M: ...  # type: ignore[overload-overlap]
@overload
def last_good(fn: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def last_good(
    *,
    max_age: float | timedelta = 600.0,
    max_entries: int | None = None,
    key: Callable[..., Any] | None = None,
    copy: Callable[[Any], Any] | None = None,
    cache: Cache | None = None,
    on: OnError | None = None,
    ignore: OnError | None = None,
    failed_result: OnResult | None = None,
) -> LastGood: ...
@validation.keywords
def last_good(
    fn: Any = None,
    /,
    *,
    max_age: float | timedelta = 600.0,
    max_entries: int | None = None,
    key: Callable[..., Any] | None = None,
    copy: Callable[[Any], Any] | None = None,
    cache: Cache | None = None,
    on: OnError | None = None,
    ignore: OnError | None = None,
    failed_result: OnResult | None = None,
) -> Any:
    """Answer with the last good result of the same call when it fails, and say how old it is.

    Usable bare (``@last_good``), with options, and as a part of a `Policy`. The same call is the
    same function with the same arguments, however they were given, and of the same types; of the
    object of a method its class counts. What was answered is served ``degraded``, its age is in
    `Result.stale_for`. A flag that is off is not answered: who turns a feature off wants it off.

    Args:
        fn: the function, where it is used bare.
        max_age: no answer is older, in seconds. Default 600.
        max_entries: how many results it keeps, the last ones. Default 1000.
        key: a plain function of the arguments that returns what calls of one function are told
            apart by; with it, arguments that can't be hashed will do. Default: the arguments.
        copy: a plain function that copies a result, when it is kept and for each answer, so that
            nobody changes what another one gets. Default: a list, dict or set is copied, one level
            deep; anything else is handed out as it is.
        cache: where to keep results in place of its own memory: an object with ``get(key)`` and
            ``cache[key] = (value, kept_at)``, such as one that writes to Redis. It bounds itself,
            and needs ``key``, unless it is a dict.
        on: exception types, or a predicate of the exception, to answer. Default: every Exception,
            be it a refusal, a timeout or the function's own; never a cancellation.
        ignore: exception types, or a predicate, to pass on to the caller. Default none.
        failed_result: a predicate of the value; if True, the value is not kept, and an earlier one
            replaces it. Default none.

    Returns:
        The decorated function, or the guard.

    Raises:
        ValueError: an option is out of its range.
        TypeError: an option is of a wrong type, or fn can't be guarded: a stream has no result.

    Example:
        >>> from resilient import last_good
        >>> prices = [19.9]
        >>> @last_good(max_age=60)
        ... def price(article):
        ...     return prices.pop()
        >>> price("shoes")
        19.9
        >>> price("shoes")  # there is none left
        19.9
    """
    if fn is not None and not is_decorated(fn):
        raise TypeError(f"last_good takes its options by name, such as max_age=600; got {fn!r}")
    guard = LastGood(
        max_age=max_age,
        max_entries=max_entries,
        key=key,
        copy=copy,
        cache=cache,
        on=on,
        ignore=ignore,
        failed_result=failed_result,
    )
    return guard if fn is None else decorate(fn, guard)
