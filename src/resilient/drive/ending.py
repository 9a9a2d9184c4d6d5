"""How a call ended: in the eyes of each guard, of the caller, and in the counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from ..deadline import Deadline, current
from ..errors import CallTimeoutError, RefusedError, ResilientError
from ..events import Event, bus
from ..guards.base import Guard
from ..known import callers_fault
from ..outcomes import (
    CALLERS,
    CANCELLED,
    FAILURE,
    IGNORED,
    REFUSED,
    SERVED,
    SUCCESS,
    Judge,
    Result,
    Served,
)
from ..steering import steers
from .core import QUIET, Core
from .patience import hung, is_cut_short, patience

if TYPE_CHECKING:
    from .state import State

FULL: Final = 0
DEGRADED: Final = 1
ERROR: Final = 2
CALLER_ERROR: Final = 3
NOBODY: Final = 4  # the caller went away
WHOM: Final = (*SERVED, "")


class MisuseError(TypeError):
    """A policy was called with what it can't call."""


def judge(call: State) -> tuple[list[int], str]:
    """Return the outcome as each guard sees it, the policy's own last, and its reason.

    Asks the predicates of the guards, so it is called outside the lock.
    """
    error, plan = call.error, call.plan
    first = call.outcome < 0  # else it is how a fallback ended
    call.callers = False
    said = _said(call, error)
    if said is not None:
        return [said[0]] * (len(plan.guards) + 1), said[1]
    judges = [*(guard.judge for guard in plan.guards), plan.judge]
    distinct = set(judges)  # each predicate is asked once
    if error is None:
        values = {each: each.of_value(call.value) for each in distinct}
        return [values[each] for each in judges], "failed_result"
    if not isinstance(error, Exception):
        return _cancelled(call, error)
    base = _base(call, error)
    if base == CANCELLED or is_cut_short(call):
        return [CANCELLED] * len(judges), ""
    seen_by = {each: each.weigh(error) for each in distinct}
    call.callers = (first or steers(error)) and _is_callers(call, error, seen_by)
    outcomes = [FAILURE if seen_by[each] == FAILURE else IGNORED for each in judges]
    if base == FAILURE and FAILURE in outcomes and callers_fault(error):
        _leave_out(call, judges, outcomes, first=first)
    if base == REFUSED:
        outcomes = [REFUSED if seen == FAILURE else seen for seen in outcomes]
        # Refused by a call of this very policy inside the body: nobody's failure.
        outcomes[-1] = IGNORED if call.ran else REFUSED
    return outcomes, type(error).__name__


def _said(call: State, error: BaseException | None) -> tuple[int, str] | None:
    """Return the outcome and its reason where no guard needs to be asked."""
    if isinstance(error, MisuseError):  # its caller's mistake: no guard's business
        return IGNORED, ""
    if call.ruling is not None and _base(call, error) == FAILURE:
        call.callers = call.ruling[0] == IGNORED and not (error and _is_ours(error))
        return call.ruling
    if call.plan.judges or call.plan.neutral is not None:
        ruled = _ruled(call, error)
        if ruled is not None:
            return ruled, type(error).__name__ if error else "failed_result"
    return None


def _cancelled(call: State, error: BaseException) -> tuple[list[int], str]:
    """Return the outcomes of a call whose caller went away: it goes on, and nothing answers it."""
    guards = call.plan.guards
    if not hung(call, error):
        return [CANCELLED] * (len(guards) + 1), ""
    seen = [FAILURE if guard.judges_health else CANCELLED for guard in guards]
    return [*seen, FAILURE], CallTimeoutError.__name__


def _leave_out(call: State, judges: list[Judge], outcomes: list[int], *, first: bool) -> None:
    """Leave out what a library's error says of the caller, for guards that are not told otherwise.

    A fallback answers it all the same.
    """
    asked = [*(guard.judges_health for guard in call.plan.guards), True]
    for level, judge in enumerate(judges):
        if asked[level] and outcomes[level] == FAILURE and not judge.chooses:
            outcomes[level] = IGNORED
            call.callers = call.callers or first


def _ruled(call: State, error: BaseException | None) -> int | None:
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
    weighed = [each.weigh(error) for each in judges]
    call.callers = CALLERS in weighed and not _is_ours(error)
    return IGNORED if any(each != FAILURE for each in weighed) else None


def _is_callers(call: State, error: Exception, seen_by: dict[Judge, int]) -> bool:
    """Return whether an exception is the caller's own doing, as the policy's judges say.

    Where no guard judges health, the ``ignore`` of any other says so.
    """
    plan = call.plan
    deciding = [plan.judge] if plan.judges_health else list(seen_by)
    return any(seen_by[each] == CALLERS for each in deciding) and not _is_ours(error)


def _is_ours(error: BaseException) -> bool:
    """Return whether it is a timeout or refusal of ours, or a group that holds one."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return any(_is_ours(leaf) for leaf in group.exceptions)
    return isinstance(error, ResilientError)


def _base(call: State, error: BaseException | None) -> int:
    """Return CANCELLED or REFUSED where no judge is asked, else FAILURE."""
    if error is None:
        return FAILURE
    if not isinstance(error, Exception):
        return CANCELLED
    if isinstance(error, CallTimeoutError) and isinstance(error._deadline, Deadline):
        return _base_of_timeout(call, error._deadline)
    if isinstance(error, RefusedError) and error._core is call.core:
        return REFUSED
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        inside = {_base(call, leaf) for leaf in group.exceptions}
        if len(inside) == 1:
            return inside.pop()
    return FAILURE


def _base_of_timeout(call: State, deadline: Deadline) -> int:
    if call.expired > -1 and not call.ran:  # its time was up before the body began
        return REFUSED
    if deadline is call.deadline:
        call.expired = deadline.level
        return FAILURE
    outer = current.get()
    while outer is not None:
        if outer is deadline:  # an enclosing call's time is up: it went away
            return FAILURE if call.ran and call.duration >= patience(call) else CANCELLED
        outer = outer.outer
    return FAILURE


def served(call: State) -> int:
    """Return what the caller gets."""
    if call.error is None:
        if call.ruling is not None and call.ruling[0] == FAILURE:
            return ERROR
        return FULL if call.answered is None else DEGRADED
    if not isinstance(call.error, Exception):
        return NOBODY
    return CALLER_ERROR if call.callers else ERROR


def book(call: State, now: float, whom: int) -> bool:
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
    core.late_values += call.late
    core.fallback_failures += call.fell
    core.extra_full += (whom == FULL) - (outcome == SUCCESS)
    core.degraded += whom == DEGRADED
    core.errors += whom == ERROR and outcome != CANCELLED
    core.caller_errors += whom == CALLER_ERROR
    if outcome != REFUSED:
        return False
    refuser = call.refuser
    core.refusals[refuser] = core.refusals.get(refuser, 0) + 1
    last = core.refused_at.get(refuser)
    core.refused_at[refuser] = now
    return last is None or now - last >= QUIET


def tell_refused(call: State, now: float) -> None:
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


def conclude(call: State) -> Any:
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


def result_of(call: State) -> Result[Any]:
    """Return the end of a call as data; what is not an Exception is raised all the same."""
    how: Served = "full"
    error = call.error
    if error is not None:
        if not isinstance(error, Exception):
            return conclude(call)  # type: ignore[no-any-return]
        how = "caller_error" if call.callers else "error"
    elif call.answered is not None:
        how, error = "degraded", call.answered
    call.error = call.answered = None
    return Result(call.value, error, how, call.core.now() - call.began)
