"""A server's edge: it takes the caller's deadline, and answers a refusal with 503."""

from __future__ import annotations

from math import ceil, isfinite
from typing import Final

from .. import priority_levels, validation
from ..admin.registry import registry
from ..clock import real
from ..deadline import bounded
from ..errors import CallTimeoutError, RefusedError

HEADER: Final = "x-request-timeout"
PRIORITY: Final = priority_levels.HEADER


_NAME: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                         "ABCDEFGHIJKLMNOPQRSTUVWXYZ")  # fmt: skip
_MOST: Final = 315_576_000.0  # ten years, the longest duration: timers overflow above it


def _name(option: str, header: str | None) -> str | None:
    if header is None:
        return None
    if not (validation.text(option, header, most=100) and _NAME.issuperset(header)):
        validation.refuse(option, header, "the name of a header, or None")
    return header.lower()


class ServerEdge:
    """What the middlewares of all frameworks share: their options, and their effects.

    Args:
        header: the request header that says, in seconds, how long the caller will wait. Default
            ``x-request-timeout``; None reads none.
        priority_header: likewise, how important the request is. Default ``x-request-priority``.
        at_most: the longest time, in seconds, that a header can set, and the limit without a
            header. Default None: none.
        at_least: a request with less time than this, in seconds, gets 504 at once, without a call
            of the application. Default 0.
    """

    def __init__(
        self,
        header: str | None = HEADER,
        at_most: float | None = None,
        at_least: float = 0.0,
        priority_header: str | None = PRIORITY,
    ) -> None:
        self.header: str | None = _name("header", header)
        self.priority_header: str | None = _name("priority_header", priority_header)
        self._at_most = None if at_most is None else validation.duration("at_most", at_most)
        self._at_least = validation.duration("at_least", at_least, zero=True)
        if self._at_most is not None and self._at_least > self._at_most:
            validation.refuse("at_least", at_least, f"at most at_most, which is {self._at_most:g}")

    def seconds(self, value: str | None) -> float | None:
        """Return the time limit of a request from its header; an invalid header sets none."""
        try:
            given = None if value is None else float(value)
        except ValueError:
            given = None
        if given is None or not isfinite(given) or given < 0:
            return self._at_most
        return min(given, _MOST if self._at_most is None else self._at_most)

    def too_short(self, seconds: float | None) -> bool:
        """Return whether a time limit is too short to begin the request."""
        return seconds is not None and seconds < self._at_least

    @staticmethod
    def bounded(seconds: float) -> bounded:
        """Return a context with a deadline so many seconds away."""
        clock = registry.clock
        return bounded(seconds, "request", real.now if clock is None else clock.now)


# The answer to a request whose time limit is too short.
TOO_SHORT: Final[tuple[int, dict[str, str], str]] = (504, {}, "the time limit is too short\n")


def answer(error: Exception) -> tuple[int, dict[str, str], str] | None:
    """Return status, headers and text for a refusal or timeout of ours, None for other errors.

    A refusal is 503 with ``Retry-After``, a timeout 504. The text names the policy and nothing
    else of the service's inside.
    """
    if isinstance(error, RefusedError):
        wait = error.retry_after
        after = 1 if wait is None else max(1, ceil(wait))
        headers = {"retry-after": str(after)}
        return 503, headers, f"{error.policy} is not available now; try again in {after} s\n"
    if isinstance(error, CallTimeoutError):
        return 504, {}, f"{error.policy} did not answer in time\n"
    return None
