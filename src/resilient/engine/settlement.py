"""Settle a call: tell its guards how it ended, and count it.

A guard may ask for another attempt or answer in place of the body; then the call goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ..errors import ResilientError
from ..guards.base import RECOVER, Guard
from ..guards.facets import Answers, Slots
from ..knowledge.libraries import FAILED
from ..outcomes import CANCELLED, FAILURE, REFUSED, SUCCESS
from ..stack import room, room_for_call
from . import attempts, refusals
from .accounting import CALLER_GONE, count, served, trace
from .call import DO_PAUSE, DO_RECOVER, DONE, Call, Step
from .classify import classify
from .keeping import asked_for, keep
from .pipeline import Pipeline
from .policy_state import PolicyState

_NOBODY: Final[list[int]] = []  # in place of outcomes if no guard is left to settle


def _failed_value(reason: str) -> ValueError:
    """Return the error that stands for a value which a fallback replaces."""
    said = "" if reason in ("", FAILED) else f": {reason}"
    return ValueError(f"a failed result{said}")


def unwind(call: Call) -> Step:
    """Settle the guards from the call's level outwards, until one wants the call to go on."""
    outcomes, reason = _NOBODY, ""
    if call.level >= 0 or call.outcome < 0 or call.error is not None:
        outcomes, reason = classify(call)
    if call.outcome < 0:
        call.outcome = outcomes[-1]
    return concluded(call, outcomes, reason)


def concluded(call: Call, outcomes: list[int], reason: str) -> Step:
    """Settle the guards from the call's level outwards; how it ended is known."""
    call.seen = outcomes, reason
    pipeline, level = call.pipeline, call.level
    good, value = call.ran and call.error is None and call.recovered_from is None, call.value
    if pipeline.retries is not None and pipeline.retries[0] > call.floor:
        attempts.prepare(call, outcomes)
    step = _unwind(call, outcomes, reason)
    if pipeline.keepers and good:  # by now the slot is free
        _keep(call, value, outcomes, level)
    return step


def failed_before(call: Call, why: str) -> Step:
    """End a call whose next attempt may not begin, as its last one ended."""
    assert call.retrying is not None
    assert call.pipeline.retries is not None
    known, level = call.retrying, call.pipeline.retries[0]
    known.stopped, known.why = True, why
    give_back_inside(call, level)
    assert known.failed is not None
    call.error, call.value, call.seen, call.outcome, call.expired_level = known.failed
    known.failed = None
    call.level, call.ran = level, True
    return _unwind(call, *call.seen)


def unanswered(call: Call) -> Step:
    """Settle the guards outside one that had no answer; the call ended as it had before."""
    call.level -= 1
    return _unwind(call, *call.seen)


def _unwind(call: Call, outcomes: list[int], reason: str) -> Step:
    step = settle(call, outcomes, reason)
    kin = None if call.is_copy else call.pipeline.kin
    if kin is not None and step == DONE and isinstance(call.error, ResilientError):
        call.error = kin(call.error, call.fn, call.args, call.kwargs)
    return step


def settle(call: Call, outcomes: list[int], reason: str, what: int | None = None) -> Step:
    """Settle the guards; if the call has ended, count it and what its caller got."""
    room()
    core, now = call.core, call.core.now()
    # In a finalizer or signal handler: the interrupted section settles at its end.
    if core.holds_lock():
        # Decided now, since the caller takes the error out of the call.
        what = served(call) if what is None else what
        if any(ticket is not None for ticket in call.tickets):
            call.final = True  # no fallback and no other attempt: its caller goes on now
            core.outbox.append(partial(settle, call, outcomes, reason, what))
            return DONE
        return _settle_inside(call, outcomes, reason, what)
    step = core.locked(_end, call, outcomes, reason, what, now)
    if step == DO_PAUSE and not attempts.is_paid(call):
        step = core.locked(_end, call, outcomes, reason, what, now)
    if step is None:  # a parent process's call
        return DONE
    if call.retrying is not None and step != DO_PAUSE:
        attempts.concluded(call)
    if call.is_news:
        refusals.publish(call, now)
    if step == DO_RECOVER and call.recovering_from is None:
        call.recovering_from = _failed_value(reason)
    elif step == DONE and PolicyState.on_end is not None and not call.is_copy:
        trace(call, now)
    return step


def _end(call: Call, outcomes: list[int], reason: str, what: int | None, now: float) -> Step | None:
    """Settle the guards, and count the call if it has ended; None if it is a parent process's."""
    if not _is_ours(call):
        call.counted = True
        return None
    call.settled = True
    step = _walk_out(call, outcomes, reason, now)
    if step == DONE:
        if call.is_copy:
            call.counted = True  # by the call that it is a copy of
        else:
            count(call, now, what)
    return step


_SOME: Final = 5e-324  # seconds: that a body was begun, where the clock stood still


def _is_ours(call: Call) -> bool:
    """Return whether a call belongs to this process, and not to the one that forked it."""
    call, since = call.original, call.core.counting_since
    if call.ours_since != since and not call.core.inherits(call.began):
        return False
    call.ours_since = since
    return True


def _settle_inside(call: Call, outcomes: list[int], reason: str, what: int) -> Step:
    """Ask the fallbacks of a call that has no tickets; the interrupted section counts it."""
    step = _walk_out(call, outcomes, reason, call.core.now())
    if step == DONE and call.is_copy:
        call.counted = True
    elif step == DONE:
        call.core.outbox.append(partial(_count_later, call, what))
    elif step == DO_RECOVER and call.recovering_from is None:
        call.recovering_from = _failed_value(reason)
    return step


