"""Wrapping of a callable: what can be guarded, and the form of the wrapper."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final, Literal, NoReturn, cast

from .. import validation
from ..callables import STREAMS, Kind, kind_of, label, manager_of, named_part
from ..engine.sync import functions as sync
from ..guards.base import Guard, Mode
from ..guards.facets import Answers, Keeps, Queueing, TimeLimit
from ..guards.races import Races
from .guard_stack import GuardStack
from .marks import MARK, Mark, Plans, bare


def opened(fn: object) -> Any:
    """Return the function in a classmethod or staticmethod, None for anything else."""
    if isinstance(fn, (classmethod, staticmethod)):
        return cast("Any", fn).__func__
    return None


def wrap(policy: GuardStack, fn: Any, plans: Plans | None = None) -> Any:
    """Return fn, guarded by policy; `plans` are pipelines that replace the policy's own."""
    inner = opened(fn)
    if inner is not None:
        return type(fn)(wrap(policy, inner, plans))
    check(policy.name, policy.guards, fn)
    if bare(policy._core, fn) is not fn:
        raise ValueError(f"{label(fn)} is guarded by {policy.name} already")
    wrapper = _guarded(policy, fn, kind_of(fn), plans or policy._pipeline)
    plain = hasattr(fn, "__code__")
    functools.update_wrapper(wrapper, fn, updated=("__dict__",) if plain else ())
    if not hasattr(fn, "__name__"):
        named = named_part(fn)
        wrapper.__name__, wrapper.__qualname__ = named.__name__, named.__qualname__
    setattr(wrapper, MARK, Mark(policy, fn, wrapper))
    return wrapper


def _guarded(policy: GuardStack, fn: Any, kind: Kind, plans: Plans) -> Any:
    """Return the plain wrapper of fn, for its kind."""
    manager = manager_of(fn)
    if manager:
        from ..engine import context_managers

        is_async = manager == "async manager"
        mode = "async" if is_async else sync_mode(policy.name, policy.guards)
        return context_managers.guard(policy._pipeline(mode), fn, is_async=is_async)
    if kind in ("async", "async generator"):
        from ..engine.aio import functions as aio

        if any(isinstance(guard, Queueing) and guard.places() for guard in policy.guards):
            import_module("anyio")  # now, and not during the first overload
        if kind == "async":
            return aio.guard(plans("async"), fn)
        from ..engine.aio import fast_streams as astreams

        return astreams.guard(plans("async"), fn)
    pipeline = plans(sync_mode(policy.name, policy.guards))
    if kind == "sync":
        return sync.guard(pipeline, fn)
    from ..engine.sync import fast_streams

    return fast_streams.guard(pipeline, fn)


def lasts(fn: Any) -> bool:
    """Return whether calls of fn are admitted after it returned: it makes a stream or a manager."""
    return callable(fn) and (kind_of(fn) in STREAMS or manager_of(fn) != "")


def lasting(policy: GuardStack, fn: Any) -> Any:
    """Return the guarded form of a function whose calls last."""
    check(policy.name, policy.guards, fn)
    return guarded(policy, fn)


def guarded(policy: GuardStack, fn: Any) -> Any:
    """Return the guarded form of a function that was checked."""
    return _guarded(policy, fn, kind_of(fn), policy._pipeline)


def check_not_ours(who: str, fn: object) -> None:
    """Raise if a guard or a policy was given instead of a function."""
    if isinstance(fn, (Guard, GuardStack)):
        raise TypeError(
            f"{who}: {fn!r} is no function to guard. Was a decorator inside it written without its "
            "parentheses? fallback always needs them: @fallback(top_100) or @fallback(value=[])"
        )


