"""The interpreter: run a call step by step, without waiting; sync and async share it.

A driver begins a call with `start`, performs the step that is returned (run the body, wait in a
queue, pause, recover), reports how that ended, performs the next step, and so on until DONE.
"""

from __future__ import annotations

import sys
from typing import Any, Final, cast

from ..errors import (
    CallTimeoutError,
    CircuitOpenError,
    ReentrantCallError,
    RefusedError,
    ResilientError,
)
from ..guards.asked import Stale
from ..guards.base import ANSWER, PARK, REFUSE, NoAnswer
from ..guards.facets import Admission, InFlight, Keeps, Queueing, Switch, TimeLimit
from ..outcomes import REFUSED
from ..stack import room_for_call
from . import refusals
from .attempts import let_in, time_left
from .call import DO_PARK, DO_RACE, DO_RECOVER, DO_RUN, ENTRY, Call, NotNeeded, Step
from .lent_slots import lent
from .own_calls import is_inside
from .policy_state import PolicyState
from .settlement import enter, failed_before, give_back_inside, unanswered, unwind
from .slot_leases import borrows
from .stops import Stopped

_INSIDE: Final = "called inside its own bookkeeping, by a finalizer or signal handler"
_GONE: Final = -9  # a verdict: nobody waits for it any more
_LATE: Final = float("inf")  # the duration of a value that came late

# -- on the way in ---------------------------------------------


def start(call: Call) -> Step:
    """Begin: ask every guard, outermost first."""
    room_for_call()
    if call.core.outbox:  # may hold a slot that could not be given back before
        call.core.flush()
    if call.core.uncalled:
        call.core.begin()
    return admit(call, 0)


def try_again(call: Call) -> Step:
    """Begin another attempt, after the pause that a guard asked for."""
    first = call.level + 1
    if time_left(call, call.level) <= 0:  # its caller may have gone in the pause
        return failed_before(call, "no time is left")
    call.tickets[first:] = [None] * (len(call.tickets) - first)
    call.limits = [limit for limit in call.limits if limit[1] < first]
    call.error = call.value = call.recovered_from = call.abandoned = call.deadline = None
    call.outcome = call.expired_level = -1
    call.ran = call.is_late = call.settled = False
    if call.active_seconds is not None:
        call.active_seconds = 0.0
    return admit(call, first)


def woken(call: Call, error: BaseException) -> Step:
    """End a call whose pause before another attempt was cut short."""
    assert call.retrying is not None
    call.retrying.stopped = True  # what ends a pause is no failure of an attempt
    call.outcome, call.value = -1, None
    if isinstance(error, ResilientError):
        return not_run(call, error)
    call.error = error
    return unwind(call)


def admit(call: Call, first: int) -> Step:
    """Ask the guards from a level inwards."""
    core = call.core
    while True:
        if core.holds_lock():
            call.level = first
            return _refused_at_entry(call, ReentrantCallError, _INSIDE)
        core.expire()
        verdict, level, why, retry_after = core.locked(_ask, call, first, core.now())
        call.level = max(level, 0)
        if verdict == _GONE:
            return raised(call, NotNeeded())
        if verdict >= 0:
            return DO_RACE if call.racing else DO_RUN
        if level < 0:
            return _refused_at_entry(call, CircuitOpenError, why, retry_after)
        if level < first and verdict == ANSWER:  # a switch was moved during a wait further inside
            give_back_inside(call, level)
        if not _passes(call, verdict):
            return _stopped(call, verdict, why, retry_after)
        first = level + 1


def go_on(call: Call, stop: Stopped) -> Step:
    """Continue a call that the fast path could not admit."""
    needs_slot = call.pipeline.lends[call.level] and lent.get() is not None
    if (needs_slot and call.core.locked(borrows, call)) or _passes(call, stop.verdict):
        return admit(call, call.level + 1)
    return _stopped(call, stop.verdict, stop.why, stop.retry_after)


def _stopped(call: Call, verdict: int, why: str, retry_after: float | None) -> Step:
    """Act on the verdict of the guard at the call's level."""
    if verdict == PARK:
        if not isinstance(call.guard, Queueing):
            raise TypeError(f"{call.guard!r} said PARK, and has no queue: it is not Queueing")
        return DO_PARK
    answers = verdict == ANSWER and not call.final
    return refused(call, cast("Admission", call.guard), why, retry_after, answers=answers)


def _passes(call: Call, verdict: int) -> bool:
    """Return whether a call passes its guard although that did not admit it.

    A call made inside a probe's body passes: its outcome is part of the probe's. A call that
    nothing can answer, such as a block, passes a guard that would answer with a kept value.
    """
    guard = call.guard
    if verdict == ANSWER:
        return call.final and isinstance(guard, Keeps)
    if verdict != REFUSE or not (isinstance(guard, InFlight) and guard.is_probing):
        return False
    return guard in call.inside or is_inside(sys._getframe(1), call.core, guard)


def _ask(call: Call, first: int, now: float) -> tuple[int, int, str, float | None]:
    """Return the verdict, its level (-1: the policy's entry), and the reason of a refusal."""
    core = call.core
    if call.is_copy and not call.is_needed:
        return _GONE, first, "", None
    if call.retrying is not None:  # a switch outside may have been turned off in the pause
        stopped = _ask_switches(call, first, now)
        if stopped is not None:
            return stopped
    shut = call.pipeline.key or core if core.forced != "forced_open" else core
    if shut.forced == "forced_open":
        first = _switch_off(call)
        if first < 0:
            why = f"forced open: {shut.forced_why}".removesuffix(": ")
            return REFUSE, first, why, shut.left(now)
    verdict, level = _walk_in(call, first, now)
    if verdict >= 0:
        call.started = now
        if not call.racing:  # else its first copy that is let in does it
            let_in(call, now)
    elif verdict != PARK:
        guard = cast("Admission", call.pipeline.guards[level])
        return verdict, level, guard.why, guard.retry_after(now)
    return verdict, level, "", None


