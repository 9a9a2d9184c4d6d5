"""Wrap the unended work that a guarded function returns: see `callables.handle_of`.

The call goes on until the work ends. A generator becomes a stream of the call, and the entry of a
context manager becomes its body; a Future stays as it is and reports to the call how it ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ..callables import handle_of
from ..guards.facets import TimeLimit
from . import interpreter, settlement
from .aio.awaitable import GuardedAwaitable
from .call import Call
from .detached_call import DetachedCall

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..guards.base import Guard


def hand_out(call: Call, futures: tuple[type, ...] = ()) -> None:
    """Replace the value of a call, work that has not ended, by what its caller gets.

    An awaitable is judged at the await, unless its type is one of `futures`, which are followed.
    """
    try:
        kind = handle_of(call.value)
        if kind or type(call.value) in futures:
            call.value = _followed(call, call.value, kind)
        else:
            call.value = GuardedAwaitable(call, call.value, hand_out)
    except BaseException:
        settlement.abort(call)
        raise


def _followed(call: Call, value: Any, kind: str) -> Any:
    call.__class__ = DetachedCall  # gives everything back when it is collected
    lasting = cast("DetachedCall", call)
    lasting.active_seconds = call.core.now() - call.started
    if kind in ("manager", "async manager"):
        from .context_managers import entering

        return entering(lasting, value, is_async=kind == "async manager")
    if call.pipeline.threaded:
        settlement.tell_some(call, _is_worker, [0] * len(call.tickets), "")
    if kind == "generator":
        from .sync.streams import going_on

        return going_on(lasting, value)
    if kind == "async generator":
        from .aio.streams import going_on as going_on_async

        return going_on_async(lasting, value)
    _follow(lasting, value)
    return value


def _is_worker(guard: Guard) -> bool:
    return isinstance(guard, TimeLimit) and guard.sync == "thread"


def _follow(call: DetachedCall, future: Future[Any]) -> None:
    """End a call when its Future is done; no fallback can answer any more."""
    call.final = True
    call.active_seconds = None  # its work goes on: the whole call counts

    def done(future: Future[Any]) -> None:
        try:
            error = None if future.cancelled() else future.exception()
            if future.cancelled():
                settlement.abort(call)
            elif error is not None:
                interpreter.raised(call, error)
            else:
                interpreter.returned(call, future.result())
        except BaseException:
            settlement.abort(call)
            raise
        finally:
            call.error = call.value = None  # the future holds them, and refers to the call

    future.add_done_callback(done)
