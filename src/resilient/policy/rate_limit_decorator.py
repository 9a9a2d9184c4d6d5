"""`rate_limit`, as users write it: a decorator and a part of a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from .. import validation
from ..guards.rate_limit.rate_limit import RateLimit
from .decoration import is_decorated

if TYPE_CHECKING:
    from datetime import timedelta


@validation.keywords
def rate_limit(
    max_calls: int,
    period: float | timedelta = 1.0,
    *,
    burst: int = 1,
    quota: bool = False,
    max_wait: float | timedelta | None = None,
    scope: Literal["process", "fleet"] = "process",
    when_away: Literal["local", "open", "refuse"] | None = None,
) -> RateLimit:
    """Bound how many calls begin in a time.

    In each interval of ``w`` seconds at most ``burst + max_calls * w / period`` calls begin, in
    exact arithmetic, by the generic cell rate algorithm (ITU-T I.371, 1993). One count serves
    threads, several event loops and trio at once, in constant memory and without a thread.

    Args:
        max_calls: so many calls may begin in a period. It has no default: only you know what the
            dependency bears, or its provider allows.
        period: seconds. Default 1.
        burst: so many calls may begin at once after a pause. Default 1: calls begin evenly.
        quota: at most ``max_calls`` in each half-open interval of a period, however they come, as
            many a provider counts; it remembers when the last of them began. Default False.
        max_wait: seconds for which a call may wait for its turn; one whose turn comes later is
            refused at once. Default None: none waits.
        scope: ``"fleet"`` shares the limit among all processes that have the policy, through the
            Redis that ``RESILIENT_STORE`` names and by its clock. A call waits up to 0.1 s for the
            answer. Default ``"process"``: each process has the limit for itself.
        when_away: while that Redis does not answer, each process goes by itself: ``"local"`` at the
            limit divided by the processes last known, ``"open"`` without one, ``"refuse"`` refuses
            all. Only with ``scope="fleet"``. Default ``"local"``.

    Returns:
        The guard.

    Raises:
        ValueError: an option is out of its range, or ``burst`` is given with ``quota=True``.
        TypeError: an option is of a wrong type.

    Example:
        >>> from resilient import rate_limit
        >>> @rate_limit(100, 1.0, burst=10)
        ... def fetch():
        ...     return "done"
        >>> fetch()
        'done'
    """
    if is_decorated(max_calls):
        given: Any = max_calls
        raise TypeError(
            f"@rate_limit needs its options, such as rate_limit(100, 1.0); got {given!r}"
        )
    return RateLimit(
        max_calls,
        period,
        burst=burst,
        quota=quota,
        max_wait=max_wait,
        scope=scope,
        when_away=when_away,
    )