def _ask_switches(call: Call, first: int, now: float) -> tuple[int, int, str, float | None] | None:
    """Return the refusal of a switch outside a level; None if none refuses. Under the lock."""
    for level, guard in enumerate(call.pipeline.guards[:first]):
        if not isinstance(guard, Switch):
            continue
        verdict = guard.admit(now)
        if verdict < 0:
            return verdict, level, guard.why, guard.retry_after(now)
        held, call.tickets[level] = call.tickets[level], verdict
        if held is not None:
            guard.settle(held, now, REFUSED, 0.0, "", False)
    return None


def _switch_off(call: Call) -> int:
    """Return the level of the outermost switch that is off, or -1. The caller holds the lock.

    A switch takes precedence over a forced state, a forced state over all other guards.
    """
    for level, guard in enumerate(call.pipeline.guards):
        if isinstance(guard, Switch) and guard.is_off():
            return level
    return -1


def _walk_in(call: Call, first: int, now: float) -> tuple[int, int]:
    """Ask the guards inwards; return the verdict and its level. The caller holds the lock."""
    pipeline, last = call.pipeline, len(call.pipeline.guards)
    call.racing = False
    if pipeline.races is not None and call.may_race and not call.final and PolicyState.active:
        last = pipeline.races[0] + 1  # what is inside admits each copy
        call.racing = first <= last
    for level in range(first, last):
        if not (PolicyState.active or pipeline.always[level]):
            continue
        guard, admission = pipeline.guards[level], pipeline.admissions[level]
        if isinstance(guard, TimeLimit):
            call.limits.append((now + guard.seconds, level))
        if admission is None:
            continue
        verdict = admission.admit(now)
        if verdict >= 0:
            call.tickets[level] = verdict
        elif not (pipeline.lends[level] and borrows(call)):
            return verdict, level
    return 0, last - 1 if call.racing else last


def refused(
    call: Call, guard: Admission, why: str, retry_after: float | None, *, answers: bool = False
) -> Step:
    """Record a guard's refusal; unwind from there, or have the guard answer."""
    if call.retrying is not None and call.retrying.failed is not None and not answers:
        return failed_before(call, f"its {guard.kind} refuses ({why})")
    call.refuser = guard.kind
    call.error = error = refusals.by_guard(guard, call.core, why, retry_after, call.pipeline.key)
    if answers:
        call.recovering_from, call.outcome, call.answering = error, REFUSED, True
        return DO_RECOVER
    if isinstance(guard, Switch) and guard.answers_anywhere:
        call.level = call.innermost  # so that every fallback may answer
    return unwind(call)


def _refused_at_entry(
    call: Call, kind: type[RefusedError], why: str, left: float | None = None
) -> Step:
    """Record a refusal by the policy itself; unwind from the innermost level."""
    if call.retrying is not None and call.retrying.failed is not None:
        return failed_before(call, why)
    call.error, call.refuser = refusals.at_entry(kind, call, why, left), ENTRY
    call.level = call.innermost  # so that every fallback may answer
    return unwind(call)


# -- how it ended ---------------------------------------------


def returned(call: Call, value: Any) -> Step:
    """Record the value of the body or of a fallback."""
    if call.recovering_from is not None:
        call.stale_for = None
        if type(value) is Stale:
            call.stale_for, value = value.age, value.value
    call.value, call.error = value, None
    if call.enters:
        return enter(call)
    return _ended(call)


def raised(call: Call, error: BaseException) -> Step:
    """Record the error of the body or of a fallback."""
    origin = call.recovering_from
    if origin is not None and isinstance(error, NoAnswer):
        return _no_answer(call)
    if origin is not None and isinstance(error, Exception):
        call.fallbacks_failed += 1
        if error is not origin and error.__cause__ is None:
            error.__cause__ = origin
    call.error = error
    return _ended(call)


def _no_answer(call: Call) -> Step:
    """Go on as if the guard that has no answer had not been asked."""
    call.recovering_from = None
    if not call.answering:
        return unanswered(call)
    call.error = None
    call.outcome, call.refuser, call.answering = -1, ENTRY, False
    return admit(call, call.level + 1)


def _ended(call: Call) -> Step:
    if call.recovering_from is None:
        now, own = call.core.now(), call.deadline
        call.ran = True
        call.duration = now - call.started if call.active_seconds is None else call.active_seconds
        if call.error is None and own is not None and now >= own.when:
            call.is_late = True
            call.duration = _LATE
        call.level = len(call.tickets) - 1
    else:
        call.recovered_from = call.recovering_from if call.error is None else None
        call.recovering_from, call.answering = None, False
        call.level -= 1
    return unwind(call)


def not_run(call: Call, error: ResilientError) -> Step:
    """Record why the body or a fallback was not started."""
    if isinstance(error, CallTimeoutError):
        if error._deadline is call.deadline and call.deadline is not None:
            call.expired_level = level = call.deadline.level
            call.refuser = call.pipeline.guards[level].kind
    elif isinstance(error, RefusedError):
        error._core, call.refuser = call.core, error.guard
    call.error, call.answering = error, False
    if call.recovering_from is None:
        call.level = call.innermost
    else:
        call.recovering_from, call.level = None, call.level - 1
    return unwind(call)
