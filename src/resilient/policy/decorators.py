"""The guards, as users write them: decorators and parts of a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from .. import validation
from ..flag_handle import Flag
from ..guards.bulkhead import Bulkhead
from ..guards.fallback import UNSET, Fallback
from ..guards.kill_switch import KillSwitch
from ..guards.timeout import Timeout
from ..outcomes import OnError, OnResult
from .circuit_decorator import circuit_breaker
from .decoration import decorate, is_decorated

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ("bulkhead", "circuit_breaker", "fallback", "kill_switch", "timeout")

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound="classmethod[Any, Any, Any] | staticmethod[Any, Any]")


@overload
def timeout(fn: M, /) -> M: ...  # type: ignore[overload-overlap]
@overload
def timeout(fn: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def timeout(
    seconds: float | timedelta = 1.0, *, sync: Literal["thread", "cooperative"] | None = None
) -> Timeout: ...
@validation.keywords
def timeout(seconds: Any = 1.0, *, sync: Literal["thread", "cooperative"] | None = None) -> Any:
    """Bound how long a caller waits.

    Usable bare (``@timeout``, 1 s, async functions only), with options, and as a part of a
    `Policy`.

    Args:
        seconds: the limit. Default 1.
        sync: how sync calls are bounded. ``"thread"``: the body runs on a worker thread; when the
            time is up its caller gets `CallTimeoutError` and the body runs on, counted, keeping its
            bulkhead slot until it ends. ``"cooperative"``: the body reads `remaining()` and calls
            `check()`; nothing else bounds it. Default None: the policy is for async calls only,
            which are cancelled and need no such choice.

    Returns:
        The decorated function, or the guard.

    Raises:
        ValueError: an option is out of its range.
        TypeError: an option is of a wrong type, or a sync function is decorated without ``sync``.

    Example:
        >>> from resilient import timeout
        >>> @timeout(0.3, sync="thread")
        ... def fetch():
        ...     return "in time"
        >>> fetch()
        'in time'
    """
    if is_decorated(seconds):
        return decorate(seconds, Timeout(1.0, sync=sync))
    return Timeout(seconds, sync=sync)


@overload
def bulkhead(fn: M, /) -> M: ...  # type: ignore[overload-overlap]
@overload
def bulkhead(fn: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def bulkhead(
    max_concurrent: int = 10,
    *,
    max_waiting: int = 0,
    max_wait: float | timedelta | None = None,
    order: Literal["fifo", "lifo"] = "fifo",
) -> Bulkhead: ...
@validation.keywords
def bulkhead(
    max_concurrent: Any = 10,
    *,
    max_waiting: int = 0,
    max_wait: float | timedelta | None = None,
    order: Literal["fifo", "lifo"] = "fifo",
) -> Any:
    """Bound how many calls run at once, so that one dependency can't take all resources.

    One count serves threads, several event loops and trio at once. Usable bare (``@bulkhead``, 10
    slots), with options, and as a part of a `Policy`.

    Args:
        max_concurrent: slots. Default 10.
        max_waiting: places in the queue for a slot. Default 0: a call without a slot is refused.
        max_wait: seconds after which a waiting call is refused. Required with a queue.
        order: ``"fifo"``, or ``"lifo"``, which under overload serves the newest waiters first, who
            still have time left. Default ``"fifo"``.

    Returns:
        The decorated function, or the guard.

    Raises:
        ValueError: an option is out of its range.
        TypeError: an option is of a wrong type, or fn can't be guarded.

    Example:
        >>> from resilient import bulkhead
        >>> @bulkhead(20, max_waiting=5, max_wait=0.1)
        ... def fetch():
        ...     return "done"
        >>> fetch()
        'done'
    """
    if is_decorated(max_concurrent):
        guard = Bulkhead(10, max_waiting=max_waiting, max_wait=max_wait, order=order)
        return decorate(max_concurrent, guard)
    return Bulkhead(max_concurrent, max_waiting=max_waiting, max_wait=max_wait, order=order)


@validation.keywords
def fallback(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    value: Any = UNSET,
    with_error: bool = False,
    on: OnError | None = None,
    ignore: OnError | None = None,
    failed_result: OnResult | None = None,
) -> Fallback:
    """Give a lesser answer instead of an error.

    Always written with its parentheses. Several on one function are a chain: the innermost is
    tried first, and the next one out answers what it raises.

    Args:
        fn: called with the arguments of the call. A plain function may serve async calls too.
        value: the answer, if no function is needed; a list, dict or set is copied each time.
        with_error: pass the exception to fn as its first argument. Default False.
        on: exception types, or a predicate of the exception, to answer. Default: every Exception,
            be it a refusal, a timeout or the function's own; never a cancellation.
        ignore: exception types, or a predicate, to pass on to the caller. Default none.
        failed_result: a predicate of the value; if True, the fallback replaces the returned value.
            Default none.

    Returns:
        The guard.

    Raises:
        ValueError: an option is out of its range.
        TypeError: neither or both of fn and value, or fn can't be called with the arguments of the
            function that it serves.

    Example:
        >>> from resilient import fallback
        >>> @fallback(value=[])
        ... def recommendations(user):
        ...     raise ConnectionError
        >>> recommendations(7)
        []
    """
    return Fallback(
        fn, value=value, with_error=with_error, on=on, ignore=ignore, failed_result=failed_result
    )


@validation.keywords
def kill_switch(flag: Flag, *, answer: Callable[..., Any] | None = None) -> KillSwitch:
    """Refuse calls, or give them another answer, while a flag is off.

    Always written with its flag. While the flag is on it costs nothing.

    Args:
        flag: the result of `resilient.flag`.
        answer: called with the arguments of the call while the flag is off. Default None: the call
            is refused with `FlagOffError`, and a fallback of the same policy answers it, whether it
            stands outside the switch or inside.

    Returns:
        The guard.

    Raises:
        TypeError: flag is not a flag, or answer is not a function that can be called with the
            arguments of the function that it serves.

    Example:
        >>> from resilient import flag, kill_switch
        >>> PICKS = flag("picks", impact="The home page shows the top 100.")
        >>> @kill_switch(PICKS, answer=lambda user: ["the", "top", "100"])
        ... def picks(user):
        ...     return ["just", "for", user]
        >>> picks("ana")
        ['just', 'for', 'ana']
    """
    return KillSwitch(flag, answer=answer)