def _count_later(call: Call, what: int) -> None:
    call.core.locked_or_later(count, call, call.core.now(), what)


def _walk_out(call: Call, outcomes: list[int], reason: str, now: float) -> Step:
    guards, reacts, tickets = call.pipeline.guards, call.pipeline.reacts, call.tickets
    retries, worker = call.pipeline.retries, call.abandoned
    asking = -1 if retries is None else retries[0]  # the level of the guard that asks again
    held = worker is not None and not worker.has_ended
    for level in range(call.level, call.floor, -1):
        ticket = tickets[level]
        if ticket is None and not reacts[level]:
            continue
        # If a timeout further out has expired, no time is left for what a guard inside wants.
        may_go_on = not (call.final or -1 < call.expired_level < level)
        if level == asking and ticket is not None:
            attempts.given_back(call, level, ticket, now)
            may_ask = may_go_on and outcomes[level] == FAILURE
            if may_ask and attempts.asks_again(call, level, ticket, now):
                return DO_PAUSE
        outcome, duration = outcomes[level], call.duration
        if outcome == REFUSED and call.ran:  # by the policy itself, which its body called again
            duration = duration or _SOME
        wish = guards[level].settle(ticket or 0, now, outcome, duration, reason, held)
        if worker is not None and held:
            worker.tickets[level] = ticket
        tickets[level] = None
        if wish == RECOVER and may_go_on and isinstance(guards[level], Answers):
            call.level = level
            call.recovering_from = call.error if isinstance(call.error, Exception) else None
            return DO_RECOVER
    return DONE


def _keep(call: Call, value: Any, outcomes: list[int], innermost: int) -> None:
    """Pass a good value to the guards that keep values, from a level outwards."""
    if call.final or call.lasted:  # nobody could be answered with it
        return
    pipeline = call.pipeline
    asked = asked_for(pipeline, call.fn, call.args, call.kwargs, call.core.now())
    for level, guard in pipeline.keepers:
        if call.floor < level <= innermost and outcomes[level] == SUCCESS:
            keep(pipeline, guard, value, asked)


def give_back_inside(call: Call, level: int) -> None:
    """Give back the tickets of the guards inside a level: the body will not run."""
    call.core.locked(_give_back_inside, call, level, call.core.now())


def _give_back_inside(call: Call, level: int, now: float) -> None:
    for inside in range(call.innermost, level, -1):
        ticket, call.tickets[inside] = call.tickets[inside], None
        if ticket is not None:
            attempts.given_back(call, inside, ticket, now)
            call.pipeline.guards[inside].settle(ticket, now, REFUSED, 0.0, "", False)


def tell_some(call: Call, which: Callable[[Guard], bool], outcomes: list[int], reason: str) -> None:
    """Settle some of the guards early; the others keep their tickets until the call ends."""
    room()
    if not call.core.holds_lock():  # else in a finalizer or signal handler: settled with the others
        call.core.locked(_tell_some, call, which, outcomes, reason, call.core.now())


def _tell_some(
    call: Call, which: Callable[[Guard], bool], outcomes: list[int], reason: str, now: float
) -> None:
    if not _is_ours(call):
        return
    for level in range(call.innermost, -1, -1):
        guard, ticket = call.pipeline.guards[level], call.tickets[level]
        if ticket is not None and which(guard):
            guard.settle(ticket, now, outcomes[level], call.duration, reason, False)
            call.tickets[level] = None


def enter(call: Call) -> Step:
    """Settle all guards but those that limit concurrency: a context manager is entered."""
    own, now = call.deadline, call.core.now()
    call.ran = True
    later = len(call.handle) > 1  # the time between the call and the entry is the caller's
    active = (call.active_seconds or 0.0) + now - call.handle[1] if later else now - call.started
    call.active_seconds = active
    call.is_late = own is not None and now >= own.when
    call.duration = float("inf") if call.is_late else active
    outcomes, reason = classify(call)
    call.outcome = outcomes[-1]
    tell_some(call, _holds_no_slot, outcomes, reason)
    call.settled = True
    return DONE


def _holds_no_slot(guard: Guard) -> bool:
    return not isinstance(guard, Slots)


def leave(call: Call) -> None:
    """Settle a call whose context manager is exited."""
    if call.counted:
        return
    call.level = call.innermost
    try:
        settle(call, [SUCCESS] * (len(call.tickets) + 1), "")
    except RecursionError:
        call.core.outbox.append(partial(_abort_later, call))


def abort(call: Call) -> None:
    """Give everything back after an exception in code that is not the body, such as a listener."""
    if call.counted:
        return
    call.error = None  # the call may have to wait for a shorter stack
    call.level = call.innermost
    if not call.settled:
        call.outcome = CANCELLED
    try:
        _abort(call)
    except RecursionError:
        call.core.outbox.append(partial(_abort_later, call))


def _abort_later(call: Call) -> None:
    """Give everything back, on a stack that is long enough."""
    if not call.counted:
        _abort(call)


def _abort(call: Call) -> None:
    settle(call, [CANCELLED] * (len(call.tickets) + 1), "", CALLER_GONE)


def give_back(pipeline: Pipeline, tickets: Any, started: float, call: Call | None) -> None:
    """End a call for whose end the stack was too short: it says nothing of the dependency."""
    room_for_call()
    if call is None:
        call = Call.entered(pipeline, pipeline.enter, (), {}, tickets, started, None)
    abort(call)
