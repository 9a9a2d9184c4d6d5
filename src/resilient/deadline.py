"""The deadline in the context: what is left of the time of the call that encloses this code."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from .errors import CallTimeoutError


class Terms:
    """What all the deadlines of one timeout share."""

    __slots__ = ("level", "now", "policy", "seconds")

    def __init__(self, seconds: float, level: int, policy: str, now: Callable[[], float]) -> None:
        self.seconds: float = seconds
        self.level: int = level  # of the timeout in its policy
        self.policy: str = policy
        self.now: Callable[[], float] = now


class Deadline:
    """One call's time limit; closed when the call ends, so that it binds nothing started in it.

    It has no constructor: one is made for each call, and `made` costs twice what its parts do.
    """

    __slots__ = ("open", "outer", "terms", "when")
    open: bool
    outer: Deadline | None
    terms: Terms
    when: float

    task: object = None  # the task that it cancels, where it is an async call's

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


class TaskDeadline(Deadline):
    """A deadline that cancels a task."""

    __slots__ = ("task",)
    task: object


current: Final[ContextVar[Deadline | None]] = ContextVar("resilient_deadline", default=None)


def leave(own: Deadline) -> None:
    """Close a deadline and put back the one around it, if this is the context it was set in.

    Where that is none, the fast paths leave the closed one where it is: it binds nothing, and is
    put away by the next. A coroutine may be closed in another context. Not by ``reset()``: before
    Python 3.12 a finalizer that reads the variable while it is reset to nothing crashes the
    interpreter.
    """
    own.open = False
    if current.get() is own:
        current.set(own.outer)


def enclosing() -> Deadline | None:
    """Return the tightest deadline that binds the code running now."""
    found: Deadline | None = None
    seen = current.get()
    while seen is not None:
        if seen.open and (found is None or seen.when <= found.when):
            found = seen
        seen = seen.outer
    return found


def remaining() -> float | None:
    """Return the seconds left to the code running now, or None if no timeout encloses it.

    Returns:
        Seconds, never below 0. With nested timeouts, those of the tightest.

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
    """Raise `CallTimeoutError` if the time of the call that encloses this code is up.

    A cooperative timeout bounds nothing by itself: call this between the steps of long work.

    Raises:
        CallTimeoutError: nothing is left. It names the policy whose timeout is the tightest.

    Example:
        >>> from resilient import check
        >>> check()  # outside any timeout it does nothing
    """
    found = enclosing()
    if found is not None and found.now() >= found.when:
        raise found.error()
