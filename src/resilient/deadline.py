"""The deadline in the context: how much time the enclosing call has left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from .errors import CallTimeoutError
from .state_types import DeadlineState, TaskDeadlineState
from .validation import refuse_type

if TYPE_CHECKING:
    from typing import Self


class Terms:
    """What all the deadlines of one timeout share."""

    __slots__ = ("level", "now", "policy", "seconds")

    def __init__(self, seconds: float, level: int, policy: str, now: Callable[[], float]) -> None:
        self.seconds: float = seconds
        self.level: int = level  # of the timeout in its policy
        self.policy: str = policy
        self.now: Callable[[], float] = now


class Deadline(DeadlineState):
    """One call's time limit. It is closed when the call ends, and then binds nothing.

    It has no constructor: one is made for each call, and `made` costs twice as much as its parts.
    """

    __slots__ = ()
    cuts: list[on_abandon] | None  # unset until on_abandon adds itself; None once they were called
    outer: Deadline | None
    terms: Terms

    @staticmethod
    def made(when: float, terms: Terms, outer: Deadline | None) -> Deadline:
        own = Deadline()
        own.when, own.terms, own.outer, own.open = when, terms, outer, True
        return own

    @property
    def seconds(self) -> float:
        return self.terms.seconds

    @property
    def level(self) -> int:
        return self.terms.level

    @property
    def policy(self) -> str:
        return self.terms.policy

    def now(self) -> float:
        return self.terms.now()

    def error(self) -> CallTimeoutError:
        error = CallTimeoutError(
            f"{self.policy}: no answer within {self.seconds:g} s",
            policy=self.policy,
            timeout=self.seconds,
        )
        error._deadline = self
        return error


class TaskDeadline(Deadline, TaskDeadlineState):
    """A deadline that cancels a task."""

    __slots__ = ()


current: Final[ContextVar[Deadline | None]] = ContextVar("resilient_deadline", default=None)


def leave(own: Deadline) -> None:
    """Close a deadline and restore the one around it, if this is the context it was set in.

    If there was none around it, the fast paths leave the closed deadline in the context: it binds
    nothing, and the next one replaces it. A coroutine may be closed in another context. This does
    not use ``reset()``: before Python 3.12 a finalizer that reads the variable while it is reset to
    nothing crashes the interpreter.
    """
    own.open = False
    if current.get() is own:
        current.set(own.outer)


def enclosing(but: Deadline | None = None) -> Deadline | None:
    """Return the tightest deadline that binds the code that is running, leaving one out."""
    found: Deadline | None = None
    seen = current.get()
    while seen is not None:
        if seen.open and seen is not but and (found is None or seen.when <= found.when):
            found = seen
        seen = seen.outer
    return found


def remaining() -> float | None:
    """Return the seconds left to the running code, or None if no timeout encloses it.

    Returns:
        Seconds, never below 0; with nested timeouts, of the tightest one.

    Example:
        >>> from resilient import remaining, timeout
        >>> @timeout(2.0, sync="cooperative")
        ... def fetch():
        ...     return remaining() <= 2.0
        >>> fetch(), remaining()
        (True, None)
    """
    found = enclosing()
    return None if found is None else max(0.0, found.when - found.now())


def check() -> None:
    """Raise `CallTimeoutError` if the time of the enclosing call is up.

    A cooperative timeout interrupts nothing: call this between the steps of long work.

    Raises:
        CallTimeoutError: no time is left. It names the policy whose timeout is the tightest.

    Example:
        >>> from resilient import check
        >>> check()  # outside any timeout it does nothing
    """
    found = enclosing()
    if found is None:
        return
    # Its caller may have been interrupted before the deadline.
    abandoned = getattr(found, "cuts", _UNSET) is None
    if abandoned or found.now() >= found.when:
        raise found.error()


GRAIN: Final = 0.002  # seconds by which a socket's own timer may fire early


def raise_if_up() -> None:
    """Raise `CallTimeoutError` if a library's own limit expired because the deadline did."""
    found = enclosing()
    if found is not None:
        raise_if_over(found)


def raise_if_over(deadline: Deadline) -> None:
    """Raise a deadline's `CallTimeoutError` if it has passed."""
    if deadline.now() >= deadline.when - GRAIN:
        raise deadline.error()


_UNSET: Final[Any] = object()


class bounded:
    """Set a deadline round a ``with`` block, as a cooperative timeout does; for server edges."""

    __slots__ = ("deadline",)

    def __init__(self, seconds: float, who: str, now: Callable[[], float]) -> None:
        self.deadline: Deadline = Deadline.made(now() + seconds, Terms(seconds, -1, who, now), None)

    def __enter__(self) -> None:
        self.deadline.outer = current.get()
        current.set(self.deadline)

    def __exit__(self, *exc: object) -> None:
        leave(self.deadline)


class on_abandon:
    """Call fn if the caller of the code in this ``with`` block gives up on its worker thread.

    A thread can't be stopped from outside, but fn can take away what it waits for: shut down a
    socket, say, so that the abandoned body ends and gives its slot back. Our integrations do so.

    Args:
        fn: a plain function without arguments, quick and safe to call from another thread. It is
            called at most once, by the thread that gives up, and never after the block has ended;
            at the beginning of the block, if the caller had given up before. Its errors are
            logged.

    Raises:
        TypeError: fn can't be called.
        RuntimeError: it is entered a second time.

    Example:
        >>> import socket
        >>> from resilient import CallTimeoutError, on_abandon, timeout
        >>> @timeout(0.05, sync="thread")
        ... def read(sock):
        ...     with on_abandon(lambda: sock.shutdown(socket.SHUT_RDWR)):
        ...         return sock.recv(1)
        >>> ours, theirs = socket.socketpair()
        >>> try:
        ...     read(ours)
        ... except CallTimeoutError:
        ...     theirs.recv(1)  # the other side sees it end
        b''
        >>> ours.close(), theirs.close()
        (None, None)
    """

    __slots__ = ("_fn", "_lock", "_told")

    def __init__(self, fn: Callable[[], object]) -> None:
        if not callable(fn):
            refuse_type("fn", fn, "a function without arguments")
        self._fn: Callable[[], object] | None = fn
        # Held while fn runs, so that the block does not end meanwhile.
        self._lock = threading.Lock()
        self._told: list[Deadline] = []

    def __enter__(self) -> Self:
        if self._fn is None:
            raise RuntimeError("this on_abandon was used before; make one for each block")
        seen = current.get()
        while seen is not None:
            if seen.open:
                self._join(seen)
            seen = seen.outer
        return self

    def _join(self, deadline: Deadline) -> None:
        cuts = getattr(deadline, "cuts", _UNSET)
        if cuts is _UNSET:
            cuts = deadline.cuts = []
        if cuts is not None:
            cuts.append(self)
            self._told.append(deadline)
            cuts = deadline.cuts  # the caller may have given up meanwhile
        if cuts is None:
            self._fire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._fn = None
        for deadline in self._told:
            cuts = deadline.cuts
            if cuts is not None and self in cuts:
                cuts.remove(self)

    def _fire(self) -> None:
        """Call fn, unless it was called or its block has ended."""
        with self._lock:
            fn, self._fn = self._fn, None
            if fn is None:
                return
            try:
                fn()
            except Exception:
                import logging

                logging.getLogger("resilient").exception("what on_abandon was given has failed")


def abandoned(deadline: Deadline) -> None:
    """Tell the code in a call's body that its caller has given up."""
    cuts, deadline.cuts = getattr(deadline, "cuts", None), None
    for cut in cuts or ():
        cut._fire()