def check(who: str, guards: tuple[Guard, ...], fn: object) -> None:
    """Raise a TypeError, which says why, if fn can't be guarded by these guards."""
    kind = check_guardable(who, fn)
    _check_no_methods(who, fn)
    manager = manager_of(fn)
    if manager:
        _check_manager(who, guards, fn, is_async=manager == "async manager")
        return
    if kind in ("sync", "generator"):
        mode = sync_mode(who, guards)
        if kind == "generator" and mode == "thread":
            _refuse(
                who,
                fn,
                "it is a generator function, whose body can't be left to a worker thread between "
                'two items; use timeout(..., sync="cooperative")',
            )
        for guard in guards:
            if isinstance(guard, Answers) and guard.only_async:
                raise TypeError(f"{who}: {label(fn)} is sync, but its {guard.kind} is async")
    streams = kind in STREAMS
    for guard in guards:
        if streams and guard.judge.failed_result is not None:
            _refuse(
                who,
                fn,
                f"the failed_result of its {guard.kind} judges a value, and {article(kind)} "
                "function has none; let it raise, or give it a policy without failed_result",
            )
        if streams and isinstance(guard, Keeps):
            _refuse(
                who, fn, f"its {guard.kind} keeps values, and {article(kind)} function has none"
            )
        if streams and isinstance(guard, Races):
            _refuse(who, fn, f"its {guard.kind} runs it twice, and two streams can't be one")
        if not isinstance(guard, Answers):
            continue
        if guard.only_streams and not streams:
            raise TypeError(f"{who}: {label(fn)} is no generator function, but its {guard.kind} is")
        guard.check_signature(cast("Callable[..., Any]", fn))


_PLAIN: Final = (FunctionType, MethodType, BuiltinFunctionType)
_OF_MOCKS: Final = "unittest.mock"  # a program that made a mock has imported it


def _check_no_methods(who: str, fn: object) -> None:
    """Refuse an object whose methods the guarded function would lack: a task, a command."""
    if isinstance(fn, functools.partial) or type(fn) in _PLAIN:
        return
    kinds = dict.fromkeys((type(fn), fn.__class__))  # a proxy, such as Celery's, has two
    if any(base.__module__ == _OF_MOCKS for kind in kinds for base in kind.__mro__):
        return
    methods = sorted(
        name
        for kind in kinds
        for name in dir(kind)
        if name[:1] != "_" and callable(getattr(kind, name, None))
    )
    if methods:
        _refuse(
            who,
            fn,
            f"it is an object with methods of its own ({', '.join(methods[:3])}"
            f"{', ...' if len(methods) > 3 else ''}), which would be out of reach, or would run "
            "unguarded. Put the guard under what made it, on the function itself; a client is "
            "guarded by wrap()",
        )


def _check_manager(who: str, guards: tuple[Guard, ...], fn: object, *, is_async: bool) -> None:
    if not is_async:
        sync_mode(who, guards)
    for guard in guards:
        if isinstance(guard, Answers) and guard.only_streams:
            raise TypeError(f"{who}: {label(fn)} is no generator function, but its {guard.kind} is")


def article(kind: Kind) -> str:
    """Return a kind with its article."""
    return f"{'an' if kind[0] == 'a' else 'a'} {kind}"


def check_guardable(who: str, fn: object) -> Kind:
    """Return the kind of fn, or raise a TypeError that says why it can't be guarded."""
    if isinstance(fn, type):
        _refuse(who, fn, "a class can't be guarded as a whole; guard its methods")
    if isinstance(fn, property) or hasattr(type(fn), "__set_name__"):
        _refuse(who, fn, "a property or descriptor can't be guarded; guard the function inside it")
    if not callable(fn):
        _refuse(who, fn, "it is not callable; a fallback or timeout without its parentheses?")
    return kind_of(fn)


def check_kind(who: str, fn: object, most: Literal["sync", "async"]) -> None:
    """Raise a TypeError if fn is a stream, or async where only a plain function will do."""
    kind = kind_of(fn) if callable(fn) else _refuse(who, fn, "it is not callable")
    if manager_of(fn):
        _refuse(who, fn, "it makes a context manager; use call(), which returns one to enter")
    if kind in STREAMS:
        _refuse(who, fn, f"it is {article(kind)} function; use call(), which returns the stream")
    if kind == "async" and most == "sync":
        _refuse(who, fn, "it is async; use acall() or atry_call()")


def _refuse(who: str, fn: object, why: str) -> NoReturn:
    shown = label(fn) if callable(fn) else validation.shown(fn)
    raise TypeError(f"{who}: {shown} can't be guarded: {why}")


def sync_mode(name: str, guards: tuple[Guard, ...]) -> Mode:
    """Return how sync calls are bounded, or raise the TypeError that explains the choice."""
    for guard in guards:
        if isinstance(guard, TimeLimit):
            if guard.sync is None:
                raise TypeError(
                    f"{name}: its timeout of {guard.seconds:g} s does not say how to bound a sync "
                    'call. timeout(..., sync="thread") runs it on a worker thread, which is left '
                    'to itself when the time is up; timeout(..., sync="cooperative") lets it read '
                    "resilient.remaining() and bounds nothing by itself"
                )
            return "thread" if guard.sync == "thread" else "cooperative"
    return "cooperative"
