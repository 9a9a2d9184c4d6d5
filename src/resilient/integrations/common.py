"""Shared by the integrations: time limits that follow the deadline, and sockets to shut down."""

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
from ..priority_levels import HEADER as PRIORITY
from ..priority_levels import carried

# With these the dependency is overloaded or broken. Any other status is an answer: 404 and 422 are
# about the request, 501 and 505 about the caller.
FAILED_STATUSES: Final = frozenset({429, 500, 502, 503, 504})


def shorter(seconds: float | None) -> float | None:
    """Return a library's own limit, or the time left before the deadline if that is less."""
    left = remaining()
    if left is None:
        return seconds
    left = max(left, 0.001)  # 0 would mean "do not wait", or "no limit"
    return left if seconds is None else min(seconds, left)


def carry_in(request: Any) -> None:
    """Have a request of httpx say the priority; one that is sent again says that of now."""
    ours = request.extensions.get("resilient_priority") == request.headers.get(PRIORITY)
    if PRIORITY in request.headers and ours:
        del request.headers[PRIORITY]
    if carried() is not None and PRIORITY not in request.headers:
        carry(request.headers)
        said = {"resilient_priority": request.headers[PRIORITY]}
        request.extensions = {**request.extensions, **said}


def carry_prepared(request: Any) -> None:
    """The same for a prepared request of requests."""
    if request.headers.get(PRIORITY) == getattr(request, "_resilient_priority", ""):
        del request.headers[PRIORITY]
    if carried() is not None and PRIORITY not in request.headers:
        carry(request.headers)
        request._resilient_priority = request.headers[PRIORITY]


def carry(headers: Any) -> None:
    """Have a request say the priority of the work at hand, unless it says one already."""
    level = carried()
    if level is not None and PRIORITY not in headers:
        headers[PRIORITY] = level


@contextmanager
def shortened(*timeouts: type[BaseException]) -> Generator[None]:
    """Raise a library's own timeout as the policy's, if the deadline is up."""
    try:
        yield
    except timeouts as error:
        # Every TimeoutError is an OSError, so a library may wrap ours in a connection error.
        if error.args and isinstance(error.args[0], CallTimeoutError):
            raise error.args[0] from None
        raise_if_up()
        raise


def shut(sock: Any) -> None:
    """Shut a socket down, so that a thread that waits on it sees the end of the connection."""
    if sock is None:
        return
    try:
        # A copy of the descriptor: another thread may close the socket, and its number be reused.
        with socket.socket(fileno=os.dup(sock if isinstance(sock, int) else sock.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def cut_when_abandoned(response: Any, socket_of: Callable[[Any], Any]) -> None:
    """Shut a response's socket down if the caller abandons the call that is reading it."""
    if remaining() is None or response is None:  # or an adapter without a connection
        return
    known = weakref.ref(response)  # the context may keep the deadline long after its call

    def cut() -> None:
        there = known()
        if there is not None:
            shut(socket_of(there))

    on_abandon(cut).__enter__()


def methods_of(part: Any) -> Callable[[str], Any]:
    """Return a function that finds a part's own methods, beneath those that we set on the instance.

    It looks them up at each call, on the class, so that tests may mock them there. The instance's
    own earlier attributes come first.
    """
    own: dict[str, Any] = dict(vars(part))
    known: Callable[[], Any] = weakref.ref(part)  # a strong reference would make a cycle

    def method(name: str) -> Any:
        if name in own:
            return own[name]
        there: Any = known()
        kind: Any = type(there)
        found = next(vars(base)[name] for base in kind.__mro__ if name in vars(base))
        bind = getattr(type(found), "__get__", None)  # a mock has none
        return found if bind is None else bind(found, there, kind)

    return method


_LATE: Final = 0.5  # seconds past a deadline that the library's own timers may take
_warned: Final[set[tuple[str, type]]] = set()


def overran(deadline: Deadline, kind: type) -> None:
    """Warn, once for each class, of a part of a client that overran the deadline."""
    late = deadline.now() - deadline.when
    known = deadline.policy, kind
    told = getattr(deadline, "cuts", ()) is None  # its caller did not wait for it
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
