"""The guards, as users write them: decorators and parts of a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, TypeVar, cast, overload
from weakref import ref

from . import checks, making, wrapping
from .errors import DeclarationWarning
from .guard_stack import GuardStack
from .guards.base import Guard
from .guards.bulkhead import Bulkhead
from .guards.circuit_breaker import CircuitBreaker
from .guards.fallback import UNSET, Fallback
from .guards.kill_switch import KillSwitch
from .guards.timeout import Timeout
from .guards.window import calls
from .locks import made_anew
from .outcomes import OnError, OnResult
from .place import Place
from .policy import Policy
from .reading import Flag
from .shapes import label

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
    half_open_max_calls: int = 1,
    success_threshold: int = 1,
    probe_lease: float | timedelta | None = None,
    metrics_only: bool = False,
    on: OnError | None = None,
    ignore: OnError | None = None,
    failed_result: OnResult | None = None,
) -> CircuitBreaker: ...
@checks.keywords
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
    half_open_max_calls: int = 1,
    success_threshold: int = 1,
    probe_lease: float | timedelta | None = None,
    metrics_only: bool = False,
    on: OnError | None = None,
    ignore: OnError | None = None,
    failed_result: OnResult | None = None,
) -> Any:
    """Stop calling what keeps failing, and find out gently when it is back.

    Usable bare (``@circuit_breaker``), with options, and as a part of a `Policy`.

    Args:
        fn: the function, where it is used bare.
        failure_rate: opens when this share of the calls in the window failed. Default 0.5; None
            switches the rule off.
        failure_threshold: opens after so many failures in a row, as long as the window holds fewer
            than `minimum_calls`: protects a service with little traffic without tripping a busy one
            by chance. Default 5; None switches the rule off. With ``failure_rate=None`` it holds
            at any traffic.
        window: what the rates are taken over: seconds, in ten slices, or ``calls(n)``.
            Default 10 s.
        minimum_calls: no rate is trusted over fewer calls. Default 20.
        slow_call_duration: a call that takes so many seconds or longer is slow, also while it still
            runs. Default None: slowness does not matter.
        slow_call_rate: opens when this share of the calls is slow. Default 0.5.
        recovery_timeout: seconds an open circuit refuses before it tries again. Default 5. It is
            shortened by up to a fifth at random, so that processes do not try in step.
        recovery_backoff: that time is multiplied by so much with each try that fails. Default 2;
            1 keeps it as it is.
        max_recovery_timeout: the longest that it grows to. Default: 60, or `recovery_timeout`
            where that is longer.
        half_open_max_calls: so many probes run at once; everybody else is refused. Default 1.
        success_threshold: closes after so many successful probes; one failure reopens. Default 1.
        probe_lease: a probe without a result after so many seconds has failed. Default: the longer
            of `recovery_timeout` and the policy's timeout.
        metrics_only: count and tell, but never refuse. Default False.
        on: exception types, or a predicate of the exception, that are failures. Default: every
            Exception. What it leaves out is ignored.
        ignore: exception types, or a predicate, that say nothing about the dependency.
            Default none.
        failed_result: a predicate of the value: True makes a returned value a failure.
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
    if fn is not None and not _decorated(fn):
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
        half_open_max_calls=half_open_max_calls,
        success_threshold=success_threshold,
        probe_lease=probe_lease,
        metrics_only=metrics_only,
        on=on,
        ignore=ignore,
        failed_result=failed_result,
    )
    return guard if fn is None else decorate(fn, guard)


