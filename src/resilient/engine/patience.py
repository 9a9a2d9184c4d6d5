"""Judge a failure at a caller's own deadline that is tighter than the policy's.

If the dependency had little time, such a failure says little of it; if it had enough time, the
failure counts like a timeout of the policy's own.
"""

from __future__ import annotations

from typing import Final

from ..deadline import GRAIN, current, enclosing
from .call import Call

_CANCELLATIONS: Final = ("CancelledError", "Cancelled")  # asyncio's, and trio's


def patience(call: Call) -> float:
    """Return the seconds after which a failure at a caller's deadline counts as one."""
    given = call.core.patience
    if given is not None:
        return given
    limits = [guard.seconds for _, guard in call.pipeline.limits]
    return min(limits) / 2 if limits else 1.0


def _callers_time_is_up(call: Call) -> bool:
    """Return True if an enclosing call's deadline, tighter than this call's own, has passed."""
    own = call.deadline
    found = enclosing(but=own)
    if found is None or (own is not None and own.when < found.when):
        return False
    return found.now() >= found.when - GRAIN


def is_cut_short(call: Call) -> bool:
    """Return True if a failure came only because the caller gave the dependency so little time."""
    if not call.ran or current.get() is None or call.duration >= patience(call):
        return False
    return _callers_time_is_up(call)


def hung(call: Call, error: BaseException) -> bool:
    """Return True if a cancellation came from a caller's deadline, after enough time."""
    if type(error).__name__ not in _CANCELLATIONS or current.get() is None:
        return False
    return call.ran and call.duration >= patience(call) and _callers_time_is_up(call)
