"""Guard context managers: judge and bound the entry, hold the slot until the exit.

An error of the ``with`` body is the caller's own. No fallback can replace a context manager that
could not be entered, so fallbacks do not act.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any, Final

from . import interpreter, settlement
from .call import DO_RUN, Call, Step, value_or_raise
from .detached_call import DetachedCall
from .pipeline import Pipeline
from .sync.driver import drive

_SYNC: Final = "__enter__", "__exit__"
_ASYNC: Final = "__aenter__", "__aexit__"


class EnteringCall(DetachedCall):
    """A call whose body enters a context manager; it ends at the exit."""

    __slots__ = ()
    enters = True
    handle: list[Any]  # the manager, once it exists; then the time of an entry that came later


class _Guarded:
    """What a guarded contextlib function returns in place of its context manager."""

    def __init__(
        self,
        call: EnteringCall,
        enter: Callable[[Call], Step],
        again: Callable[[], Any] | None,
    ) -> None:
        call.final = True
        self._call: EnteringCall | None = call
        self._enter: Callable[[Call], Step] | None = enter
        self._again = again

    def _begun(self) -> tuple[EnteringCall, Callable[[Call], Step]]:
        call, (enter, self._enter) = self._call, (self._enter, None)
        if call is None or enter is None:
            raise RuntimeError("this context manager was entered before; make another for each use")
        return call, enter

    def _entered(self, call: EnteringCall) -> Any:
        if call.counted:
            self._call = None
            return value_or_raise(call)
        value, call.value = call.value, None
        return value

    def _exited(self) -> EnteringCall:
        call, self._call = self._call, None
        if call is None or self._enter is not None:
            raise RuntimeError("this context manager is not entered")
        return call

    def _recreate_cm(self) -> Any:
        if self._again is None:
            raise TypeError(
                "a context manager that a guarded call returned is for one use; to decorate with "
                "it, guard the function that contextlib made"
            )
        return self._again()


class GuardedManager(_Guarded, ContextDecorator):
    """The guarded manager for ``with``."""

    def __enter__(self) -> Any:
        call, enter = self._begun()
        drive(call, enter)
        return self._entered(call)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Any:
        call = self._exited()
        try:
            return call.handle[0].__exit__(kind, error, trace)
        finally:
            settlement.leave(call)


class GuardedAsyncManager(_Guarded):
    """The guarded manager for ``async with``."""

    async def __aenter__(self) -> Any:
        from .aio.driver import drive

        call, enter = self._begun()
        await drive(call, enter)
        return self._entered(call)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Any:
        call = self._exited()
        try:
            return await call.handle[0].__aexit__(kind, error, trace)
        finally:
            settlement.leave(call)

    def __call__(self, func: Any) -> Any:
        """Decorate an async function: each call of it runs in a context manager of its own."""
        again = self._recreate_cm

        @functools.wraps(func)
        async def inner(*args: Any, **kwargs: Any) -> Any:
            async with again():
                return await func(*args, **kwargs)

        return inner


def guard(pipeline: Pipeline, fn: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    """Return a function that returns guarded context managers in place of fn's."""

    def guarded(*args: Any, **kwargs: Any) -> _Guarded:
        handle: list[Any] = []
        body = functools.partial(_make, handle, fn, _ASYNC if is_async else _SYNC)
        call = EnteringCall(pipeline, body, args, kwargs)
        call.handle = handle
        kind = GuardedAsyncManager if is_async else GuardedManager
        return kind(call, interpreter.start, functools.partial(guarded, *args, **kwargs))

    return guarded


def _make(
    handle: list[Any], fn: Callable[..., Any], names: tuple[str, str], /, *args: Any, **kwargs: Any
) -> Any:
    handle.append(fn(*args, **kwargs))
    return _enter(handle, names)


def _enter(handle: list[Any], names: tuple[str, str]) -> Any:
    return getattr(handle[0], names[0])()


def entering(call: DetachedCall, manager: Any, *, is_async: bool) -> _Guarded:
    """Return a context manager that continues the guarded call which returned it."""
    call.__class__ = EnteringCall
    assert isinstance(call, EnteringCall)
    call.handle = [manager]
    call.fn = functools.partial(_enter, call.handle, _ASYNC if is_async else _SYNC)
    call.args, call.kwargs = (), {}
    return (GuardedAsyncManager if is_async else GuardedManager)(call, _let_in, None)


def _let_in(call: Call) -> Step:
    """Begin the entry of a manager that an earlier, admitted call has returned."""
    now = call.core.now()
    pause = now - call.started - (call.active_seconds or 0.0)
    call.handle.append(now)
    call.limits = [(when + pause, level) for when, level in call.limits]
    return DO_RUN
