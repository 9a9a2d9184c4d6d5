"""What the integrations share: time limits that follow the deadline, and sockets to shut down."""

# pyright: basic
from __future__ import annotations

import os
import socket
import warnings
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

from ..deadline import Deadline, on_abandon, raise_if_up, remaining
from ..errors import CallTimeoutError
from ..place import Place

# The dependency is overloaded or broken. Any other status is an answer: 404 and 422 say something
# of the request, 501 and 505 of the caller.
FAILED_STATUSES: Final = frozenset({429, 500, 502, 503, 504})


def shorter(seconds: float | None) -> float | None:
    """Return a library's own limit, or what is left of the deadline where that is less."""
    left = remaining()
    if left is None:
        return seconds
    left = max(left, 0.001)  # 0 would mean "do not wait", or "no limit"
    return left if seconds is None else min(seconds, left)


@contextmanager
def shortened(*timeouts: type[BaseException]) -> Generator[None]:
    """Tell a library's own timeout as that of the policy, where the deadline was what ran out."""
    try:
        yield
    except timeouts as error:
        # Every TimeoutError is an OSError, and so ours is wrapped as one of the connection's.
        if error.args and isinstance(error.args[0], CallTimeoutError):
            raise error.args[0] from None
        raise_if_up()
        raise


def shut(sock: Any) -> None:
    """Shut a socket down, so that whoever waits for it is told that it has ended."""
    if sock is None:
        return
    try:
        # A copy of the descriptor: the socket may be closed, and its number given to another.
        with socket.socket(fileno=os.dup(sock if isinstance(sock, int) else sock.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def cut_when_abandoned(response: Any, socket_of: Callable[[Any], Any]) -> None:
    """Shut a response's socket down should the caller give up on the call that reads it now."""
    if remaining() is None or response is None:  # of an adapter that has no connection
        return
    known = weakref.ref(response)  # the deadline may be in the context for long after its call

    def cut() -> None:
        there = known()
        if there is not None:
            shut(socket_of(there))

    on_abandon(cut).__enter__()


def methods_of(part: Any) -> Callable[[str], Any]:
    """Return what finds a part's own methods, under those that we put on the instance.

    It looks them up at each call, on the class: whoever mocks a client may do so there. What the
    instance had itself goes before that.
    """
    own: dict[str, Any] = dict(vars(part))
    known: Callable[[], Any] = weakref.ref(part)  # a function that held it would be a cycle

    def method(name: str) -> Any:
        if name in own:
            return own[name]
        there: Any = known()
        kind: Any = type(there)
        found = next(vars(base)[name] for base in kind.__mro__ if name in vars(base))
        bind = getattr(type(found), "__get__", None)  # a mock has none
        return found if bind is None else bind(found, there, kind)

    return method


_LATE: Final = 0.5  # seconds past a deadline that are no fault of the library's own timers
_warned: Final[set[tuple[str, type]]] = set()


def overran(deadline: Deadline, kind: type) -> None:
    """Warn, once for each class, of a part of a client that did not keep to the deadline."""
    late = deadline.now() - deadline.when
    known = deadline.policy, kind
    told = getattr(deadline, "cuts", ()) is None  # its caller has gone, and did not wait for it
    if told or late <= _LATE or known in _warned:
        return
    _warned.add(known)
    warnings.warn(
        f"{deadline.policy}: {kind.__module__}.{kind.__qualname__} went on for {late:.1f} s after "
        f"the limit of {deadline.seconds:g} s: it does not keep to the time limits that it is "
        'given. Have it do so, or use timeout(..., sync="thread")',
        RuntimeWarning,
        stacklevel=Place.depth(),
    )
