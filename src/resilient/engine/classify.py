"""How a call ended, in the eyes of each of its guards and of its policy."""

from __future__ import annotations

from typing import Final, cast
from weakref import WeakSet

from ..callables import PLAIN_VALUES
from ..deadline import Deadline, current
from ..errors import CallTimeoutError, RefusedError, ResilientError
from ..knowledge.frameworks import may_steer, steers
from ..knowledge.libraries import callers_fault, is_answer, is_known
from ..outcomes import CALLERS, CANCELLED, FAILURE, IGNORED, REFUSED, SUCCESS, Judge
from .call import Call
from .misuse import MisuseError
from .patience import hung, is_cut_short, patience

# Exceptions of which nothing is known: a failure to each guard that was told nothing else.
_plain: Final[WeakSet[type]] = WeakSet()


def classify(call: Call) -> tuple[list[int], str]:
    """Return the outcome as each guard sees it, the policy's own last, and its reason.

    It asks the predicates of the guards, so it is called outside the lock.
    """
    error, pipeline = call.error, call.pipeline
    call.is_callers = False
    plain = _plain_outcome(call) if pipeline.is_plain and call.forced_outcome is None else -1
    said = (plain, "" if error is None else type(error).__name__) if plain >= 0 else None
    said = said or _said(call, error)
    if said is not None:
        return [said[0]] * (len(pipeline.guards) + 1), said[1]
    if error is None:
        values = {each: each.of_value(call.value) for each in {*pipeline.guard_judges}}
        return [values[each] for each in pipeline.guard_judges], "failed_result"
    if not isinstance(error, Exception):
        return _cancelled(call, error)
    return _weighed(call, error)


def _plain_outcome(call: Call) -> int:
    """Return how a call ended in the eyes of all, where no judge was told anything; -1 if odd."""
    error = call.error
    if error is None:
        plain = type(call.value) in PLAIN_VALUES or not is_answer(call.value)
        return SUCCESS if plain else -1
    if _is_plain(type(error)) and (current.get() is None or not is_cut_short(call)):
        return FAILURE
    if isinstance(error, RefusedError) and error._core is call.core and not call.ran:
        return REFUSED
    return -1


def _weighed(call: Call, error: Exception) -> tuple[list[int], str]:
    """Return the outcomes of an exception that judges decide about."""
    judges = call.pipeline.guard_judges
    first = call.outcome < 0  # else it is how a fallback ended
    base = _base(call, error)
    if base == CANCELLED or is_cut_short(call):
        return [CANCELLED] * len(judges), ""
    seen_by = {each: each.weigh(error) for each in {*judges}}  # each predicate is asked once
    call.is_callers = (first or steers(error)) and _is_callers(call, error, seen_by)
    outcomes = [FAILURE if seen_by[each] == FAILURE else IGNORED for each in judges]
    if base == FAILURE and FAILURE in outcomes and callers_fault(error):
        _leave_out(call, judges, outcomes, first=first)
    if base == REFUSED:
        outcomes = [REFUSED if seen == FAILURE else seen for seen in outcomes]
        # Refused by a call of this very policy inside the body: nobody's failure.
        outcomes[-1] = IGNORED if call.ran else REFUSED
    if base == FAILURE:
        _learn(error)
    return outcomes, type(error).__name__


def _is_plain(kind: type) -> bool:
    try:
        return kind in _plain
    except Exception:  # of an odd class, which can't be hashed
        return False


def _learn(error: Exception) -> None:
    """Remember the class of an exception, if nothing is known of it."""
    kind = type(error)
    if issubclass(kind, (ResilientError, ExceptionGroup)):
        return
    try:
        if not (may_steer(kind) or is_known(kind)):
            _plain.add(kind)
    except Exception:  # the same
        return


def _said(call: Call, error: BaseException | None) -> tuple[int, str] | None:
    """Return the outcome and its reason where no guard needs to be asked."""
    if isinstance(error, MisuseError):  # its caller's mistake: no guard's business
        return IGNORED, ""
    forced = call.forced_outcome
    if forced is not None and _base(call, error) == FAILURE:
        call.is_callers = forced[0] == IGNORED and not (error and _is_ours(error))
        return forced
    if call.pipeline.judges or call.pipeline.neutral is not None:
        ruled = _ruled(call, error)
        if ruled is not None:
            return ruled, type(error).__name__ if error else "failed_result"
    return None


def _cancelled(call: Call, error: BaseException) -> tuple[list[int], str]:
    """Return the outcomes of a call whose caller went away: it goes on, and nothing answers it."""
    guards = call.pipeline.guards
    if not hung(call, error):
        return [CANCELLED] * (len(guards) + 1), ""
    seen = [FAILURE if guard.judges_health else CANCELLED for guard in guards]
    return [*seen, FAILURE], CallTimeoutError.__name__


def _leave_out(call: Call, judges: tuple[Judge, ...], outcomes: list[int], *, first: bool) -> None:
    """Leave out what a library's error says of the caller, for guards that are not told otherwise.

    A fallback answers it all the same.
    """
    asked = [*(guard.judges_health for guard in call.pipeline.guards), True]
    for level, judge in enumerate(judges):
        if asked[level] and outcomes[level] == FAILURE and not judge.chooses:
            outcomes[level] = IGNORED
            call.is_callers = call.is_callers or first


def _ruled(call: Call, error: BaseException | None) -> int | None:
    """Return what a wrapped client's own judges say, where they say more than those of guards."""
    judges = call.pipeline.judges
    if error is None:
        failed = any(each.of_value(call.value) == FAILURE for each in judges)
        neutral = call.pipeline.neutral
        if failed or neutral is None or call.recovered_from is not None:
            return FAILURE if failed else None
        return IGNORED if neutral(call.value) else None
    if isinstance(error, CallTimeoutError) and error._deadline is not None:
        return None
    if not isinstance(error, Exception) or _base(call, error) != FAILURE:
        return None
    weighed = [each.weigh(error) for each in judges]
    call.is_callers = CALLERS in weighed and not _is_ours(error)
    return IGNORED if any(each != FAILURE for each in weighed) else None


def _is_callers(call: Call, error: Exception, seen_by: dict[Judge, int]) -> bool:
    """Return whether an exception is the caller's own doing, as the policy's judges say.

    Where no guard judges health, the ``ignore`` of any other says so.
    """
    pipeline = call.pipeline
    deciding = [pipeline.judge] if pipeline.judges_health else list(seen_by)
    return any(seen_by[each] == CALLERS for each in deciding) and not _is_ours(error)


def _is_ours(error: BaseException) -> bool:
    """Return whether it is a timeout or refusal of ours, or a group that holds one."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return any(_is_ours(leaf) for leaf in group.exceptions)
    return isinstance(error, ResilientError)


def _base(call: Call, error: BaseException | None) -> int:
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


def _base_of_timeout(call: Call, deadline: Deadline) -> int:
    if call.expired_level > -1 and not call.ran:  # its time was up before the body began
        return REFUSED
    if deadline is call.deadline:
        call.expired_level = deadline.level
        return FAILURE
    outer = current.get()
    while outer is not None:
        if outer is deadline:  # an enclosing call's time is up: it went away
            return FAILURE if call.ran and call.duration >= patience(call) else CANCELLED
        outer = outer.outer
    return FAILURE
