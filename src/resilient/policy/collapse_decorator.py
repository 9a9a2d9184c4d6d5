"""`collapse`, as users write it: callers who ask the same at the same time share one call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, TypeVar, cast, overload

from .. import validation
from ..callables import STREAMS, kind_of, label, manager_of
from ..engine.faults import log_alone
from ..engine.flights import Collapsed, Flights
from ..engine.sync import sharing
from ..guards.last_good.keys import Parameters, types_of
from . import wrapping
from .guard_stack import GuardStack
from .marks import COUNTED, MARK, mark_of
from .policy import Policy

if TYPE_CHECKING:
    from datetime import timedelta

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V")
M = TypeVar("M", bound="classmethod[Any, Any, Any] | staticmethod[Any, Any]")

MOST: Final = 100


class Batching(Protocol):
    """Decorates a batch function; what it returns takes one key."""

    @overload
    def __call__(
        self, fn: Callable[..., Coroutine[Any, Any, Mapping[Any, V] | Sequence[V]]], /
    ) -> Callable[..., Coroutine[Any, Any, V]]: ...
    @overload
    def __call__(self, fn: Callable[..., Mapping[Any, V] | Sequence[V]], /) -> Callable[..., V]: ...


class Collapse:
    """Decorates a function whose callers share calls; made by `resilient.collapse`."""

    def __init__(
        self,
        key: Callable[..., Any] | None,
        within: float | timedelta | None,
        max_batch: int | None,
    ) -> None:
        if key is not None and (not callable(key) or kind_of(key) != "sync"):
            validation.refuse_type("key", key, "a plain function of the call's arguments")
        if within is None and max_batch is not None:
            validation.refuse("max_batch", max_batch, "given with within: it is of batches")
        if within is not None and key is not None:
            validation.refuse("key", key, "left out with within: a batch has its callers' keys")
        self._key = key
        self._within = None if within is None else validation.duration("within", within)
        given = MOST if max_batch is None else max_batch
        self._most: int = validation.count("max_batch", given, most=100_000)

    def __call__(self, fn: Any, /) -> Any:
        """Return a function of fn's own kind, whose callers share calls of fn."""
        inner = wrapping.opened(fn)
        if inner is not None:
            return type(fn)(self(inner))
        wrapping.check_not_ours("collapse", fn)
        kind = wrapping.check_guardable("collapse", fn)
        if kind in STREAMS or manager_of(fn):
            what = "a stream" if kind in STREAMS else "a context manager"
            raise TypeError(f"collapse: {label(fn)} makes {what}, which can't be that of several")
        counts = _counts_of(fn)
        make = self._single if self._within is None else self._batch
        wrapper = make(fn, counts, is_async=kind == "async")
        plain = hasattr(fn, "__code__")
        functools.update_wrapper(wrapper, fn, updated=("__dict__",) if plain else ())
        cast("dict[str, Any]", vars(wrapper)).pop(MARK, None)  # it is not what the policy guards
        setattr(wrapper, COUNTED, counts)  # which keeps it
        return wrapper

    def _single(self, fn: Any, policy: GuardStack, *, is_async: bool) -> Any:
        flights, place = Flights(_collapsed(policy)), _Places(fn, self._key).of

        if is_async:
            from ..engine.aio import sharing as aio

            async def awaits(*args: Any, **kwargs: Any) -> Any:
                at = place(args, kwargs)
                if at is None:
                    return await fn(*args, **kwargs)
                return await aio.shared(flights, at, fn, args, kwargs)

            return awaits

        def calls(*args: Any, **kwargs: Any) -> Any:
            at = place(args, kwargs)
            if at is None:
                return fn(*args, **kwargs)
            return sharing.shared(flights, at, fn, args, kwargs)

        return calls

    def _batch(self, fn: Any, policy: GuardStack, *, is_async: bool) -> Any:
        counts = _collapsed(policy)
        counts.batches = counts.batches or 0
        flights, name, core = Flights(counts), label(fn), policy._core
        within, most = self._within or 0.0, self._most
        if is_async:
            from ..engine.aio import sharing as aio

            async def awaits(*args: Any, **kwargs: Any) -> Any:
                place, run, key = _taken_apart(fn, args, kwargs)
                return await aio.batched(flights, place, run, key, name, core, within, most)

            return awaits

        def calls(*args: Any, **kwargs: Any) -> Any:
            place, run, key = _taken_apart(fn, args, kwargs)
            return sharing.batched(flights, place, run, key, name, core, within, most)

        return calls