@overload
def timeout(fn: M, /) -> M: ...  # type: ignore[overload-overlap]
@overload
def timeout(fn: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def timeout(
    seconds: float | timedelta = 1.0, *, sync: Literal["thread", "cooperative"] | None = None
) -> Timeout: ...
@checks.keywords
def timeout(seconds: Any = 1.0, *, sync: Literal["thread", "cooperative"] | None = None) -> Any:
    """Bound how long a caller waits.

    Usable bare (``@timeout``, 1 s, async functions only), with options, and as a part of a
    `Policy`.

    Args:
        seconds: the limit. Default 1.
        sync: how sync calls are bound. ``"thread"``: the body runs on a worker thread; when the
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
    if _decorated(seconds):
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
@checks.keywords
def bulkhead(
    max_concurrent: Any = 10,
    *,
    max_waiting: int = 0,
    max_wait: float | timedelta | None = None,
    order: Literal["fifo", "lifo"] = "fifo",
) -> Any:
    """Bound how many calls run at once, so that one dependency can't take all there is.

    One count serves threads, several event loops and trio at once. Usable bare (``@bulkhead``, 10
    slots), with options, and as a part of a `Policy`.

    Args:
        max_concurrent: slots. Default 10.
        max_waiting: places in the line for a slot. Default 0: who finds no slot is refused.
        max_wait: seconds after which who waits is refused. Required where there is a line.
        order: ``"fifo"``, or ``"lifo"``, where under overload the newest, who have time left, come
            first. Default ``"fifo"``.

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
    if _decorated(max_concurrent):
        guard = Bulkhead(10, max_waiting=max_waiting, max_wait=max_wait, order=order)
        return decorate(max_concurrent, guard)
    return Bulkhead(max_concurrent, max_waiting=max_waiting, max_wait=max_wait, order=order)


def _decorated(first: object) -> bool:
    """Tell whether a bare decorator was given what it decorates, rather than its first option."""
    return callable(first) or hasattr(type(first), "__get__")


@checks.keywords
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
    """Answer something lesser instead of an error.

    Always written with its parentheses. Several on one function are a chain: the innermost is
    tried first, and what it raises is answered by the next one out.

    Args:
        fn: called with the arguments of the call. A plain function may serve async calls too.
        value: the answer, where no function is needed; a list, dict or set is copied each time.
        with_error: pass the exception to fn as its first argument. Default False.
        on: exception types, or a predicate of the exception, that are answered. Default: every
            Exception, be it a refusal, a timeout or the function's own; never a cancellation.
        ignore: exception types, or a predicate, that are passed on to the caller. Default none.
        failed_result: a predicate of the value: True has a returned value replaced. Default none.

    Returns:
        The guard.

    Raises:
        ValueError: an option is out of its range.
        TypeError: neither or both of fn and value, or fn can't be called with the arguments of the
            function it is to serve.

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


@checks.keywords
def kill_switch(flag: Flag, *, answer: Callable[..., Any] | None = None) -> KillSwitch:
    """Refuse calls, or answer them otherwise, while a flag is off.

    Always written with its flag. While the flag is on it costs nothing.

    Args:
        flag: what `resilient.flag` returned.
        answer: called with the arguments of the call while the flag is off. Default None: the call
            is refused with `FlagOffError`, and a fallback of the same policy answers it, whether it
            stands outside the switch or inside.

    Returns:
        The guard.

    Raises:
        TypeError: flag is no flag, or answer is no function that can be called with the arguments
            of the function it is to serve.

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


def decorate(fn: Any, guard: Guard) -> Any:
    """Decorate fn with one guard: into the policy that fn already has, or a new anonymous one."""
    opened = wrapping.opened(fn)
    if opened is not None:
        return type(fn)(decorate(opened, guard))
    wrapping.check_not_ours(guard.kind, fn)
    mark = wrapping.mark_of(fn)
    stacked = (guard,) if mark is None else (guard, *mark.policy.guards)
    wrapping.check(f"@{guard.kind}", stacked, fn if mark is None else mark.fn)
    with _decorating:
        policy = _policy_for(fn, guard, None if mark is None else mark.policy)
        wrapped = wrapping.wrap(policy, fn if mark is None else mark.fn)
        guard.decorated = ref(wrapped), _code(fn)
    return wrapped


_decorating: Final = made_anew()


def _code(fn: Any) -> Any:
    return getattr(making.function_in(fn), "__code__", None) or id(fn)


def _policy_for(fn: Any, guard: Guard, inner: GuardStack | None) -> GuardStack:
    """Return the policy of a function with one guard more.

    A guard may decorate again where it does the same function, as on each request, or where
    nobody has what it decorated before. Its policy then lives as long as the guard.
    """
    if guard.belongs_to and guard.decorated is not None:
        before, code = guard.decorated
        same = code is _code(fn)
        if inner is None and same and guard.policy is not None:
            return cast("GuardStack", guard.policy)
        if inner is not None and any(guard is each for each in inner._core.guards):
            return inner._outwards(guard)
        if before() is None or (inner is None and same):
            guard.belongs_to = ""  # its policy is gone, or is forgotten: its state is not
            policy = guard.policy = _policy_for(fn, guard, inner)
            return policy
    if inner is not None:
        return inner._view((guard, *inner.guards), (guard,))
    _warn_of_split(fn, guard)
    return Policy._anonymous(fn, guard)


def _warn_of_split(fn: Any, guard: Guard) -> None:
    """Warn where a decorator that is not ours stands between two guards of one function."""
    copied = getattr(fn, wrapping.MARK, None)
    if not isinstance(copied, wrapping.Mark):
        return
    import warnings

    warnings.warn(
        f"{label(fn)}: a decorator that is not ours stands between its {guard.kind} and the policy "
        f"{copied.policy.name}, so they are two policies, each with counts and a state of its own. "
        "Put the guards next to each other, or make one Policy of them",
        DeclarationWarning,
        stacklevel=Place.depth(),
    )


Guard.decorate = staticmethod(decorate)
