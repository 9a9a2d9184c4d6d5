"""Call a function through a policy without decorating it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from ..callables import kind_of
from ..engine.call import Call, result_of
from ..engine.pipeline import Pipeline
from ..engine.sync import functions as sync
from ..outcomes import Result
from . import wrapping
from .guard_stack import GuardStack
from .marks import Plans, unguarded

P = ParamSpec("P")
T = TypeVar("T")


class Calling(GuardStack):
    """The part of a `Policy` that calls."""

    __slots__ = ()

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a plain function through this policy, or make a guarded stream or manager.

        If this policy guards fn already, it runs the undecorated body, so that the guards act once.

        Args:
            fn: the function, generator function or async generator function.
            *args: passed to it.
            **kwargs: passed to it.

        Returns:
            What fn, or a fallback, returned. For a generator function: a generator, which is
            admitted at its first step.

        Raises:
            RefusedError: a guard did not let it run.
            CallTimeoutError: a timeout of this policy was up.
            TypeError: fn is async, or the policy's timeout does not say how to bound a sync call.
            Exception: whatever fn raised.
        """
        body, given, plans = unguarded(self, fn, args)
        if wrapping.lasts(body):
            return wrapping.lasting(self, body)(*given, **kwargs)  # type: ignore[no-any-return]
        return sync.call(self._sync_pipeline(body, plans), body, given, kwargs)  # type: ignore[no-any-return]

    async def acall(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an async function through this policy, on asyncio or trio.

        Args:
            fn: the async function, or a function that returns an awaitable.
            *args: passed to it.
            **kwargs: passed to it.

        Returns:
            What fn, or a fallback, returned.

        Raises:
            RefusedError: a guard did not let it run.
            CallTimeoutError: a timeout of this policy was up.
            TypeError: fn returned something that can't be awaited.
            Exception: whatever fn raised.
        """
        from ..engine.aio import functions as aio

        body, given, plans = unguarded(self, fn, args)
        return await aio.call(self._async_pipeline(body, plans), body, given, kwargs)  # type: ignore[no-any-return]

    def try_call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Result[T]:
        """Call a plain function and return its end as data, instead of raising.

        Args:
            fn: the function.
            *args: passed to it.
            **kwargs: passed to it.

        Returns:
            A `Result`. Cancellation, KeyboardInterrupt and SystemExit are raised all the same.

        Raises:
            TypeError: as for `call`.

        Example:
            >>> from resilient import Policy, bulkhead
            >>> shop = Policy("shop", bulkhead(10))
            >>> shop.try_call(int, "x").served
            'error'
        """
        body, given, plans = unguarded(self, fn, args)
        call = Call(self._sync_pipeline(body, plans), body, given, kwargs)
        sync.run(call)
        return result_of(call)

    async def atry_call(
        self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Result[T]:
        """Call an async function and return its end as data, instead of raising.

        Args:
            fn: the async function, or a function that returns an awaitable.
            *args: passed to it.
            **kwargs: passed to it.

        Returns:
            A `Result`; see `try_call`.

        Raises:
            TypeError: as for `acall`.
        """
        from ..engine.aio import functions as aio

        body, given, plans = unguarded(self, fn, args)
        call = Call(self._async_pipeline(body, plans), body, given, kwargs)
        await aio.run(call)
        return result_of(call)

    def _sync_pipeline(self, fn: Callable[..., Any], plans: Plans | None = None) -> Pipeline:
        wrapping.check_kind(self._core.name, fn, "sync")
        return (plans or self._pipeline)(wrapping.sync_mode(self._core.name, self._guards))

    def _async_pipeline(self, fn: Callable[..., Any], plans: Plans | None = None) -> Pipeline:
        if kind_of(fn) != "async":
            wrapping.check_kind(self._core.name, fn, "sync")
        return (plans or self._pipeline)("async")
