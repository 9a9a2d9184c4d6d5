"""What a guarded function hands out in place of work that has not ended: see `shapes.handle_of`.

The call goes on until the work ends. A generator becomes a stream of the call, the entry of a
context manager its body, a Future stays what it is and tells the call how it ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ..shapes import handle_of
from .call import Call
from .lasting import LastingCall
from .pending import GuardedAwaitable

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..guards.base import Guard


def handed_out(call: Call, value: Any, futures: tuple[type, ...] = ()) -> Any:
    """Return what the caller of a call gets, whose body returned work that has not ended.

    What can be awaited is judged at the await, where it is not of the futures that are followed.
    """
    kind = handle_of(value)
    if not kind and type(value) not in futures:
        return GuardedAwaitable(call, value)
    call.__class__ = LastingCall  # it is given back when it is collected
    lasting = cast("LastingCall", call)
    lasting.spent = call.core.now() - call.started
    if kind in ("manager", "async manager"):
        from .managers import entering

        return entering(lasting, value, is_async=kind == "async manager")
    if call.plan.threaded:
        call.told(_is_worker, [0] * len(call.tickets), "")
    if kind == "generator":
        from .streams import going_on

        return going_on(lasting, value)
    if kind == "async generator":
        from .astreams import going_on as going_on_async

        return going_on_async(lasting, value)
    _follow(lasting, value)
    return value


def _is_worker(guard: Guard) -> bool:
    return guard.sync == "thread"


def _follow(call: LastingCall, future: Future[Any]) -> None:
    """End a call when its Future is done; nothing can answer in its place any more."""
    call.final = True
    call.spent = None  # its work goes on: all of its life counts

    def done(future: Future[Any]) -> None:
        try:
            error = None if future.cancelled() else future.exception()
            if future.cancelled():
                call.drop()
            elif error is not None:
                call.raised(error)
            else:
                call.returned(future.result())
        except BaseException:
            call.drop()
            raise
        finally:
            call.error = call.value = None  # the future has them, and the call is in it

    future.add_done_callback(done)
