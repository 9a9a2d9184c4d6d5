"""Classify how a call ended, for each of its guards and for its policy."""

from __future__ import annotations

from typing import Final, cast
from weakref import WeakSet

from ..callables import PLAIN_VALUES
from ..deadline import Deadline, current
from ..errors import CallTimeoutError, RefusedError, ResilientError
from ..knowledge.frameworks import may_steer, steers
from ..knowledge.libraries import callers_fault, is_answer, is_known, name_of_failed
from ..outcomes import CALLERS, CANCELLED, FAILURE, IGNORED, REFUSED, SUCCESS, Judge
from .call import Call
from .misuse import MisuseError
from .patience import hung, is_cut_short, patience

# Exceptions that no adapter or framework rule knows: a failure, unless a guard's options differ.
_plain: Final[WeakSet[type]] = WeakSet()


def classify(call: Call) -> tuple[list[int], str]:
    """Return the outcome for each guard, last the policy's own, and the reason.

    This runs the guards' predicates, so it must be called outside the lock.
    """
    error, pipeline = call.error, call.pipeline
    call.is_callers = False
    plain = _plain_outcome(call) if pipeline.is_plain and call.forced_outcome is None else -1
    said = (plain, "" if error is None else type(error).__name__) if plain >= 0 else None
    said = said or _said(call, error)
    if said is not None:
        outcomes = [said[0]] * (len(pipeline.guards) + 1)
        if error is None and said[0] == FAILURE and call.forced_outcome is None:
            for level, judge in enumerate(pipeline.guard_judges):
                if judge.decides_on_values:
                    outcomes[level] = judge.of_value(call.value)
        return outcomes, said[1]
    if error is None:
        values = {each: each.of_value(call.value) for each in {*pipeline.guard_judges}}
        seen = [values[each] for each in pipeline.guard_judges]
        return seen, name_of_failed(call.value) if FAILURE in seen else ""
    if not isinstance(error, Exception):
        return _cancelled(call, error)
    return _weighed(call, error)


def _plain_outcome(call: Call) -> int:
    """Return the outcome that all guards see, if no judge has options; -1 if it is not plain."""
    error = call.error
    if error is None:
        plain = type(call.value) in PLAIN_VALUES or not is_answer(call.value)
        return SUCCESS if plain else -1
    if is_plain(type(error)) and (current.get() is None or not is_cut_short(call)):
        return FAILURE
    if isinstance(error, RefusedError) and error._core is call.core and not call.ran:
        return REFUSED
    return -1


def _weighed(call: Call, error: Exception) -> tuple[list[int], str]:
    """Return the outcomes of an exception about which the judges decide."""
    judges = call.pipeline.guard_judges
    first = call.outcome < 0  # else the call has an outcome already, and this error is a fallback's
    base = _base(call, error)
    if base == CANCELLED or is_cut_short(call):
        return [CANCELLED] * len(judges), ""
    seen_by = {each: each.weigh(error) for each in {*judges}}  # run each predicate once
    call.is_callers = (first or steers(error)) and _is_callers(call, error, seen_by)
    outcomes = [FAILURE if seen_by[each] == FAILURE else IGNORED for each in judges]
    if base == FAILURE and FAILURE in outcomes and callers_fault(error):
        _leave_out(call, judges, outcomes, first=first)
    if base == REFUSED:
        outcomes = [REFUSED if seen == FAILURE else seen for seen in outcomes]
        # A nested call of this same policy was refused inside the body: no failure of anybody.
        outcomes[-1] = IGNORED if call.ran else REFUSED
    if base == FAILURE:
        _learn(error)
    return outcomes, type(error).__name__


def is_plain(kind: type) -> bool:
    """Return whether exceptions of a type were seen to be plain failures, and are."""
    try:
        return kind in _plain
    except Exception:  # an exotic class that can't be hashed
        return False


def _learn(error: Exception) -> None:
    """Remember the class of an exception that no adapter or framework rule knows."""
    kind = type(error)
    if issubclass(kind, (ResilientError, ExceptionGroup)):
        return
    try:
        if not (may_steer(kind) or is_known(kind)):
            _plain.add(kind)
    except Exception:  # as in is_plain
        return


def _said(call: Call, error: BaseException | None) -> tuple[int, str] | None:
    """Return the outcome and its reason if they do not depend on the guards."""
    if isinstance(error, MisuseError):  # the caller's mistake: it concerns no guard
        return IGNORED, ""
    forced = call.forced_outcome
    if forced is not None and _base(call, error) == FAILURE:
        call.is_callers = forced[0] == IGNORED and not (error and _is_ours(error))
        return forced
    if call.pipeline.judges or call.pipeline.neutral is not None:
        ruled = _ruled(call, error)
        if ruled is not None:
            return ruled, type(error).__name__ if error else name_of_failed(call.value)
    return None


def _cancelled(call: Call, error: BaseException) -> tuple[list[int], str]:
    """Return the outcomes of a call whose caller went away; no fallback answers it."""
    guards = call.pipeline.guards
    if not hung(call, error):
        return [CANCELLED] * (len(guards) + 1), ""
    seen = [FAILURE if guard.judges_health else CANCELLED for guard in guards]
    return [*seen, FAILURE], CallTimeoutError.__name__


def _leave_out(call: Call, judges: tuple[Judge, ...], outcomes: list[int], *, first: bool) -> None:
    """Ignore a library's error that is the caller's doing, for guards whose options do not name it.

    A fallback still answers it.
    """
    asked = [*(guard.judges_health for guard in call.pipeline.guards), True]
    for level, judge in enumerate(judges):
        if asked[level] and outcomes[level] == FAILURE and not judge.chooses:
            outcomes[level] = IGNORED
            call.is_callers = call.is_callers or first


def _ruled(call: Call, error: BaseException | None) -> int | None:
    """Return the outcome by a wrapped client's own judges; None if the guards' judges decide."""
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
    """Return True if the policy's judges say that an exception is the caller's own doing.

    If no guard judges health, the ``ignore`` of any guard decides.
    """
    pipeline = call.pipeline
    deciding = [pipeline.judge] if pipeline.judges_health else list(seen_by)
    return any(seen_by[each] == CALLERS for each in deciding) and not _is_ours(error)


def _is_ours(error: BaseException) -> bool:
    """Return True for a timeout or refusal of ours, and for a group that holds one."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return any(_is_ours(leaf) for leaf in group.exceptions)
    return isinstance(error, ResilientError)


def _base(call: Call, error: BaseException | None) -> int:
    """Return CANCELLED or REFUSED if no judge is needed, else FAILURE."""
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
    if call.expired_level > -1 and not call.ran:  # the time was up before the body began
        return REFUSED
    if deadline is call.deadline:
        call.expired_level = deadline.level
        return FAILURE
    outer = current.get()
    while outer is not None:
        if outer is deadline:  # an enclosing call timed out: this call's caller went away
            return FAILURE if call.ran and call.duration >= patience(call) else CANCELLED
        outer = outer.outer
    return FAILURE
