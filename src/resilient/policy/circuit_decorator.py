"""`circuit_breaker`, as users write it: a decorator and a part of a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from .. import validation
from ..guards.circuit_breaker.breaker import CircuitBreaker
from ..guards.window import calls
from ..outcomes import OnError, OnResult
from .decoration import decorate, is_decorated

if TYPE_CHECKING:
    from datetime import timedelta

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound="classmethod[Any, Any, Any] | staticmethod[Any, Any]")


@overload
def circuit_breaker(fn: M, /) -> M: ...  # type: ignore[overload-overlap]
@overload
def circuit_breaker(fn: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def circuit_breaker(
    *,
    failure_rate: float | None = 0.5,
    failure_threshold: int | None = 5,
    window: float | timedelta | calls = 10.0,
    minimum_calls: int = 20,
    slow_call_duration: float | timedelta | None = None,
    slow_call_rate: float = 0.5,
    recovery_timeout: float | timedelta = 5.0,
    recovery_backoff: float = 2.0,
    max_recovery_timeout: float | timedelta | None = None,
    ramp: float | timedelta | None = None,
    half_open_max_calls: int = 1,
    success_threshold: int = 1,
    probe_lease: float | timedelta | None = None,
    metrics_only: bool = False,
    on: OnError | None = None,
    ignore: OnError | None = None,
    failed_result: OnResult | None = None,
) -> CircuitBreaker: ...
@validation.keywords
def circuit_breaker(
    fn: Any = None,
    /,
    *,
    failure_rate: float | None = 0.5,
    failure_threshold: int | None = 5,
    window: float | timedelta | calls = 10.0,
    minimum_calls: int = 20,
    slow_call_duration: float | timedelta | None = None,
    slow_call_rate: float = 0.5,
    recovery_timeout: float | timedelta = 5.0,
    recovery_backoff: float = 2.0,
    max_recovery_timeout: float | timedelta | None = None,
    ramp: float | timedelta | None = None,
    half_open_max_calls: int = 1,
    success_threshold: int = 1,
    probe_lease: float | timedelta | None = None,
    metrics_only: bool = False,
    on: OnError | None = None,
    ignore: OnError | None = None,
    failed_result: OnResult | None = None,
) -> Any:
    """Stop calling a dependency that keeps failing, and probe gently whether it is back.

    Usable bare (``@circuit_breaker``), with options, and as a part of a `Policy`.

    Args:
        fn: the function, in bare use.
        failure_rate: opens when this share of the calls in the window failed. Default 0.5; None
            switches the rule off.
        failure_threshold: opens after so many failures in a row, as long as the window holds fewer
            than `minimum_calls`: protects a service with little traffic without tripping a busy one
            by chance. Default 5; None switches the rule off. With ``failure_rate=None`` it holds
            at any traffic.
        window: what the rates cover: seconds, in ten slices, or ``calls(n)``. Default 10 s.
        minimum_calls: rates do not count while the window holds fewer calls. Default 20.
        slow_call_duration: a call that takes so many seconds or longer is slow, also while it still
            runs. Default None: slowness does not matter.
        slow_call_rate: opens when this share of the calls is slow. Default 0.5.
        recovery_timeout: seconds that an open circuit refuses calls before it probes. Default 5. A
            random cut of up to a fifth keeps processes from probing in step.
        recovery_backoff: each failed probe multiplies that time by this factor. Default 2; 1 keeps
            it fixed.
        max_recovery_timeout: the limit of that growth. Default: 60, or `recovery_timeout` if
            longer.
        ramp: seconds for which a circuit that closed lets in a share of the calls, by a credit: a
            tenth at first, then more, then all. To open within is to open again: the next recovery
            takes longer. Default None: all calls at once.
        half_open_max_calls: so many probes run at once; other calls are refused. Default 1.
        success_threshold: closes after so many successful probes; one failure reopens. Default 1.
        probe_lease: a probe without a result after so many seconds has failed. Default: the longer
            of `recovery_timeout` and the policy's timeout.
        metrics_only: count and report, but never refuse. Default False.
        on: exception types, or a predicate of the exception, that are failures. Default: every
            Exception. Others are ignored.
        ignore: exception types, or a predicate, that say nothing about the dependency.
            Default none.
        failed_result: a predicate of the value; if True, the returned value is a failure.
            Default none.

    Returns:
        The decorated function, or the guard.

    Raises:
        ValueError: an option is out of its range.
        TypeError: an option is of a wrong type, or fn can't be guarded.

    Example:
        >>> from resilient import circuit_breaker
        >>> @circuit_breaker(failure_rate=0.3, ignore=KeyError)
        ... def price(sku):
        ...     return 42
        >>> price("a")
        42
    """
    if fn is not None and not is_decorated(fn):
        raise TypeError(
            f"circuit_breaker takes its options by name, such as failure_rate=0.5; got {fn!r}"
        )
    guard = CircuitBreaker(
        failure_rate=failure_rate,
        failure_threshold=failure_threshold,
        window=window,
        minimum_calls=minimum_calls,
        slow_call_duration=slow_call_duration,
        slow_call_rate=slow_call_rate,
        recovery_timeout=recovery_timeout,
        recovery_backoff=recovery_backoff,
        max_recovery_timeout=max_recovery_timeout,
        ramp=ramp,
        half_open_max_calls=half_open_max_calls,
        success_threshold=success_threshold,
        probe_lease=probe_lease,
        metrics_only=metrics_only,
        on=on,
        ignore=ignore,
        failed_result=failed_result,
    )
    return guard if fn is None else decorate(fn, guard)