def _inner(fn: Any) -> Any:
    """Return what a guarded function gives its arguments to, whose parameters have names."""
    mark = mark_of(fn)
    while mark is not None:
        fn = mark.fn
        mark = mark_of(fn)
    return fn


class _Places:
    """What tells the calls of a function apart."""

    def __init__(self, fn: Any, key: Callable[..., Any] | None) -> None:
        self._name = label(fn)
        self._key = key
        self._parameters = Parameters(_inner(fn), bound=False)
        self._told = False

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what a call is told apart by; None where that can't be known, which is logged."""
        try:
            values = (
                self._parameters.values(args, kwargs) if self._key is None
                else (self._key(*args, **kwargs),)
            )  # fmt: skip
            found = values, types_of(values)
            hash(found)
        except Exception as fault:
            if not self._told:
                self._told = True
                log_alone(self._name, fault)
            return None
        return found


def _taken_apart(
    fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Callable[[list[Any]], Any], Any]:
    """Return which batch a call is for, what runs it, and the call's key: its last argument."""
    if kwargs or not args:
        raise TypeError(f"{label(fn)} is called with one key, by its place: it is in a batch")
    rest = args[:-1]
    return tuple(map(id, rest)), lambda keys: fn(*rest, keys), args[-1]


def _counts_of(fn: Any) -> GuardStack:
    """Return the policy that counts: the one that guards fn, or one without guards."""
    mark = mark_of(fn)
    if mark is None:
        return Policy._anonymous(label(fn))
    found: Any = mark.policy
    return cast("GuardStack", found if isinstance(found, GuardStack) else found.policy)


def _collapsed(policy: GuardStack) -> Collapsed:
    core = policy._core
    if core.collapsed is None:
        core.collapsed = Collapsed()
    return core.collapsed


@overload
def collapse(fn: M, /) -> M: ...  # type: ignore[overload-overlap]
@overload
def collapse(fn: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def collapse(
    *, key: Callable[..., Any] | None = None
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
@overload
def collapse(*, within: float | timedelta, max_batch: int | None = None) -> Batching: ...
@validation.keywords
def collapse(
    fn: Any = None,
    /,
    *,
    key: Callable[..., Any] | None = None,
    within: float | timedelta | None = None,
    max_batch: int | None = None,
) -> Any:
    """Have callers who ask the same at the same time share one call, or gather keys in batches.

    It goes above the policy of a function: what they share is one call of the policy. The first
    caller's thread makes it, or a task with its context, without its deadline; the others wait,
    each until its own. A caller who leaves stops nobody else; when the last one leaves, the task
    is cancelled. Each gets the same object, or an error of its own. Callers of different event
    loops, and of threads, share nothing with each other.

    Args:
        fn: the function, where the decorator has no parentheses.
        key: a plain function of the arguments: calls of equal keys share. Default: the arguments,
            with their types. A call whose key can't be hashed, or raises, is made alone; the log
            says so once.
        within: seconds for which keys are gathered; the function then takes a list of distinct
            keys, and gives a mapping of answers by key, or a list in their order, in which an
            exception is that key's error. What is decorated takes one key. Default none: callers
            share calls.
        max_batch: callers after whom a batch begins at once. Default 100, up to 100,000.

    Returns:
        The decorated function, or a decorator.

    Raises:
        TypeError: fn makes a stream or a context manager, or an option has the wrong type.
        ValueError: an option is out of range, or means nothing without another.

    Example:
        >>> from resilient import collapse
        >>> @collapse(within=0.01)
        ... def names(ids):
        ...     return {id: f"movie {id}" for id in ids}
        >>> names(7)
        'movie 7'
    """
    made = Collapse(key, within, max_batch)
    return made if fn is None else made(fn)
