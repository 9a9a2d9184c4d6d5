"""How a call ended: in the eyes of each guard, of the caller, and in the counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, cast

from ..deadline import Deadline, current
from ..errors import CallTimeoutError, RefusedError
from ..events import Event, bus
from ..guards.base import Guard
from ..outcomes import CANCELLED, FAILURE, IGNORED, REFUSED, SUCCESS, Result
from .core import QUIET, Core

if TYPE_CHECKING:
    from .call import Call

FULL: Final = 0
DEGRADED: Final = 1
ERROR: Final = 2
NOBODY: Final = 3  # the caller went away
WHOM: Final = ("full", "degraded", "error", "")


class MisuseError(TypeError):
    """A policy was called with what it can't call."""


def judge(call: Call) -> tuple[list[int], str]:
    """Return the outcome as each guard sees it, the policy's own last, and its reason.

    Asks the predicates of the guards, so it is called outside the lock.
    """
    error, plan = call.error, call.plan
    if isinstance(
        error, MisuseError
    ):  # the caller's mistake: no guard's business, and not answered
        return [IGNORED] * (len(plan.guards) + 1), ""
    if call.ruling is not None and _base(call, error) == FAILURE:
        outcome, reason = call.ruling
        return [outcome] * (len(plan.guards) + 1), reason
    ruled = _ruled(call, error) if plan.judges or plan.neutral is not None else None
    if ruled is not None:
        return [ruled] * (len(plan.guards) + 1), type(error).__name__ if error else "failed_result"
    judges = [*(guard.judge for guard in plan.guards), plan.judge]
    distinct = set(judges)  # each predicate is asked once
    if error is None:
        values = {each: each.of_value(call.value) for each in distinct}
        return [values[each] for each in judges], "failed_result"
    base = _base(call, error)
    if base == CANCELLED or not isinstance(error, Exception):
        return [CANCELLED] * len(judges), ""
    seen_by = {each: each.of_error(error) for each in distinct}
    outcomes = [seen_by[each] for each in judges]
    if base == REFUSED:
        outcomes = [REFUSED if seen == FAILURE else seen for seen in outcomes]
        # Refused by a call of this very policy inside the body: nobody's failure.
        outcomes[-1] = IGNORED if call.ran else REFUSED
    return outcomes, type(error).__name__


def _ruled(call: Call, error: BaseException | None) -> int | None:
    """Return what a wrapped client's own judges say, where they say more than those of guards."""
    judges = call.plan.judges
    if error is None:
        failed = any(each.of_value(call.value) == FAILURE for each in judges)
        neutral = call.plan.neutral
        if failed or neutral is None or call.answered is not None:
            return FAILURE if failed else None
        return IGNORED if neutral(call.value) else None
    if isinstance(error, CallTimeoutError) and error._deadline is not None:
        return None
    if not isinstance(error, Exception) or _base(call, error) != FAILURE:
        return None
    return IGNORED if any(each.of_error(error) == IGNORED for each in judges) else None


def _base(call: Call, error: BaseException | None) -> int:
    """Return CANCELLED or REFUSED where no judge is asked, else FAILURE."""
    if error is None:
        return FAILURE
    if not isinstance(error, Exception):
        return CANCELLED
    if isinstance(error, CallTimeoutError) and error._deadline is not None:
        return _base_of_timeout(call, error._deadline)
    if isinstance(error, RefusedError) and error._core is call.core:
        return REFUSED
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        inside = {_base(call, leaf) for leaf in group.exceptions}
        if len(inside) == 1:
            return inside.pop()
    return FAILURE


def _base_of_timeout(call: Call, deadline: Deadline) -> int:
    if call.expired > -1 and not call.ran:  # its time was up before the body began
        return REFUSED
    if deadline is call.deadline:
        call.expired = deadline.level
        return FAILURE
    outer = current.get()
    while outer is not None:
        if outer is deadline:  # an enclosing call's time is up: it went away
            return CANCELLED
        outer = outer.outer
    return FAILURE


def served(call: Call) -> int:
    """Return what the caller gets."""
    if call.error is None:
        if call.ruling is not None and call.ruling[0] == FAILURE:
            return ERROR
        return FULL if call.answered is None else DEGRADED
    return ERROR if isinstance(call.error, Exception) else NOBODY


def book(call: Call, now: float, whom: int) -> bool:
    """Count a call that is done; tell whether it is the first refusal after a quiet time.

    Under the lock.
    """
    core, outcome = call.core, call.outcome
    call.booked = True
    if call.admitted:
        life = now - call.started if call.spent is None else call.spent
        core.ended(outcome, life if call.duration == float("inf") else call.duration)
    else:
        core.counts[outcome] += 1
    core.timeouts += call.expired > -1
    core.extra_full += (whom == FULL) - (outcome == SUCCESS)
    core.degraded += whom == DEGRADED
    core.errors += whom == ERROR and outcome != CANCELLED
    if outcome != REFUSED:
        return False
    refuser = call.refuser
    core.refusals[refuser] = core.refusals.get(refuser, 0) + 1
    last = core.refused_at.get(refuser)
    core.refused_at[refuser] = now
    return last is None or now - last >= QUIET


def tell_refused(call: Call, now: float) -> None:
    """Publish the first refusal of a guard after a quiet time."""
    refusal = call.error or call.answered
    reason = "" if refusal is None else str(refusal)
    bus.enqueue(Event("refused", guard=call.refuser, at=now, reason=reason, policy=call.core.name))
    bus.deliver()


def refusal_by(guard: Guard, core: Core, why: str, retry_after: float | None) -> RefusedError:
    """Return the error of a guard's refusal."""
    error = guard.error(
        f"{core.name}: refused by its {guard.kind} ({why})",
        policy=core.name,
        guard=guard.kind,
        retry_after=retry_after,
    )
    error._core = core
    return error


def conclude(call: Call) -> Any:
    """Return the call's value or raise its error."""
    error = call.error
    call.error = call.answered = None  # a traceback that holds its own exception is a cycle
    if error is None:
        value, call.value = call.value, None  # an awaitable knows its call
        return value
    del call
    try:
        raise error
    finally:
        del error


def result_of(call: Call) -> Result[Any]:
    """Return the end of a call as data; what is not an Exception is raised all the same."""
    how: Literal["full", "degraded", "error"] = "full"
    error = call.error
    if error is not None:
        if not isinstance(error, Exception):
            return conclude(call)  # type: ignore[no-any-return]
        how = "error"
    elif call.answered is not None:
        how, error = "degraded", call.answered
    call.error = call.answered = None
    return Result(call.value, error, how, call.core.now() - call.began)
